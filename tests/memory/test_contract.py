"""What every memory system promises, tried on each: with a model that talks nonsense, with one that says nothing, and twice over."""

from __future__ import annotations

import json

import pytest

from baywindow import recipe, registry
from baywindow.memory.base import MemorySystem
from baywindow.memory.records import Record, Scope, Turn

NAMES = [card.name for card in registry.cards("memory")]
ANN, BOB = Scope("ann", session="monday"), Scope("bob")
SAID = [
    {"role": "user", "name": "Ann", "content": "I moved to Lisbon in March.", "said_at": "2024-05-01T09:00"},
    {"role": "assistant", "name": "Bay", "content": "How do you like Lisbon?", "said_at": "2024-05-01T09:01"},
    {"role": "user", "name": "Ann", "content": "Very much, but my cat Tom misses the garden.", "said_at": "2024-05-01T09:02"},
]
NOT_FROM_TALK = {"cipher", "standing_instructions"}  # they learn from edits of drafts, and from wishes
GARBAGE = ("", "I am sorry, I cannot do that.", '{"facts": [', '{"reasoning": 3}', "[[[[", "null", "yes " * 60)


@pytest.fixture(params=NAMES)
def system(request: pytest.FixtureRequest) -> MemorySystem:
    made = recipe.make(request.param, {})
    assert isinstance(made, MemorySystem)
    return made


@pytest.fixture
def nonsense(scripted):
    """A model that answers each call with the next kind of nonsense."""
    calls = iter(range(10**9))
    return scripted(lambda prompt: GARBAGE[next(calls) % len(GARBAGE)], context_length=4096)


def test_a_card_is_complete(system: MemorySystem) -> None:
    card = system.card
    assert card.room == "memory"
    assert card.claim
    assert set(card.needs) <= registry.NEEDS
    assert system.budget_of(8192) > 0
    assert recipe.parse(f"{card.name}(budget_tokens=300) > hybrid > stuff").outside[0].options()["budget_tokens"] == 300


def test_options_go_through_json(system: MemorySystem) -> None:
    again = recipe.make(system.card.name, json.loads(json.dumps(system.options())))
    assert again == system


def test_nonsense_of_the_model_never_loses_what_was_said(system, make_memory, nonsense) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    memory.add("And it rains.", ANN)
    assert [t.text for t in memory.list(Scope("ann"), said=True)] == [*(m["content"] for m in SAID), "And it rains."]
    said = {t.id for t in memory.list(Scope("ann"), said=True)}
    for one in memory.list(Scope("ann"), past=True):
        assert isinstance(one, Turn) or (one.turns and said.issuperset(one.turns))


@pytest.mark.parametrize("budget_tokens", [1, 12, 60, 400])
def test_what_is_recalled_fits_the_budget_and_can_be_traced(system, make_memory, nonsense, budget_tokens: int) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    shown = memory.recall("Where does Ann live?", ANN, budget_tokens)
    assert nonsense.count_tokens(shown.text) <= budget_tokens
    said = {t.id for t in memory.list(Scope("ann"), said=True)}
    for one in shown:
        assert one.turns
        assert said.issuperset(one.turns)
        assert one.text in shown.text or "remembered" in one.text


def test_something_is_recalled_when_there_is_room(system, make_memory, nonsense) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    assert memory.recall("Where does Ann live? In Lisbon?", ANN, 1000).items or system.card.name in NOT_FROM_TALK


def test_adding_twice_leaves_everything_as_it_was(system, make_memory, nonsense) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    before = memory.list(Scope("ann")), memory.list(Scope("ann"), said=True)
    assert memory.add(SAID, ANN).turns == ()
    current = [[one.text for one in found] for found in (memory.list(Scope("ann")), memory.list(Scope("ann"), said=True))]
    assert [sorted(texts) for texts in current] == [sorted(one.text for one in found) for found in before]


def test_no_other_user_is_ever_seen(system, make_memory, nonsense) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    memory.add("Bob hides gold in Lisbon.", BOB)
    for scope, others in ((BOB, "Tom"), (ANN, "gold"), (Scope("eve"), "Lisbon"), (Scope("ann", session="friday"), "Lisbon")):
        query = "Lisbon Tom gold"
        found = [*memory.search(query, scope), *memory.recall(query, scope, 500), *memory.list(scope, past=True)]
        assert not [one for one in found if others in one.text]
    for prompt in nonsense.prompts:
        text = " ".join(message.content for message in prompt)
        assert not ("Bob hides gold" in text and "Tom misses" in text)


def test_recalled_text_does_not_come_back_as_new(system, make_memory, nonsense) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    block = memory.recall("Lisbon", ANN, 500).text
    assert memory.add({"role": "assistant", "content": block}, ANN).turns == ()


def test_it_survives_being_closed_and_is_made_again_from_the_turns(system, make_memory, nonsense) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    memory.close()
    later = make_memory(system, model=nonsense)
    assert len(later.list(ANN, said=True)) == 3
    later.redo(Scope("ann"))
    assert len(later.list(ANN, said=True)) == 3
    assert all(isinstance(one, Record | Turn) for one in later.list(ANN))


def test_what_is_forgotten_is_in_no_answer(system, make_memory, nonsense) -> None:
    memory = make_memory(system, model=nonsense)
    memory.add(SAID, ANN)
    memory.forget(query="Lisbon", scope=Scope("ann"))
    found = [*memory.search("Lisbon", ANN, 10), *memory.recall("Lisbon", ANN, 500), *memory.list(Scope("ann"), past=True)]
    assert not [one for one in found if "Lisbon" in one.text]
