"""What the memory benchmark counts: which turns a label names, which of them memories rest on, and the figures of its tables."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from baywindow.bench.base import SCORERS, Sample, Turn
from baywindow.bench.tasks import locomo  # noqa: F401 - puts its scorers on the list

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """Modules of the benchmarks by name, as the scripts see each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_labels_name_turns_in_all_their_spellings(bench):
    known = {"D8:6", "D9:17", "D11:26", "D1:1"}
    evidence = bench("_locomo").evidence_of(["D8:6; D9:17", "D:11:26", "D8:6"], known)
    assert evidence == (("D8:6", "D9:17", "D11:26"), ())


def test_labels_that_name_no_turn_are_told(bench):
    evidence = bench("_locomo").evidence_of(["D", "D1:1", "D10:19", "D01:01"], {"D1:1"})
    assert evidence == (("D1:1",), ("D", "D10:19"))


def test_recall_is_the_share_of_evidence_turns_under_the_first_memories(bench):
    # Evidence a, b, c. The first memory rests on a and x, the second on b, the third on a again, the fourth on c.
    recall = bench("_locomo").recall
    found = [["a", "x"], ["b"], ["a"], ["c"]]
    assert recall(["a", "b", "c"], found, 1) == pytest.approx(1 / 3)
    assert recall(["a", "b", "c"], found, 3) == pytest.approx(2 / 3)
    assert recall(["a", "b", "c"], found) == 1.0
    assert recall(["a"], [], 5) == 0.0


def test_a_session_is_dated(bench):
    spoken_at = bench("_locomo").spoken_at
    assert spoken_at("1:56 pm on 8 May, 2023") == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert spoken_at("12:09 am on 13 September, 2023") == datetime(2023, 9, 13, 0, 9, tzinfo=UTC)


def test_turns_under_memories_are_the_sets_own(bench, make_memory, ann):
    memory = make_memory("turn_retrieval(by='words')")
    said = [{"role": "user", "content": text, "ref": ref} for ref, text in (("D1:1", "I have a dog."), ("D1:2", "It rains in Rome."))]
    memory.add(said, ann)
    retrieval = bench("_memory_retrieval")
    found = memory.search("Where does it rain?", ann)
    assert retrieval.turns_under(retrieval.refs_of(memory, ann), found) == [["D1:2"]]


def test_percentiles_are_in_milliseconds(bench):
    # 1 … 101 ms: the median is 51, and 95 of the 100 steps from the least end at 96.
    seconds = [n / 1000 for n in range(1, 102)]
    assert bench("_memory_retrieval").percentiles(seconds) == {"p50": 51.0, "p95": 96.0, "n": 101}


def test_the_scores_of_a_system_are_counted_by_kind(bench):
    def row(category: int, score: float, **more: object) -> dict[str, object]:
        told = {"id": str(score), "category": category, "score": score, "found": 0.5, "found_turns": 10, "shown": 1.0}
        return told | {"prompt_tokens": 100} | more

    read = {"id": "read", "calls": 3, "seconds": [1.0, 2.0]}
    # A question of category 5 has no evidence to find, and does not count in the score of 1 to 4.
    rows = [read, row(1, 0.2), row(4, 0.6), row(5, 1.0, found=None, shown=None)]
    line = bench("_memory_tables")._system_line("hema", rows, history=2000, over="0.10 [0.00, 0.20] (n=2)")
    assert line[:2] == ["`hema`", 3]
    assert line[2] == "0.40 (n=2)"  # too few for an interval
    assert line[3] == "0.10 [0.00, 0.20] (n=2)"
    assert line[4:9] == ["0.20 (1)", "–", "–", "0.60 (1)", "1.00 (1)"]
    assert line[9:] == ["0.50 (2)", "10.00 (3)", "1.00 (2)", "100", "5%", 3, "3"]


def test_published_f1_counts_stems():
    # "adopted two dogs" against "Adopting a dog": adopt, dog of 3 words said and 2 wanted: P 2/3, R 1, F1 0.8.
    turn = Turn(question="What?", gold=("Adopting a dog",), scorer="locomo_f1")
    assert SCORERS["locomo_f1"]("adopted two dogs", turn) == pytest.approx(0.8)


def test_a_system_is_read_asked_and_tabled(bench, scripted, embedder, tmp_path):
    sets, systems = bench("_locomo"), bench("_memory_systems")
    rows = bench("_rows").Rows(tmp_path / "rows.jsonl", systems.key)
    at = datetime(2023, 5, 8, tzinfo=UTC)
    session = tuple(
        {"role": "user", "name": "Ann", "content": text, "ref": ref, "said_at": at}
        for ref, text in (("D1:1", "I have a dog."), ("D1:2", "It rains in Rome."))
    )
    sample = Sample(
        id="q", documents=(), question="Where does it rain?", gold=("Rome",), scorer="locomo_f1", metadata={"category": 4, "document": "1"}
    )
    question = sets.Question("q", "1", 4, sample.question, ("D1:2",), (), sample)
    chosen = systems.Set("beginning", sets.Talk("1", (session,)), (question,), ())
    made = systems.Bench("scripted", scripted(["In Rome."]), embedder, tmp_path, rows, lambda: False)
    made.run(chosen, "turn_retrieval(by='words')")
    made.run(chosen, "turn_retrieval(by='words')")  # what is there is not measured again
    read, asked = rows.rows
    assert (read["calls"], asked["found"], asked["shown"], asked["found_turns"]) == (0, 1.0, 1.0, 1)
    assert asked["score"] == pytest.approx(2 / 3)  # "in rome" against "rome": P 1/2, R 1
    history = {"part": "history", "model": "scripted", "set": "beginning 1", "tokens": 1000}
    page, _ = bench("_memory_tables").body([*rows.rows, history])
    assert "| `turn_retrieval(by='words')` | 1 | 0.67 (n=1) |" in page


def test_searches_stand_beside_the_floor(bench, embedder, monkeypatch):
    sets, retrieval = bench("_locomo"), bench("_memory_retrieval")
    at = datetime(2023, 5, 8, tzinfo=UTC)
    said = ("I have a dog.", "It rains in Rome.", "My sister lives in Oslo.", "We went skiing.")
    session = tuple({"role": "user", "name": "Ann", "content": text, "ref": f"D1:{n}", "said_at": at} for n, text in enumerate(said, 1))
    asked = (("Where does it rain?", "D1:2"), ("Who has a dog?", "D1:1"))
    questions = [sets.Question(ref, "1", 4, text, (ref,), (), None) for text, ref in asked]
    monkeypatch.setattr(retrieval, "talks", lambda: {"1": sets.Talk("1", (session,))})
    monkeypatch.setattr(retrieval, "questions", lambda: questions)
    monkeypatch.setattr(retrieval, "ONE_BY_ONE", 1)
    monkeypatch.setattr(retrieval, "DEPTHS", (1, 4))
    told = retrieval.measured(embedder, 0)
    assert (told["n"], told["turns"], told["add_ms"]["n"], told["search_ms"]["words"]["n"]) == (2, 4, 1, 2)
    # Stems find "rains" for "rain"; plain words share only "it" with that turn, and nothing with others: both find both.
    assert told["recall"][retrieval.STEMMED] == {"1": [1.0, 1.0], "4": [1.0, 1.0]}
    assert told["recall"]["turn_retrieval(by='words')"] == {"1": [1.0, 1.0], "4": [1.0, 1.0]}
    assert told["shown"]["full_history, 8,192 tokens"]["recall"] == [1.0, 1.0]
