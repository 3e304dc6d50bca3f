"""Evidence of LoCoMo: turns as documents, labels, and the share of them that is found."""

from __future__ import annotations

import pytest

from baywindow.bench import find
from baywindow.bench.base import Turn
from baywindow.bench.tasks.locomo_evidence import DEPTH, evidence_of
from baywindow.documents.base import Document


@pytest.fixture
def samples(sets):
    def of(kind):
        return list(sets.task(f"locomo_evidence.{kind}").load(sets.folder / "locomo"))

    return of


def test_every_turn_is_a_document_with_who_and_when(samples):
    [sample] = samples("multi_hop")
    assert sample.documents[1] == Document(
        "Bo: Look at my fox! [shares a picture: a photo of a red fox]",
        "locomo/7/D1:2",
        metadata={"speaker": "Bo", "ref": "D1:2", "said_at": "2023-05-08T13:56:00+00:00", "session": "1"},
    )
    assert (sample.question, sample.gold, sample.metadata["document"]) == ("What does Bo do in his free time?", ("D2:1",), "7")


def test_a_question_without_evidence_is_left_out(sets, samples):
    for kind in ("multi_hop", "temporal", "open_domain", "single_hop"):
        assert all(sample.gold for sample in samples(kind))
    assert not [task for task in find.suites()["locomo_evidence"].tasks if "adversarial" in task.name]


def test_one_label_may_name_several_turns_or_none():
    known = {"D8:6", "D9:17", "D11:26", "D1:1"}
    assert evidence_of(["D8:6; D9:17", "D:11:26", "D8:6"], known) == (("D8:6", "D9:17", "D11:26"), ())
    assert evidence_of(["D", "D1:1", "D10:19"], known) == (("D1:1",), ("D", "D10:19"))


def test_recall_is_the_share_of_the_evidence_among_ten_finds():
    turn = Turn(question="q", gold=("D1:1", "D2:2", "D3:3", "D4:4"), scorer="evidence_recall")
    # the third find rests on two turns; the eleventh comes too late
    lines = ["D9:9", "D1:1", "D2:2 D3:3", *["D9:8"] * (DEPTH - 3), "D4:4"]
    assert find.score("\n".join(lines), turn) == 0.75
    assert find.score("\n".join(lines[1:]), turn) == 1.0
    assert find.score("", turn) == 0.0
