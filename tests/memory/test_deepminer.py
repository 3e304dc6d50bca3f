"""DeepMiner: old tool outputs left out, everything else kept, and the sequences that training needs."""

from __future__ import annotations

import pytest

from baywindow.errors import ConfigError
from baywindow.memory.deepminer import LEFT_OUT, DeepMiner

from .talking import Talk


def task(rounds: int) -> list[dict]:
    """A question, then rounds of a call and its response, then the answer."""
    made: list[dict] = [{"role": "user", "content": "Who?"}]
    for n in range(1, rounds + 1):
        made.append({"role": "assistant", "content": f"thought {n}", "tool_calls": [{"id": f"c{n}"}]})
        made.append({"role": "tool", "content": f"page {n}", "tool_call_id": f"c{n}"})
    return [*made, {"role": "assistant", "content": "It was Ada."}]


def outputs(messages) -> list[str]:
    return [m["content"] for m in messages if m["role"] == "tool"]


def slow(window: int, slide: int, responses: int) -> int:
    """Left out, one response after the other."""
    out = live = 0
    for _ in range(responses):
        if live == window:
            out, live = out + slide, live - slide
        live += 1
    return out


def test_the_window_of_the_figure_slides_by_two():
    system = DeepMiner(window=3, slide=2)
    assert [system.left_out(n) for n in range(9)] == [0, 0, 0, 0, 2, 2, 4, 4, 6]
    assert outputs(system.messages(task(4))) == [LEFT_OUT, LEFT_OUT, "page 3", "page 4"]


@pytest.mark.parametrize(("window", "slide"), [(1, 1), (3, 1), (3, 2), (3, 3), (5, 4)])
def test_what_is_left_out_agrees_with_a_loop(window, slide):
    system = DeepMiner(window=window, slide=slide)
    assert [system.left_out(n) for n in range(30)] == [slow(window, slide, n) for n in range(30)]
    assert all(window - slide < n - system.left_out(n) <= window for n in range(window + 1, 30))


def test_the_agents_own_words_and_every_pair_of_call_and_response_stay():
    sent = task(7)
    view = DeepMiner().messages(sent)
    assert [m for m in view if m["role"] != "tool"] == [m for m in sent if m["role"] != "tool"]
    assert [m.get("tool_call_id") for m in view] == [m.get("tool_call_id") for m in sent]
    assert sent == task(7)  # what was given is not changed


def test_the_beginning_changes_only_when_it_slides():
    system, changes = DeepMiner(window=4, slide=3), 0
    for n in range(1, 20):
        before, after = system.messages(task(n)[:-1]), system.messages(task(n + 1)[:-1])
        changes += after[: len(before)] != before
    assert changes == 6  # at the responses 5, 8, 11, 14, 17 and 20


@pytest.mark.parametrize(("window", "slide"), [(1, 1), (3, 2), (4, 3), (50, 1)])
@pytest.mark.parametrize("rounds", [0, 1, 5, 12])
def test_every_reply_is_trained_once_and_under_the_context_that_made_it(window, slide, rounds):
    system, sent = DeepMiner(window=window, slide=slide), task(rounds)
    sequences = system.trajectories(sent)
    trained = [at for sequence in sequences for at in sequence.replies]
    assert trained == [at for at, message in enumerate(sent) if message["role"] == "assistant"]
    for sequence in sequences:
        for at in sequence.replies:
            assert list(sequence.messages[:at]) == system.messages(sent[:at])


def test_a_task_without_a_reply_trains_nothing():
    assert DeepMiner().trajectories([{"role": "user", "content": "Who?"}]) == []


def test_a_recall_shows_the_task_with_old_outputs_left_out_and_a_search_finds_them():
    talk = Talk(DeepMiner(window=1, slide=1))
    for role, text in (
        ("user", "Who wrote it?"),
        ("assistant", "I search."),
        ("tool", "Page on Ada."),
        ("assistant", "More."),
        ("tool", "Bob."),
    ):
        talk.add(text, role=role, name="")
    assert talk.recall("?") == ["user: Who wrote it?", "assistant: I search.", f"tool: {LEFT_OUT}", "assistant: More.", "tool: Bob."]
    assert talk.search("Ada page", k=1) == ["tool: Page on Ada."]
    assert talk.recall("?", budget_tokens=48) == ["assistant: More.", "tool: Bob."]


@pytest.mark.parametrize("wrong", [{"window": 0}, {"slide": 0}, {"slide": 4}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DeepMiner(**wrong)
