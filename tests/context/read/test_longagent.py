"""`longagent`: a leader, members, and pairs of parts that are read together while replies contradict each other."""

from __future__ import annotations

import json
import random
import re
from difflib import SequenceMatcher

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.notes import ANSWER_NOTES_FORM, ANSWER_NOTES_SYSTEM
from baywindow.context.read.longagent import DECIDE_SYSTEM, DECISION, LEADER_SYSTEM, MEMBER, LongAgent
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

KINDS = {LEADER_SYSTEM: "leader", MEMBER.rules: "member", DECIDE_SYSTEM: "decide", ANSWER_NOTES_SYSTEM: "answer"}
ANSWER = json.dumps({"decision": "answer", "instruction": ""})


def kind(prompt) -> str:
    return next((kind for rules, kind in KINDS.items() if prompt[0].content.startswith(rules)), "repair")


def seen(prompt) -> set[int]:
    """The numbers of the lines that a prompt shows."""
    return {int(n) for n in re.findall(r"holds the word w(\d+) ", prompt[-1].content)}


def book_of(corpus, lines=40, **said):
    text = [f"line {i} holds the word w{i} and some more words to fill it" for i in range(lines)]
    for name, line in said.items():
        text[int(name[1:])] += " " + line
    return corpus(book="\n".join(text))


def small(**options) -> LongAgent:
    # Ten lines of 13 words with 7 of fence and separation are one part.
    return LongAgent(**{"part_tokens": 200, "reply_tokens": 30, "max_new_tokens": 30, **options})


def test_leader_members_decision_and_answer_follow_each_other(corpus, scripted):
    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "leader":
            return "Look for w7."
        if kind(prompt) == "member":
            return "w7 is in line 7 [8]" if "word w7 " in text else NOT_FOUND
        return ANSWER if kind(prompt) == "decide" else "In line 7. [8]"

    model = scripted(reply, context_length=1200)
    assert small().read(Run("where is w7", book_of(corpus), model), None) == "In line 7. [8]"
    assert [kind(p) for p in model.prompts] == ["leader", *["member"] * 4, "decide", "answer"]
    assert "<passage" not in model.prompts[0][-1].content
    members = model.prompts[1:5]
    assert [seen(p) for p in members] == [set(range(i, i + 10)) for i in (0, 10, 20, 30)]
    assert all("\n\nInstruction: Look for w7.\n\nQuestion: where is w7" in p[-1].content for p in members)
    assert model.prompts[5][-1].content == f"Replies:\nw7 is in line 7 [8]\n\nQuestion: where is w7\n\n{DECISION.wording}"
    assert model.prompts[6][-1].content == f"Notes:\nw7 is in line 7 [8]\n\nQuestion: where is w7\n{ANSWER_NOTES_FORM}"


def test_equal_replies_are_one_cluster_whatever_their_marks(corpus, scripted):
    def reply(prompt):
        if kind(prompt) == "member":
            return f"It is RED! [{min(seen(prompt)) + 1}]" if min(seen(prompt)) else "it is red [1]"
        return {"leader": "Look.", "decide": ANSWER, "answer": "red"}[kind(prompt)]

    model = scripted(reply, context_length=1200)
    small().read(Run("q", book_of(corpus), model), None)
    assert [kind(p) for p in model.prompts].count("member") == 4  # nothing to merge
    assert model.prompts[-1][-1].content.startswith("Notes:\nit is red [1]\n\n")


def settled_by_the_paper(first: dict[int, str], joint: dict[tuple[int, int], str]) -> list[str]:
    """Oracle: clusters in a dict by reply; a random member of the first two; unequal ones go, the merged reply joins the more similar."""
    clusters: dict[str, list[int]] = {}
    for i, said in first.items():
        if said != NOT_FOUND:
            clusters.setdefault(said, []).append(i)
    draw = random.Random(0)
    while len(clusters) >= 2:
        a, b, *_ = clusters
        i, j = draw.choice(clusters[a]), draw.choice(clusters[b])
        merged = joint[min(i, j), max(i, j)]
        members = {a: clusters[a], b: clusters[b]}
        for old in (a, b):
            if old != merged:
                del clusters[old]
        if merged not in (a, b):
            nearer = a if SequenceMatcher(None, a, merged).ratio() > SequenceMatcher(None, b, merged).ratio() else b
            clusters[merged] = members[nearer] if merged not in clusters else [*clusters[merged], *members[a], *members[b]]
    return list(clusters)


@pytest.mark.parametrize("seed", range(12))
def test_conflicts_are_settled_as_by_a_plain_reading_of_the_paper(corpus, scripted, seed):
    words = ["red house", "red horse", "blue house", "green tree"]
    rng = random.Random(seed)
    first = {i: rng.choice([*words, NOT_FOUND]) for i in range(6)}
    joint = {(i, j): rng.choice(words) for i in range(6) for j in range(6)}

    def part_numbers(prompt):
        return sorted({n // 10 for n in seen(prompt)})

    def reply(prompt):
        if kind(prompt) == "member":
            at = part_numbers(prompt)
            return f"{first[at[0]]} [1]" if len(at) == 1 else f"{joint[at[0], at[1]]} [1]"
        return {"leader": "Look.", "decide": ANSWER, "answer": "done"}[kind(prompt)]

    model = scripted(reply, context_length=1600)
    small(max_merges=20).read(Run("q", book_of(corpus, 60), model), None)
    said = next((p[-1].content for p in model.prompts if kind(p) == "decide"), "")
    assert re.findall(r"^(.*) \[1\]$", said, re.MULTILINE) == settled_by_the_paper(first, joint)


def test_a_merged_reply_that_finds_nothing_dissolves_both(corpus, scripted):
    def reply(prompt):
        if kind(prompt) == "member":
            return NOT_FOUND if len(seen(prompt)) > 10 else f"made up {min(seen(prompt))} [1]" if min(seen(prompt)) < 20 else NOT_FOUND
        return {"leader": "Look.", "decide": ANSWER, "answer": "x"}[kind(prompt)]

    assert small().read(Run("q", book_of(corpus), scripted(reply, context_length=1200)), None) == NOT_FOUND


def test_the_claim_in_miniature_two_readers_that_disagree_read_both_parts_and_the_true_one_wins(corpus, scripted):
    book = book_of(corpus, w2="They say Bo went to Rome once", w35="Bo lives in Oslo by the sea")

    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "member":
            if "Bo lives in Oslo" in text:
                return "Oslo [36]"
            return "Rome [3]" if "Rome" in text else NOT_FOUND  # made up: going there once is not living there
        if kind(prompt) == "answer":
            return re.findall(r"Oslo|Rome", text)[0]  # a leader that believes the first reply
        return "Find where Bo lives." if kind(prompt) == "leader" else ANSWER

    def answered(**options) -> str:
        return small(**options).read(Run("Where does Bo live?", book, scripted(reply, context_length=1200)), None)

    assert answered() == "Oslo"
    assert answered(max_merges=0) == "Rome"


def test_a_new_instruction_starts_another_round_that_sees_the_last_replies(corpus, scripted):
    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "member":
            if "Instruction: Now find w30." in text:
                return "w30 [31]" if "word w30 " in text else NOT_FOUND
            return "w7 [8]" if "word w7 " in text else NOT_FOUND
        if kind(prompt) == "decide":
            return ANSWER if "w30" in text else json.dumps({"decision": "instruct", "instruction": "Now find w30."})
        return {"leader": "Find w7.", "answer": "done"}[kind(prompt)]

    model = scripted(reply, context_length=1200)
    assert small().read(Run("q", book_of(corpus), model), None) == "done"
    assert [kind(p) for p in model.prompts] == ["leader", *["member"] * 4, "decide", *["member"] * 4, "decide", "answer"]
    second = model.prompts[6:10]
    assert all("Replies of the last round:\nw7 [8]\n\nInstruction: Now find w30." in p[-1].content for p in second)
    assert model.prompts[-1][-1].content.startswith("Notes:\nw30 [31]\n")


def test_rounds_end_at_their_number_and_a_repeated_instruction_ends_them_too(corpus, scripted):
    def run_with(instructions, rounds):
        said = iter(instructions)

        def reply(prompt):
            if kind(prompt) == "decide":
                return json.dumps({"decision": "instruct", "instruction": next(said)})
            return {"leader": "Find it.", "member": "x [1]", "answer": "done"}[kind(prompt)]

        model = scripted(reply, context_length=1200)
        assert small(rounds=rounds).read(Run("q", book_of(corpus, 10), model), None) == "done"
        return [kind(p) for p in model.prompts].count("member")

    assert run_with(["a", "b", "c", "d"], 3) == 3
    assert run_with(["Find it!"], 3) == 1


def test_without_instruction_the_question_stands_and_an_unreadable_decision_means_answer(corpus, scripted):
    def reply(prompt):
        return {"leader": NOT_FOUND, "member": "x [1]", "answer": "done"}.get(kind(prompt), "well, who knows")

    model = scripted(reply, context_length=1200)
    assert small().read(Run("q", book_of(corpus, 10), model), None) == "done"
    assert "Instruction:" not in model.prompts[1][-1].content
    assert [kind(p) for p in model.prompts] == ["leader", "member", "decide", "repair", "answer"]


def test_where_nobody_found_anything_the_question_itself_is_passed_on_once(corpus, scripted):
    found = {"any": False}

    def reply(prompt):
        if kind(prompt) == "member":
            return "x [1]" if found["any"] and "Instruction: q" in prompt[-1].content else NOT_FOUND
        return {"leader": "Look at the weather.", "decide": ANSWER, "answer": "done"}[kind(prompt)]

    model = scripted(reply, context_length=1200)
    assert small().read(Run("q", book_of(corpus, 10), model), None) == NOT_FOUND
    assert [kind(p) for p in model.prompts] == ["leader", "member", "decide", "member", "decide"]
    found["any"] = True
    assert small().read(Run("q", book_of(corpus, 10), model), None) == "done"


def test_at_the_caps_and_at_the_end_of_the_budget_it_answers_from_the_replies(corpus, scripted):
    def reply(prompt):
        if kind(prompt) == "member":
            return f"x{min(seen(prompt))} {len(seen(prompt))} [1]"
        return {"leader": "Find it.", "decide": ANSWER, "answer": "done"}[kind(prompt)]

    model = scripted(reply, context_length=1200)
    run = Run("q", book_of(corpus), model)
    assert small(max_calls=4).read(run, None) == "done"
    assert [kind(p) for p in model.prompts] == ["leader", "member", "member", "answer"]
    assert any("max_calls=4" in note for note in run.notes)
    run = Run("q", book_of(corpus), scripted(reply, context_length=1200))
    small(max_merges=1).read(run, None)
    assert any("max_merges=1 was reached" in note for note in run.notes)
    run = Run("q", book_of(corpus), scripted(reply, context_length=1200), meter=Meter(budget=Budget(tokens=1500)))
    assert small().read(run, None) == "done"
    assert run.meter.usage.tokens <= 1500


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    def reply(prompt):
        if kind(prompt) == "member":
            n = re.search(r"\[(\d+)\]", prompt[-1].content)[1]
            return f"Osric {n} [21]" if n in "1 12 21" else NOT_FOUND
        return {"leader": "Find it.", "decide": ANSWER, "answer": "done"}[kind(prompt)]

    model = scripted(reply, context_length=700)
    small().read(Run("Who was the keeper?", planted, model), None)
    assert any("HACKED" in p[-1].content for p in model.prompts)
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"rounds": 0}, {"reply_tokens": 1}, {"max_merges": -1}, {"max_calls": 1}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        LongAgent(**option)
