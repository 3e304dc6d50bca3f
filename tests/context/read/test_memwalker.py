"""`memwalker`: a tree of summaries, a walk that can turn back, and a working memory of what was passed."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.notes import ANSWER_NOTES_SYSTEM
from baywindow.context.read.memwalker import ANSWER_BOTH, MemWalker
from baywindow.context.read.memwalker.tree import GROUP_SYSTEM, SUMMARY_SYSTEM
from baywindow.context.read.memwalker.walk import CHOICE, CHOOSE_SYSTEM, LEAF_SYSTEM, VERDICT
from baywindow.context.read.stuff import Stuff
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

KINDS = {
    SUMMARY_SYSTEM: "summary",
    GROUP_SYSTEM: "group",
    CHOOSE_SYSTEM: "choose",
    LEAF_SYSTEM: "leaf",
    ANSWER_BOTH.rules: "answer",
    ANSWER_NOTES_SYSTEM: "notes",
}


def kind(prompt) -> str:
    return next((kind for rules, kind in KINDS.items() if prompt[0].content.startswith(rules)), "repair")


def segment(prompt) -> int:
    """The number of the segment that a prompt shows, counted from 1."""
    return int(re.search(r"segment (\d+)", prompt[-1].content)[1])


@pytest.fixture
def book(corpus):
    """Nine segments of two long lines; each line would not fit beside another segment's."""
    return corpus(book="\n".join(f"segment {1 + i // 2} line {i} " + "word " * 40 for i in range(18)))


def walker(**options) -> MemWalker:
    # Two lines of 44 words with 7 of fence and separation are one segment.
    return MemWalker(**{"segment_tokens": 105, "children": 3, "summary_tokens": 30, "max_new_tokens": 30, **options})


def choice(number, reasoning="likely") -> str:
    return json.dumps({"reasoning": reasoning, "choice": number})


def verdict(action, reasoning="seen") -> str:
    return json.dumps({"reasoning": reasoning, "action": action})


def summaries(prompt) -> str:
    if kind(prompt) == "summary":
        return f"tells of s{segment(prompt)}"
    return "tells of " + " and ".join(re.findall(r"s\d+", prompt[-1].content))


def test_the_tree_the_walk_back_and_the_answer(book, scripted):
    """Root 1 has nodes 1.1, 1.2, 1.3 of three segments each. The walk: 1.2, its segment 5, back, its segment 6 (listed second)."""
    steps = iter([choice(2, "the middle"), choice(2), verdict("back", "nothing of use in s5"), choice(2), verdict("answer", "it is here")])

    def reply(prompt):
        if kind(prompt) in ("summary", "group"):
            return summaries(prompt)
        return "It is six [11]" if kind(prompt) == "answer" else next(steps)

    model = scripted(reply, context_length=1500)
    assert walker().read(Run("Q?", book, model), None) == "It is six [11]"
    kinds = [kind(p) for p in model.prompts]
    assert kinds == [*["summary"] * 9, *["group"] * 3, "choose", "choose", "leaf", "choose", "leaf", "answer"]
    assert [segment(p) for p in model.prompts[:9]] == list(range(1, 10))
    assert [re.findall(r"s(\d)", p[-1].content) for p in model.prompts[9:12]] == [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]]
    root, inner, leaf, again, second, answer = (p[-1].content for p in model.prompts[12:])
    assert root == (
        "Part 1: tells of s1 and s2 and s3\nPart 2: tells of s4 and s5 and s6\nPart 3: tells of s7 and s8 and s9\n\n"
        f"Question: Q?\n\n{CHOICE.wording}"
    )
    assert inner == f"Part 1: tells of s4\nPart 2: tells of s5\nPart 3: tells of s6\n\nQuestion: Q?\n\n{CHOICE.wording}"
    memory = "Memory of what was seen before:\n1.2: tells of s4 and s5 and s6\n"
    assert "segment 5" in leaf
    assert leaf.endswith(f"</passage>\n\n{memory}\nQuestion: Q?\n\n{VERDICT.wording}")
    # Segment 5 is closed and not offered again; what was said of it is remembered.
    assert again == f"Part 1: tells of s4\nPart 2: tells of s6\n\n{memory}1.2.2: nothing of use in s5\n\nQuestion: Q?\n\n{CHOICE.wording}"
    assert "segment 6" in second
    assert "segment 6" in answer
    assert answer.endswith(f"{memory}1.2.2: nothing of use in s5\n\nQuestion: Q?\n{ANSWER_BOTH.form}")


def test_turning_back_at_a_node_closes_all_below_it(book, scripted):
    steps = iter([choice(1), choice(0), choice(1), choice(3), verdict("answer")])

    def reply(prompt):
        return summaries(prompt) if kind(prompt) in ("summary", "group") else "x" if kind(prompt) == "answer" else next(steps)

    model = scripted(reply, context_length=1500)
    walker().read(Run("Q?", book, model), None)
    third = model.prompts[14][-1].content
    assert third.startswith("Part 1: tells of s4 and s5 and s6\nPart 2: tells of s7 and s8 and s9\n\n")
    assert segment(model.prompts[-1]) == 6


def test_a_reply_that_cannot_be_read_goes_to_the_child_nearest_to_the_question(book, scripted):
    def reply(prompt):
        if kind(prompt) in ("summary", "group"):
            return summaries(prompt).replace("s8", "s8 the lighthouse")
        return {"leaf": "It is plain to see", "answer": "x"}.get(kind(prompt), "Part 77 or so")

    model = scripted(reply, context_length=1500)
    assert walker().read(Run("Who kept the lighthouse?", book, model), None) == "x"
    assert segment(model.prompts[-1]) == 8  # prose at a segment counts as an answer


def test_when_nothing_answers_every_segment_is_visited_once_and_the_walk_ends(book, scripted):
    def reply(prompt):
        return {"choose": choice(1), "leaf": verdict("back", ""), "notes": NOT_FOUND}.get(kind(prompt)) or summaries(prompt)

    model = scripted(reply, context_length=1500)
    run = Run("Q?", book, model)
    assert walker(max_steps=60).read(run, None) == NOT_FOUND
    assert [segment(p) for p in model.prompts if kind(p) == "leaf"] == list(range(1, 10))
    assert not any("max_steps" in note for note in run.notes)


def test_a_text_of_one_segment_needs_no_tree(corpus, scripted):
    model = scripted(["a summary", verdict("answer"), "x [1]"])
    assert MemWalker().read(Run("Q?", corpus(a="The fence is green."), model), None) == "x [1]"
    assert [kind(p) for p in model.prompts] == ["summary", "leaf", "answer"]


@pytest.mark.parametrize("remembers", [True, False])
def test_the_claim_in_miniature_with_its_memory_the_walk_joins_two_segments(corpus, scripted, remembers):
    lines = [f"segment {1 + i // 2} line {i} " + "word " * 40 for i in range(18)]
    lines[2], lines[15] = f"segment 2 Ada has a sister called Bo {'word ' * 37}", f"segment 8 Bo lives in Oslo {'word ' * 39}"
    book, question = corpus(story="\n".join(lines)), "Where does the sister of Ada live?"

    def reader(prompt) -> str:
        text = prompt[-1].content.partition("Question:")[0]
        facts = re.findall(r"Ada has a sister called Bo|Bo lives in Oslo", text)
        if kind(prompt) in ("summary", "group"):
            return ". ".join(facts) or "nothing much"
        if kind(prompt) == "choose":
            hops = [n for n, said in re.findall(r"Part (\d): ([^\n]*)", text) if "Bo" in said]
            return choice(int(hops[0]) if hops else 0)
        known = "sister called Bo" in text and "Bo lives in Oslo" in text
        if kind(prompt) == "leaf":
            return verdict("answer" if known else "back", ". ".join(facts))
        return "Oslo" if known else NOT_FOUND

    got = walker(remembers=remembers).read(Run(question, book, scripted(reader, context_length=1500)), None)
    assert got == ("Oslo" if remembers else NOT_FOUND)
    assert Stuff(max_new_tokens=30).read(Run(question, book, scripted(reader, context_length=400)), None) == NOT_FOUND


def test_old_memories_are_dropped_first_and_that_is_said(book, scripted):
    def reply(prompt):
        if kind(prompt) == "choose":
            return choice(1)
        return (
            {"leaf": verdict("back", f"said of s{segment(prompt)} " + "w " * 12)}.get(kind(prompt))
            if kind(prompt) == "leaf"
            else summaries(prompt)
        )

    model = scripted(reply, context_length=1500)
    run = Run("Q?", book, model)
    walker(max_steps=12, memory_tokens=40).read(run, None)
    last = [p[-1].content for p in model.prompts if kind(p) == "leaf"][-1]
    remembered = re.findall(r"said of s(\d)", last.partition("Memory")[2])
    assert remembered == sorted(remembered)
    assert "1" not in remembered
    assert any("entries of the memory did not fit" in note for note in run.notes)


def test_steps_calls_and_budget_are_capped_and_the_memory_is_answered_from(book, scripted):
    def reply(prompt):
        return {"choose": choice(1), "leaf": verdict("back", "some fact [1]"), "notes": "from memory"}.get(kind(prompt)) or summaries(
            prompt
        )

    run = Run("Q?", book, scripted(reply, context_length=1500))
    assert walker(max_steps=4).read(run, None) == "from memory"
    assert any("max_steps=4 was reached" in note for note in run.notes)
    model = scripted(reply, context_length=1500)
    run = Run("Q?", book, model)
    assert walker(max_calls=17).read(run, None) == "from memory"
    assert len(model.prompts) == 17
    assert any("max_calls=17 was reached" in note for note in run.notes)
    run = Run("Q?", book, scripted(reply, context_length=1500), meter=Meter(budget=Budget(tokens=2500)))
    assert isinstance(walker().read(run, None), str)
    assert run.meter.usage.tokens <= 2500


def test_passages_that_were_retrieved_are_read_in_the_order_of_the_text(book, scripted):
    model = scripted(lambda p: {"choose": choice(1), "leaf": verdict("answer"), "answer": "x"}.get(kind(p)) or summaries(p))
    walker().read(Run("Q?", book, model), list(book.passages())[:6][::-1])
    assert [segment(p) for p in model.prompts[:3]] == [1, 2, 3]


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    model = scripted(lambda p: {"choose": choice(1), "leaf": verdict("back", "boats")}.get(kind(p)) or "boats", context_length=700)
    walker(max_steps=40).read(Run("Who was the keeper?", planted, model), None)
    assert sum("HACKED" in p[-1].content for p in model.prompts) == 2  # summarised once, visited once
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"children": 1}, {"max_steps": 0}, {"segment_tokens": 1}, {"max_calls": 2}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        MemWalker(**option)
