"""LongMemEval: sessions in order of their dates, one rubric a type."""

from __future__ import annotations

import json

import pytest

from baywindow.bench import find
from baywindow.bench._rubrics import RUBRICS
from baywindow.bench.judge import Judge
from baywindow.bench.referees import refereeing, usable
from baywindow.bench.tasks import longmemeval
from baywindow.errors import SourceError


def test_sessions_stand_in_order_of_their_dates_and_do_not_tell_where_the_evidence_is(sets):
    sample = sets.samples("longmemeval.oracle")[0]
    assert [d.source for d in sample.documents] == ["longmemeval/q1/s1", "longmemeval/q1/s2"]
    assert sample.documents[0].text == (
        "### Session 1:\nSession date: 2023/05/20 (Sat) 02:21\nSession content:\n\nuser: I live in Vell.\n\nassistant: A fine town."
    )
    assert "has_answer" not in sample.prompt
    assert sample.question == "Current date: 2023/05/30 (Tue) 23:40\nQuestion: Where do I live?"
    assert sample.metadata["evidence"] == ["s1", "s2"]


def test_every_type_has_its_rubric_and_a_question_without_an_answer_has_another(sets):
    assert set(longmemeval.RUBRICS.values()) <= set(RUBRICS)
    assert [s.metadata["rubric"] for s in sets.samples("longmemeval.oracle")] == ["updated", "temporal", "abstains", "preference"]
    assert [s.gold for s in sets.samples("longmemeval.oracle")][1] == ("2",)  # a number in the file


def test_the_judge_is_shown_question_answer_and_reply_alone(sets, scripted):
    sample = sets.samples("longmemeval.oracle")[0]
    model = scripted(["yes"])
    with refereeing(judge=Judge(model)):
        assert find.score("In Kross, since May.", sample.asked[0]) == 1.0
    shown = json.loads(model.prompts[0][-1].content)
    assert (shown["question"], shown["answer"], shown["reply"]) == ("Where do I live?", "Kross", "In Kross, since May.")
    assert shown["task"].startswith(RUBRICS["updated"].question)


def test_without_a_judge_the_scores_of_words_are_left(sets):
    assert usable(sets.samples("longmemeval.oracle")[0].asked[0]) == ("token_f1", "token_recall", "includes_any")


def test_unknown_types_and_uneven_sessions_are_errors(sets, tmp_path):
    row = json.loads((sets.folder / "longmemeval" / "longmemeval_oracle.json").read_text())[0]
    (tmp_path / "longmemeval_oracle.json").write_text(json.dumps([{**row, "question_type": "riddle"}]))
    with pytest.raises(SourceError, match="no question type is called 'riddle'"):
        list(sets.task("longmemeval.oracle").load(tmp_path))
    (tmp_path / "longmemeval_oracle.json").write_text(json.dumps([{**row, "haystack_dates": []}]))
    with pytest.raises(SourceError, match="0 dates, 2 ids, 2 sessions"):
        list(sets.task("longmemeval.oracle").load(tmp_path))


def test_the_earlier_file_names_are_read_too(sets, tmp_path):
    text = (sets.folder / "longmemeval" / "longmemeval_oracle.json").read_text()
    (tmp_path / "longmemeval_s.json").write_text(text)
    assert len(list(sets.task("longmemeval.s").load(tmp_path))) == 4
