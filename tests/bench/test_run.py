"""Runs over a made-up suite: what is measured, what is repeated, what stops a run and what does not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baywindow.bench import run as running
from baywindow.bench.engine import Local
from baywindow.bench.plan import Plan
from baywindow.bench.store import Row, Store
from baywindow.errors import ConfigError

PLAN = Plan(models=("m",), tasks=("toy.find", "toy.also"), lengths=(64, 128), recipes=("stock", "full_text(k=1) > rag"), samples=3)


def go(path: Path, plan: Plan, model: Any) -> list[Row]:
    with Store(path, write=True, make=True) as store:
        running.run(store, plan, lambda name, settings: model, lambda state: None)
        return store.rows()


def test_every_cell_of_the_plan_gets_its_samples(toy, answerer, tmp_path: Path) -> None:
    rows = go(tmp_path / "r.bay.sqlite", PLAN, answerer())
    assert len(rows) == 2 * 2 * 2 * 3
    assert {(r.task, r.length, r.sample) for r in rows} == {(t, n, i) for t in PLAN.tasks for n in (64, 128) for i in range(3)}
    assert all(r.score == 1.0 and r.nll == 0.5 and not r.error and r.machine == 1 for r in rows)
    assert {r.protocol for r in rows} == {"prompt", "ask"}
    assert {r.depth for r in rows} == {0.0, 0.25, 0.5}


def test_recipes_of_one_sample_read_the_same_text(toy, answerer, tmp_path: Path) -> None:
    rows = go(tmp_path / "r.bay.sqlite", PLAN, answerer())
    by_sample: dict[tuple[str, int, int], set[str]] = {}
    for row in rows:
        by_sample.setdefault((row.task, row.length, row.sample), set()).add(row.sample_id)
    assert all(len(ids) == 1 for ids in by_sample.values())


def test_a_finished_run_measures_nothing_again(toy, answerer, tmp_path: Path) -> None:
    first = go(tmp_path / "r.bay.sqlite", PLAN, answerer())
    silent = answerer()
    assert go(tmp_path / "r.bay.sqlite", PLAN, silent) == first
    assert silent.calls == 0


def test_follow_up_questions_have_rows_of_their_own(toy, answerer, tmp_path: Path) -> None:
    rows = go(tmp_path / "r.bay.sqlite", replace(PLAN, tasks=("toy.turns",), lengths=(64,)), answerer())
    assert sorted((r.recipe, r.sample, r.turn) for r in rows if r.sample == 0) == [
        ("full_text(k=1) > rag", 0, 0), ("full_text(k=1) > rag", 0, 1), ("stock", 0, 0), ("stock", 0, 1)
    ]  # fmt: skip


def test_a_failing_sample_is_a_row_with_its_error(toy, answerer, tmp_path: Path) -> None:
    rows = go(tmp_path / "r.bay.sqlite", replace(PLAN, tasks=("toy.find",)), answerer(fails_on="code1x64"))
    assert {(r.length, r.sample) for r in rows if r.error} == {(64, 1)}
    assert {r.error for r in rows if r.error} == {"RuntimeError: cannot read code1x64"}
    assert len(rows) == 2 * 2 * 3


def test_a_sample_that_cannot_be_made_is_an_error_too(toy, answerer, tmp_path: Path) -> None:
    rows = go(tmp_path / "r.bay.sqlite", replace(PLAN, tasks=("toy.broken", "toy.find"), lengths=(64,)), answerer())
    assert {r.task for r in rows if r.error} == {"toy.broken"}
    assert sum(not r.error for r in rows) == 2 * 3


def test_a_model_that_only_fails_is_stopped_after_ten(toy, answerer, tmp_path: Path) -> None:
    path = tmp_path / "r.bay.sqlite"
    rows = go(path, replace(PLAN, samples=50), answerer(fails_on="secret"))
    assert len(rows) == running.MOST_FAILURES
    with Store(path) as store:
        assert "every one of the first 10 samples failed" in store.fact("stopped:m")


def test_a_recipe_that_only_fails_is_dropped_and_the_others_go_on(toy, answerer, tmp_path: Path) -> None:
    path = tmp_path / "r.bay.sqlite"
    rows = go(path, replace(PLAN, samples=12, tasks=("toy.find",), lengths=(64,)), answerer(fails_on="<passage"))
    failed = [r for r in rows if r.error]
    assert len(failed) == 10
    assert {r.recipe for r in failed} == {"full_text(k=1) > rag"}
    assert sum(r.recipe == "stock" for r in rows) == 12


def test_hours_choose_the_number_of_samples(toy, answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample takes 10 s on a clock of ours; 4 columns of 1 task are 40 s a round, so 0.2 h = 720 s are 18 rounds."""
    now = [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    model = answerer()

    class Slow(Local):
        def run(self, units: Any) -> Any:
            for found in super().run(units):
                now[0] += 10.0
                yield found

    path = tmp_path / "r.bay.sqlite"
    with Store(path, write=True, make=True) as store:
        plan = replace(PLAN, tasks=("toy.find",), samples=0, hours=0.2)
        running.run(store, plan, lambda name, settings: model, lambda state: None, Slow)
        rows = store.rows()
        assert store.fact("samples:m") == 18
    assert len(rows) == 4 * 18
    assert now[0] <= 720


def test_a_length_beyond_the_window_names_what_would_read_it(toy, answerer, tmp_path: Path) -> None:
    plan = replace(PLAN, recipes=("stock",), lengths=(64, 8192))
    with pytest.raises(ConfigError, match="8k tokens exceed the window of answerer") as error:
        go(tmp_path / "r.bay.sqlite", plan, answerer())
    assert "hybrid > rag" in error.value.hint


def test_a_recipe_that_cannot_read_a_length_is_left_out_there_and_said(toy, answerer, tmp_path: Path) -> None:
    path = tmp_path / "r.bay.sqlite"
    rows = go(path, replace(PLAN, lengths=(64, 512)), answerer(context_length=400))
    assert {r.recipe for r in rows if r.length == 512} == {"full_text(k=1) > rag"}


SCRIPT = """
import sys, time
sys.path[:0] = [{tests!r}]
import conftest as c
from pathlib import Path
from baywindow.bench import engine, find, run as running
from baywindow.bench.plan import Plan
from baywindow.bench.store import Store
find.suites = lambda: {{"toy": c.TOY}}
engine._embedder = lambda settings: c.Nothing()

class Slow(c.Answerer):
    def generate(self, *a):
        time.sleep(0.05)
        return super().generate(*a)

with Store(Path({path!r}), write=True, make=True) as store:
    plan = Plan(models=("m",), tasks=("toy.find", "toy.also"), lengths=(64,), recipes=("stock", "full_text(k=1) > rag"), samples=8)
    running.run(store, plan, lambda name, settings: Slow(), lambda state: print(state.done, flush=True))
"""


def test_kill_9_loses_at_most_the_sample_in_flight(toy, answerer, tmp_path: Path) -> None:
    path = tmp_path / "r.bay.sqlite"
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reported = 0
    for line in process.stdout:
        reported = int(line)
        if reported >= 7:
            break
    process.kill()
    process.wait()
    process.stdout.close()
    with Store(path) as store:
        kept = store.rows()
    assert len(kept) in (reported, reported + 1)  # what was said to be done is there; one more may have come between
    plan = Plan(models=("m",), tasks=("toy.find", "toy.also"), lengths=(64,), recipes=("stock", "full_text(k=1) > rag"), samples=8)
    model = answerer()
    rows = go(path, plan, model)
    assert len(rows) == 2 * 2 * 8
    assert model.calls == 32 - len(kept)  # one call a row: nothing was repeated
    assert [r for r in rows if r.key in {k.key for k in kept}] == kept


def test_replies_for_some_samples_come_after_likelihoods_for_all(toy, answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`generate=2` of 5: rows of the first two samples are measured again with a reply; the others keep likelihood alone."""
    order: list[tuple[int, bool]] = []

    class Watching(Local):
        def run(self, units: Any) -> Any:
            for unit, rows in super().run(units):
                order.append((unit.number, unit.way.generate))
                # A model with open weights leaves replies out; this one cannot, so they are taken out here.
                yield unit, rows if unit.way.generate else [replace(r, reply=None, score=None) for r in rows]

    path = tmp_path / "r.bay.sqlite"
    plan = replace(PLAN, tasks=("toy.find",), lengths=(64,), recipes=("stock",), samples=5, generate=2)
    with Store(path, write=True, make=True) as store:
        running.run(store, plan, lambda name, settings: answerer(), lambda state: None, Watching)
        rows = store.rows()
    assert order == [(0, False), (1, False), (2, False), (3, False), (4, False), (0, True), (1, True)]
    assert [r.reply is not None for r in rows] == [True, True, False, False, False]
    assert all(r.nll is not None for r in rows)


def test_a_share_of_the_hours_is_kept_for_replies(toy, answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 s, 10 s a sample: 10 samples are measured in the first 300 s, two replies written, and the rest goes into more samples."""
    now = [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    written = []

    class Slow(Local):
        def run(self, units: Any) -> Any:
            for unit, rows in super().run(units):
                now[0] += 10.0
                written.append(unit.way.generate)
                yield unit, rows if unit.way.generate else [replace(r, reply=None, score=None) for r in rows]

    plan = replace(PLAN, tasks=("toy.find",), lengths=(64,), recipes=("stock",), samples=0, hours=400 / 3600, generate=2)
    with Store(tmp_path / "r.bay.sqlite", write=True, make=True) as store:
        running.run(store, plan, lambda name, settings: answerer(), lambda state: None, Slow)
    assert written[:12] == [False] * 10 + [True] * 2
    assert 38 <= len(written) <= 40
    assert not any(written[12:])


def test_one_slow_first_sample_drops_nobody(toy, answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sample of the second recipe takes 200 s, because something is loaded; each later one 10 s. Of 800 s, 230 are gone after
    the first round; 570 s are 14 rounds of 40 s, where 200 s a sample would have left no time for it."""
    now = [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    slow = {"full_text(k=1) > rag": 200.0}

    class Slow(Local):
        def run(self, units: Any) -> Any:
            for unit, rows in super().run(units):
                now[0] += slow.pop(rows[0].recipe, 10.0)
                yield unit, rows

    plan = replace(PLAN, lengths=(64,), samples=0, hours=800 / 3600)
    with Store(tmp_path / "r.bay.sqlite", write=True, make=True) as store:
        running.run(store, plan, lambda name, settings: answerer(), lambda state: None, Slow)
        rows = store.rows()
    counts = {recipe: sum(r.recipe == recipe for r in rows) for recipe in PLAN.recipes}
    assert min(counts.values()) >= 2 * 10  # both recipes, both tasks
    assert now[0] <= 810


def test_the_length_of_the_best_comes_after_the_shorter_one_has_its_samples(toy, answerer, tmp_path: Path) -> None:
    recipes = ("stock", "full_text(k=1) > rag", "full_text(k=2) > rag")
    plan = replace(PLAN, tasks=("toy.find",), recipes=recipes, best={"128": 1})
    rows = go(tmp_path / "r.bay.sqlite", plan, answerer())
    assert [r.length for r in rows] == [64] * 9 + [128] * 6
    assert {r.recipe for r in rows if r.length == 128} == {"stock", "full_text(k=1) > rag"}  # as good as the other, and named first
    with Store(tmp_path / "r.bay.sqlite") as store:
        assert [why for _, _, why in store.fact("dropped:m")] == ["not among the best at shorter lengths"]


def test_a_length_for_the_best_only_needs_a_shorter_one() -> None:
    with pytest.raises(ConfigError, match="64"):
        replace(PLAN, lengths=(64, 128), best={"64": 1})
    with pytest.raises(ConfigError, match="256"):
        replace(PLAN, lengths=(64, 128), best={"256": 1})
