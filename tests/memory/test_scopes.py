"""Scopes: nothing of another's is ever seen, whatever was said by whom, in whichever order. By property, against a plain list."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baywindow.errors import ConfigError
from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope, common_scope

USERS, AGENTS, SESSIONS = ("ann", "bob", "ann "), ("", "a", "b"), ("", "1", "2")
WORDS = ("tea", "rain", "cat", "gold")

stored = st.builds(Scope, st.sampled_from(USERS), st.sampled_from(AGENTS), st.sampled_from(SESSIONS))
asked = st.builds(Scope, st.sampled_from(USERS), st.sampled_from((None, *AGENTS)), st.sampled_from((None, *SESSIONS)))
said = st.lists(st.tuples(stored, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)), min_size=1, max_size=12)


def oracle(scope: Scope, other: Scope) -> bool:
    """Written from the words of the docs: the same user, and where an agent or session is named, that one."""
    if scope.user != other.user:
        return False
    if scope.agent is not None and scope.agent != other.agent:
        return False
    return scope.session is None or scope.session == other.session


numbers = itertools.count()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=said, scope=asked, word=st.sampled_from(WORDS))
def test_every_call_sees_exactly_what_its_scope_may(make_memory, tmp_path, said, scope: Scope, word: str) -> None:
    # One store for all examples, so that each also meets what earlier ones left; users get a number to be new in it.
    number = next(numbers)
    memory, listener = _shared(make_memory)
    own = [(replace(whose, user=f"{whose.user}{number}"), f"{text} n{at}") for at, (whose, text) in enumerate(said)]
    scope = replace(scope, user=f"{scope.user}{number}")
    for whose, text in own:
        listener.add({"role": "user", "content": text}, whose)
    allowed = {text for whose, text in own if oracle(scope, whose)}
    assert {t.text for t in memory.list(scope)} == allowed
    found = {one.text.removeprefix("user: ") for one in memory.search(word, scope, 50)}
    assert found <= allowed
    assert {text for text in allowed if word in text.split()} <= found
    assert {one.text.removeprefix("user: ") for one in memory.recall(word, scope, 10_000)} <= allowed
    memory.export(tmp_path / "x.jsonl", scope)
    exported = (tmp_path / "x.jsonl").read_text()
    assert {text for _, text in own if f'"{text}"' in exported} == allowed
    assert len(memory.forget(query=word, scope=scope).turns) == len([text for text in allowed if word in text])
    assert {t.text for whose in {w.user for w, _ in own} for t in memory.list(Scope(whose))} == {
        text for whose, text in own if not (oracle(scope, whose) and word in text)
    }


def _shared(make_memory) -> tuple[Memory, Memory]:
    """One store: looked at with vectors, talked to without, so that they are made at once."""
    if not hasattr(make_memory, "shared"):
        make_memory.shared = make_memory(), make_memory("turn_retrieval(by='words')")
    return make_memory.shared


def test_what_others_say_changes_no_score(make_memory) -> None:
    memory = make_memory("turn_retrieval(by='words')")
    memory.add(["tea is hot", "tea and milk", "rain is wet"], Scope("ann"))
    alone = memory.search("tea milk", Scope("ann"))
    memory.add([f"tea milk number {n}" for n in range(20)], Scope("bob"))
    assert memory.search("tea milk", Scope("ann")) == alone


@given(first=asked, second=stored)
def test_sees_is_what_the_docs_say(first: Scope, second: Scope) -> None:
    assert first.sees(second) == oracle(first, second)
    assert second.home.sees(second)


@given(st.lists(stored, min_size=1, max_size=5))
def test_a_memory_of_several_turns_is_seen_only_where_all_of_them_are(scopes: list[Scope]) -> None:
    if len({s.user for s in scopes}) > 1:
        with pytest.raises(ConfigError, match="several users"):
            common_scope(scopes)
        return
    common = common_scope(scopes)
    for agent in (None, *AGENTS):
        for session in (None, *SESSIONS):
            asking = Scope(scopes[0].user, agent, session)
            if asking.sees(common):
                assert all(asking.sees(one) for one in scopes)


@pytest.mark.parametrize("wrong", [{"user": ""}, {"user": "a\0b"}, {"agent": "x" * 201}, {"session": 3}])
def test_a_scope_that_is_none_is_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Scope(**wrong)
