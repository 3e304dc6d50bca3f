"""`chain_of_agents`: one message travels from worker to worker; the manager sees only the last one."""

from __future__ import annotations

import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.read.chain_of_agents import NO_MESSAGE, WORKER, ChainOfAgents
from baywindow.context.read.rag import Rag
from baywindow.context.read.stuff import Stuff
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError


def chain_corpus(corpus, lines=60):
    """Two facts far apart that must be put together: Ada's sister is Bo (line 3), Bo lives in Oslo (line 55)."""
    text = [f"filler line {i} says nothing of use at all today" for i in range(lines)]
    text[3], text[55] = "Ada has a sister called Bo", "Bo lives in Oslo by the sea"
    return corpus(story="\n".join(text))


def is_worker(prompt) -> bool:
    return prompt[0].content.startswith(WORKER.rules)


def careful_worker(prompt) -> str:
    """A perfect small reader: keeps what it was told and adds what its own chunk says."""
    text = prompt[-1].content
    if not is_worker(prompt):
        return "Oslo" if "Bo" in text and "Oslo" in text and "sister" in text else NOT_FOUND
    facts = re.findall(r"Ada has a sister called Bo|Bo lives in Oslo", text)
    return ". ".join(dict.fromkeys(facts)) or NOT_FOUND


def test_messages_replace_each_other_and_the_manager_sees_only_the_last(corpus, scripted):
    replies = iter(f"message {i}" for i in range(100))
    model = scripted(lambda p: next(replies) if is_worker(p) else "the answer", context_length=400)
    reader = ChainOfAgents(window_tokens=400, message_tokens=40, max_new_tokens=40)
    assert reader.read(Run("q", chain_corpus(corpus), model), None) == "the answer"
    workers = [p[-1].content for p in model.prompts if is_worker(p)]
    assert workers[0].startswith(f"Previous message: {NO_MESSAGE}\n")
    for i, text in enumerate(workers[1:]):
        assert text.startswith(f"Previous message: message {i}\n")
        assert f"message {i - 1}\n" not in text
    manager = model.prompts[-1][-1].content
    assert f"message {len(workers) - 1}" in manager
    assert f"message {len(workers) - 2}" not in manager
    assert "<passage" not in manager


def test_every_line_reaches_exactly_one_worker_in_order_and_no_call_exceeds_the_window(corpus, scripted):
    # The scripted model itself asserts that no call exceeds its window, also with a full previous message.
    model = scripted(lambda p: "m " * 40 if is_worker(p) else "a", context_length=400)
    ChainOfAgents(window_tokens=400, message_tokens=40, max_new_tokens=40).read(Run("q", chain_corpus(corpus), model), None)
    seen = [int(n) for p in model.prompts for n in re.findall(r"filler line (\d+) ", p[-1].content)]
    assert seen == [i for i in range(60) if i not in (3, 55)]


def test_a_worker_that_finds_nothing_passes_the_old_message_on(corpus, scripted):
    replies = iter(["Bo is her sister [4]", NOT_FOUND, "NOT FOUND."])
    model = scripted(lambda p: next(replies, NOT_FOUND) if is_worker(p) else "a", context_length=400)
    ChainOfAgents(window_tokens=400, message_tokens=40, max_new_tokens=40).read(Run("q", chain_corpus(corpus), model), None)
    assert "Bo is her sister [4]" in model.prompts[-1][-1].content


def test_the_claim_in_miniature_two_facts_far_apart_are_joined_where_truncation_and_top_k_fail(corpus, scripted):
    book = chain_corpus(corpus)
    question = "Where does the sister of Ada live?"
    chain = scripted(careful_worker, context_length=400)
    assert ChainOfAgents(window_tokens=400, message_tokens=40, max_new_tokens=40).read(Run(question, book, chain), None) == "Oslo"

    def honest_reader(prompt) -> str:
        text = prompt[-1].content
        return "Oslo" if "sister called Bo" in text and "Bo lives in Oslo" in text else NOT_FOUND

    assert Stuff(max_new_tokens=40).read(Run(question, book, scripted(honest_reader, context_length=400)), None) == NOT_FOUND
    best = book.full_text(question, 1)
    assert Rag(k=1, max_new_tokens=40).read(Run(question, book, scripted(honest_reader, context_length=400)), best) == NOT_FOUND


def test_when_the_budget_ends_the_manager_still_answers_from_the_last_message(corpus, scripted):
    model = scripted(lambda p: "Bo is her sister" if is_worker(p) else "the answer", context_length=400)
    run = Run("q", chain_corpus(corpus), model, meter=Meter(budget=Budget(tokens=900)))
    assert ChainOfAgents(window_tokens=400, message_tokens=40, max_new_tokens=40).read(run, None) == "the answer"
    assert any("chunks were not read" in note for note in run.notes)
    assert run.meter.usage.tokens <= 900


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="message_tokens"):
        ChainOfAgents(message_tokens=1)
