"""LoCoMo: sessions with their dates, five categories, two forms of the file, and the real conversations."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from baywindow.bench import find
from baywindow.bench.base import Turn
from baywindow.bench.tasks import locomo
from baywindow.errors import SourceError

CATEGORIES = {"multi_hop": 1, "temporal": 2, "open_domain": 3, "single_hop": 4, "adversarial": 5}


def turn(*gold):
    return Turn(question="q", gold=gold, scorer="any")


def test_a_session_is_a_document_with_its_date_and_pictures_told_in_words(sets):
    [sample] = sets.samples("locomo.single_hop")
    first, second = sample.documents
    assert first.text == (
        "DATE: 1:56 pm on 8 May, 2023\nCONVERSATION:\n"
        'Ida said, "I went to the harbour yesterday."\n'
        'Bo said, "Look at my fox!" and shared a photo of a red fox.'
    )
    assert (second.source, sample.metadata["document"]) == ("locomo/7/session_2", "7")
    assert "Ida and Bo" in sample.instruction
    assert (sample.answer_prefix, sample.max_new_tokens, sample.metadata["evidence"]) == ("Short answer:", 32, ["D1:2"])


def test_temporal_questions_ask_for_the_conversations_date(sets):
    [sample] = sets.samples("locomo.temporal")
    assert "DATE" in sample.question
    assert sample.metadata["question"] == "When did Ida go to the harbour?"


def test_an_open_answer_ends_before_its_reason(sets):
    assert sets.samples("locomo.open_domain")[0].gold == ("Likely yes",)


def test_f1_is_of_stems_without_and():
    # Said: paint fox(es) -> paint fox; gold: a painted fox and a dog -> paint fox dog. Common 2; P = 1, R = 2/3, F = 4/5.
    assert locomo.locomo_f1("painting, foxes", turn("a painted fox and a dog")) == pytest.approx(0.8)


def test_several_facts_are_scored_part_by_part(sets):
    asked = sets.samples("locomo.multi_hop")[0].asked[0]  # chess, painting
    assert find.score("He paints, plays chess", asked) == pytest.approx((2 / 3 + 2 / 3) / 2)  # "plays chess": P 1/2, R 1; "He paints" too
    assert find.score("chess", asked) == 0.5


def test_an_adversarial_question_offers_its_trap_in_an_order_of_its_own(sets):
    one, two = sets.samples("locomo.adversarial")
    asked = one.asked[0]
    right = next(g for g in one.gold if g in ("(a)", "(b)"))
    wrong = {"(a)": "(b)", "(b)": "(a)"}[right]
    assert f"{right} Not mentioned in the conversation" in one.question
    assert f"{wrong} a ship" in one.question
    assert [
        find.score(r, asked) for r in (right, right[1], f"{right} Not mentioned", "It is not mentioned.", "No information available")
    ] == [1.0] * 5
    assert [find.score(r, asked) for r in (wrong, f"{wrong[1]}) a ship", "a ship")] == [0.0] * 3
    assert {"(a)", "(b)"} <= set(two.gold)  # the trap itself says that nothing is mentioned
    assert one == sets.samples("locomo.adversarial")[0]


def test_the_published_list_gives_the_same_questions(sets):
    for name in CATEGORIES:
        one, other = sets.samples(f"locomo.{name}"), sets.samples(f"locomo.{name}", "locomo_list")
        assert [s.context for s in one] == [s.context for s in other]
        assert [s.metadata["question"] for s in one] == [s.metadata["question"] for s in other]
    assert other[0].metadata["document"] == "conv-7"


def test_one_file_may_be_named(sets):
    assert list(sets.task("locomo.temporal").load(sets.folder / "locomo" / "7.json")) == sets.samples("locomo.temporal")


def test_a_file_without_sessions_says_so(sets, tmp_path):
    (tmp_path / "1.json").write_text('{"qa": [{"question": "q", "category": 1, "answer": "a"}]}')
    with pytest.raises(SourceError, match="no session_1"):
        list(sets.task("locomo.multi_hop").load(tmp_path))


def test_the_real_conversations(sets):
    folder = sets.shared("locomo")
    files = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
    asked = Counter(q["category"] for talk in files for q in talk["qa"])
    assert len(files) == 5
    for name, category in CATEGORIES.items():
        made = list(sets.task(f"locomo.{name}").load(folder))
        assert len(made) == asked[category] > 0
        assert {s.metadata["document"] for s in made} <= {"26", "30", "41", "42", "43"}
        assert all(sets.perfect(s.asked[0]) == pytest.approx(1.0) for s in made)
        assert sum(find.score("zzz", s.asked[0]) for s in made) == 0
    [first] = [s for s in made if s.metadata["document"] == "26"][:1]
    talk = files[0]
    assert len(first.documents) == sum(bool(talk[k]) for k in talk if k.startswith("session_") and isinstance(talk[k], list))
    turns = [t["text"] for k in talk if k.startswith("session_") and isinstance(talk[k], list) for t in talk[k]]
    assert all(text in first.context for text in turns)
