"""HELMET: seven categories, demonstrations, rankings, labels, and the mean of means."""

from __future__ import annotations

import json
import math
import random

import pytest

from baywindow.bench import find
from baywindow.bench.base import Turn
from baywindow.bench.tasks import helmet
from baywindow.bench.tasks._loading import Row
from baywindow.bench.tasks.helmet import _demos, _scores
from baywindow.bench.tasks.helmet._tables import CATEGORIES, LEVELS, PARTS
from baywindow.errors import ConfigError, SourceError


def turn(*gold, **metadata):
    return Turn(question="q", gold=gold, scorer="any", metadata=metadata)


def test_twenty_one_tasks_at_five_lengths():
    names = {name for names in CATEGORIES.values() for name in names}
    assert len(names) == 21
    assert {p.name for p in PARTS} == {f"{name}_{level}" for name in names for level in LEVELS}
    assert [p.count for p in PARTS if p.name.startswith("nq_")] == [50, 105, 220, 440, 1000]
    assert [p.context_tokens for p in PARTS if p.name.startswith("infbench_sum")] == [6792, 14984, 31368, 64136, 129672]


def test_retrieved_passages_are_documents_and_demonstrations_stand_before_them(sets):
    [sample] = sets.samples("helmet.nq_8k")
    assert sample.documents[0].text == "Document (Title: Vell): The harbour of Vell was dug by Ida Brandt."
    assert sample.metadata["shots"] == 2
    assert sample.instruction.count("Answer: Digger") == 2
    assert sample.question == "Question: Who dug the harbour of Vell?"
    assert find.score("Answer: It was ida brandt.", sample.asked[0]) == 1.0
    assert find.score("Answer: Bo", sample.asked[0]) == 0.0


def test_the_test_file_alone_gives_samples_without_demonstrations(sets):
    path = sets.folder / "helmet" / "kilt" / "nq-dev-multikilt_1000_k50_dep6.jsonl"
    [sample] = sets.task("helmet.nq_8k").load(path)
    assert sample.metadata["shots"] == 0


def test_popular_things_are_left_out_and_a_question_is_not_its_own_demonstration(sets):
    [sample] = sets.samples("helmet.popqa_8k")  # the other has 1000 views a month
    assert "harbour of Vell" not in sample.instruction


def test_needles_are_all_wanted(sets):
    [sample] = sets.samples("helmet.niah_mv_8k")
    assert find.score("12345", sample.asked[0]) == 0.5
    assert sample.question == "What are all the special magic numbers for red-fox in the text?"


def test_ndcg_of_a_worked_example():
    grades = {"11": 0, "12": 2, "13": 1}
    # Best: 2/log2(2) + 1/log2(3). Ranked 13 > 11 > 12: 1 + 0 + 2/log2(4) = 2.
    asked = turn("12 > 13 > 11", relevance=grades)
    assert _scores.helmet_ndcg10("Ranking: 13 > 11 > 12", asked) == pytest.approx(2 / (2 + 1 / math.log2(3)))
    assert _scores.helmet_ndcg10("Ranking: [ID: 12] > [ID: 13]", asked) == 1.0
    assert _scores.helmet_ndcg10("I cannot rank them", asked) == 0.0
    assert _scores.ranked("Of 3: 12 > 12 > 13") == ["12", "13"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ndcg_counts_the_first_ten_and_nothing_that_is_unknown(seed):
    rng = random.Random(seed)
    grades = {str(i): rng.choice([0, 1, 2, 3]) for i in range(20)}
    order = [*grades, "99"]
    rng.shuffle(order)
    gained = sum(grades.get(d, 0) / math.log2(i + 2) for i, d in enumerate(order) if i < 10)
    ideal = sum(g / math.log2(i + 2) for i, g in enumerate(sorted(grades.values(), reverse=True)[:10]))
    assert _scores.ndcg(order, grades, 10) == pytest.approx(gained / ideal)


def test_labels_are_numbers_drawn_for_each_text_and_examples_are_balanced(sets):
    one, _ = sets.samples("helmet.trec_coarse_8k")
    assert one.context.count("label: ") == 400
    assert {one.context.count(f"\nlabel: {n}\n") + one.context.endswith(f"\nlabel: {n}") for n in range(3)} == {133, 134}
    assert one.gold[0] in "012"
    assert find.score(f"label: {one.gold[0]}", one.asked[0]) == 1.0
    assert find.score(f"label: {(int(one.gold[0]) + 1) % 3}", one.asked[0]) == 0.0
    assert f"fox 0\nlabel: {one.gold[0]}" in one.context


def test_every_round_of_examples_has_every_label_once():
    rows = [Row({"text": f"{label}{i}", "label": label}, "x") for label in "abc" for i in range(2)]
    drawn = [r.text("label") for r in _demos.balanced(rows, 9, random.Random(1))]
    assert all(sorted(drawn[i : i + 3]) == ["a", "b", "c"] for i in (0, 3, 6))  # the third round repeats rows
    assert _demos.balanced([], 5, random.Random(1)) == []


def test_a_label_without_examples_says_what_to_give(sets, tmp_path):
    (tmp_path / "nlu").mkdir()
    (tmp_path / "nlu" / "test.jsonl").write_text('{"text": "x", "label": "y"}')
    with pytest.raises(SourceError, match="no example has the label 'y'"):
        list(sets.task("helmet.nlu_8k").load(tmp_path))


def test_citations_have_their_passages_and_demonstrations(sets):
    [asqa] = sets.samples("helmet.alce_asqa_8k")
    assert len(asqa.documents) == len(asqa.metadata["passages"]) == 30
    assert asqa.metadata["passages"][0] == "Title: Vell\nIda Brandt dug it."
    assert asqa.instruction.count("So it is [1].") == 2
    assert find.score("Vell by Brandt [1].", asqa.asked[0]) == 0.5
    [listing] = sets.samples("helmet.alce_qampari_8k")
    assert listing.metadata["items"] is True
    assert find.score("Vell harbour [1], Kross [2].", listing.asked[0]) == 1.0


def test_choices_and_short_answers_are_read_from_their_line(sets):
    [choice] = sets.samples("helmet.infbench_choice_8k")
    assert choice.gold == ("B", "B. Maren")
    assert [find.score(r, choice.asked[0]) for r in ("Answer: B", "B. Maren", "(B)", "Answer: A", "Because")] == [1.0, 1.0, 1.0, 0.0, 0.0]
    [short] = sets.samples("helmet.infbench_qa_8k")
    assert find.score("Answer: Maren\nQuestion: and so on", short.asked[0]) == 1.0


def test_long_texts_say_where_they_are_to_be_cut(sets):
    [sample] = sets.samples("helmet.narrativeqa_8k")
    assert (sample.metadata["context_tokens"], sample.metadata["cut"]) == (7892, "end")
    assert sample.gold == ("Maren", "the keeper")
    assert len(sets.samples("helmet.multi_lexsum_8k")) == 1  # a case without a short summary is left out


def test_demonstrations_of_long_texts_are_other_records_without_their_texts(sets, tmp_path):
    rows = [{"context": f"Book {i}.", "input": f"Who is {i}?", "answer": [f"Person {i}"]} for i in range(4)]
    (tmp_path / "longbook_qa_eng.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = list(sets.task("helmet.infbench_qa_8k").load(tmp_path))
    assert len(made) == 4
    for i, sample in enumerate(made):
        assert sample.metadata["shots"] == sample.instruction.count("[the text]\nQuestion: Who is ") == 2
        assert f"Person {i}" not in sample.instruction
        assert sample.context == f"Book {i}."
    [alone] = sets.samples("helmet.infbench_qa_8k")
    assert alone.metadata["shots"] == 0


def test_the_overall_score_is_the_mean_of_seven_means():
    scores = {f"helmet.{name}_8k": 1.0 for names in CATEGORIES.values() for name in names}
    scores["helmet.nq_8k"] = 0.0  # one of four
    found = helmet.overall(scores, "8k")
    assert found["passages"] == 0.75
    assert found["overall"] == pytest.approx((6 + 0.75) / 7)
    del scores["helmet.msmarco_8k"]
    assert "overall" not in helmet.overall(scores, "8k")
    with pytest.raises(ConfigError, match="level='9k'"):
        helmet.overall(scores, "9k")
