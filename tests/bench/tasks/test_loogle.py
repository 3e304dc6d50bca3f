"""LooGLE: literals that are read and not run, masked entities, events in order."""

from __future__ import annotations

import itertools

import pytest

from baywindow.bench import find
from baywindow.bench.base import Turn
from baywindow.bench.tasks.loogle import _scores
from baywindow.errors import SourceError

ROMAN = ["I", "II", "III", "IV", "V"]


def turn(*gold):
    return Turn(question="q", gold=gold, scorer="any")


def test_short_and_long_dependencies_are_tasks_apart(sets):
    short = sets.samples("loogle.shortdep_qa")
    assert [s.gold for s in short] == [("She was born in Kross.",), ("The harbour of Vell.",)]
    assert short[1].metadata["evidence"] == ["She dug it."]
    [long] = sets.samples("loogle.longdep_qa")
    assert (long.metadata["type"], long.gold) == ("computation", ("29",))
    [timeline] = sets.samples("loogle.timeline_reorder")
    assert (timeline.metadata["type"], timeline.gold) == ("timeline_reorder", ("II,III,I",))


def test_a_literal_is_read_and_nothing_in_it_is_run(sets, tmp_path):
    (tmp_path / "shortdep_qa.jsonl").write_text('{"input": "x", "qa_pairs": "[{\'Q\': __import__(\'os\').getcwd(), \'A\': 1}]"}')
    with pytest.raises(SourceError, match="qa_pairs is no list of questions"):
        list(sets.task("loogle.shortdep_qa").load(tmp_path))


def test_masks_of_a_worked_example(sets):
    [cloze] = sets.samples("loogle.shortdep_cloze")
    asked = cloze.asked[0]
    reply = "{'<mask-0>': 'Ida Brandt', '<mask-1>': 'Bo', '<mask-2>': 'Kross'}"  # one right, one in part, one wrong
    assert find.score(reply, asked) == pytest.approx(1 / 3)
    assert _scores.loogle_cloze_partial(reply, asked) == pytest.approx(2 / 3)
    assert find.score("__import__('os')", asked) == 0.0
    assert '{"<mask-0>": "Mary"' in cloze.question


def test_timelines_of_a_worked_example():
    # Gold II III I; said II I III. Places of the gold's events in the reply: 0, 2, 1. Squared displacement (0 + 1 + 1) / 3; the largest is
    # that of the reverse, (4 + 0 + 4) / 3 = (9 - 1) / 3. 1 - 2/8 = 3/4. Displacement 2 of floor(9/2) = 4: 1/2. One swap of two: 1/2.
    gold = turn("II,III,I")
    assert _scores.loogle_timeline("II, I, III", gold) == pytest.approx(3 / 4)
    assert _scores.loogle_displacement("II, I, III", gold) == pytest.approx(1 / 2)
    assert _scores.loogle_swaps("II, I, III", gold) == pytest.approx(1 / 2)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_timelines_agree_with_trying_all_orders(n):
    gold = ROMAN[:n]
    square = lambda p: sum((p.index(e) - i) ** 2 for i, e in enumerate(gold)) / n  # noqa: E731
    plain = lambda p: sum(abs(p.index(e) - i) for i, e in enumerate(gold))  # noqa: E731
    orders = [list(p) for p in itertools.permutations(gold)]
    for said in orders:
        asked = turn(",".join(gold))
        reply = " ".join(said)
        assert _scores.loogle_timeline(reply, asked) == pytest.approx(1 - square(said) / max(map(square, orders)))
        assert _scores.loogle_displacement(reply, asked) == pytest.approx(1 - plain(said) / max(map(plain, orders)))
        assert _scores.loogle_swaps(reply, asked) == pytest.approx(1 - swaps(said, gold) / max(swaps(p, gold) for p in orders))


def swaps(said, gold):
    """Sort by putting each event in its place; the number of swaps is the least there is."""
    row, count = list(said), 0
    for i, event in enumerate(gold):
        if row[i] != event:
            j = row.index(event)
            row[i], row[j] = row[j], row[i]
            count += 1
    return count


@pytest.mark.parametrize("n", [3, 4, 5])
def test_swap_distance_is_half_the_displacement_and_so_left_out(n):
    """LooGLE's fourth figure: swap the pair that gains most for its distance, and add up distances."""
    for places in itertools.permutations(range(n)):
        row, total = list(places), 0
        while row != sorted(row):
            gain = lambda i, j, row=row: (abs(row[i] - i) + abs(row[j] - j) - abs(row[j] - i) - abs(row[i] - j)) / (j - i)  # noqa: E731
            i, j = max(itertools.combinations(range(n), 2), key=lambda ij: gain(*ij))
            row[i], row[j] = row[j], row[i]
            total += j - i
        assert total == sum(abs(p - i) for i, p in enumerate(places)) / 2


@pytest.mark.parametrize("reply", ["", "II, III", "II, III, I, I", "II, III, IV", "no numerals"])
def test_another_set_of_events_scores_0(reply):
    assert _scores.loogle_timeline(reply, turn("II,III,I")) == 0.0


def test_one_event_is_in_order():
    assert _scores.loogle_timeline("I", turn("I")) == _scores.loogle_swaps("I", turn("I")) == 1.0
