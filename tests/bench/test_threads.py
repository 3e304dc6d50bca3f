"""Several questions at a time to a model that takes them: the same rows, really together, and an end that waits for little."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baywindow.bench import run as running
from baywindow.bench.engine import Local, Unit
from baywindow.bench.measure import Way
from baywindow.bench.plan import Plan
from baywindow.bench.schedule import Schedule
from baywindow.bench.store import Row, Store
from baywindow.bench.threads import Threads, engine_for
from baywindow.config import Settings
from baywindow.models.base import Completion, Stream
from baywindow.models.endpoint import Endpoint
from baywindow.models.openai_compatible import OpenAIModel

RECIPES = ("stock", "full_text(k=1) > rag", "map_reduce")
PLAN = Plan(models=("m",), tasks=("toy.find", "toy.turns", "toy.broken"), lengths=(64, 128), recipes=RECIPES, samples=3)
ALONE = ("seconds", "cpu_seconds", "first_token_s", "tokens_per_s", "peak_rss_bytes", "made_at", "notes")


def rows_of(path: Path, model: Any, make_engine: Any) -> list[Row]:
    with Store(path, write=True, make=True) as store:
        running.run(store, PLAN, lambda name, settings: model, lambda state: None, make_engine)
        return store.rows()


def at_once(model: Any, count: int) -> Any:
    model.concurrency = count
    return model


def test_rows_are_those_of_one_question_after_the_other(toy, answerer, tmp_path: Path) -> None:
    alone = rows_of(tmp_path / "one.bay.sqlite", answerer(), Local)
    together = rows_of(tmp_path / "four.bay.sqlite", at_once(answerer(), 4), Threads)
    assert len(alone) > 30

    def bare(rows: list[Row]) -> list[Row]:
        return sorted((replace(row, **dict.fromkeys(ALONE)) for row in rows), key=lambda row: str(row.key))

    assert bare(together) == bare(alone)
    measured = [row for row in together if not row.error]
    assert all(row.notes.endswith("4 questions at a time") and row.seconds is not None for row in measured)
    assert all(row.cpu_seconds is None and row.peak_rss_bytes is None for row in measured)


def test_a_recipe_costs_its_own_share_of_the_time(toy, answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``--hours`` drops goes by it. The time since the row before, which may be nearly none, says nothing of a row."""
    spent: list[float] = []
    monkeypatch.setattr(Schedule, "spent", lambda self, column, seconds: spent.append(seconds))

    class Slow(Threads):
        def run(self, units: Any) -> Any:
            for unit, rows in super().run(units):
                yield unit, [replace(row, seconds=3.0) for row in rows]

    rows = rows_of(tmp_path / "two.bay.sqlite", at_once(answerer(), 2), Slow)
    assert len(rows) > 30
    assert {round(seconds / 1.5, 9) for seconds in spent} <= {1, 2, 3}  # by how many turns a sample has
    assert sum(spent) == pytest.approx(1.5 * len(rows))


def test_so_many_questions_are_under_way_at_once_and_no_more(toy, answerer) -> None:
    inside, most, lock = [0], [0], threading.Lock()
    meeting = threading.Barrier(3)

    class Meeting(answerer):  # type: ignore[misc, valid-type]
        def generate(self, prompt: Any, sampling: Any = None) -> Any:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            meeting.wait(timeout=30)  # broken, and an error of the row, unless three come together
            with lock:
                inside[0] -= 1
            return super().generate(prompt, sampling)

    model = at_once(Meeting(), 3)
    units = [Unit(model="m", task="toy.find", length=64, number=i, tokens=64, recipes=("stock",), way=Way()) for i in range(6)]
    engine = Threads(model, Settings())
    rows = [row for _, found in engine.run(units) for row in found]
    engine.close()
    assert [row.error for row in rows] == [""] * 6
    assert most[0] == 3


def test_closing_ends_a_reader_at_its_next_call(toy, answerer) -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Slow(answerer):  # type: ignore[misc, valid-type]
        def generate(self, prompt: Any, sampling: Any = None) -> Any:
            self.calls += 1
            if "hold" in self.name:
                asked.set()
                assert go_on.wait(30)
            done = Completion(text="no idea", prompt_tokens=9, generated_tokens=2, finish="stop")
            return Stream(iter(["no ", "idea"]), lambda said: done)

    model = at_once(Slow("hold", context_length=150), 2)
    engine = Threads(model, Settings())
    unit = Unit(model="m", task="toy.find", length=300, number=0, tokens=300, recipes=("chain_of_agents",), way=Way())
    found: list[Any] = []
    iterating = threading.Thread(target=lambda: found.extend(engine.run([unit])))
    iterating.start()
    assert asked.wait(30)
    closing = threading.Thread(target=engine.close)
    closing.start()
    stopped = engine._desk.stop.wait(10)
    go_on.set()
    closing.join(30)
    iterating.join(30)
    assert stopped
    assert not closing.is_alive()
    assert model.calls == 1  # of at least three, one after the other


def test_the_named_referees_are_there_in_every_thread(toy, answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    from baywindow.bench import engine as engines
    from baywindow.bench import find
    from baywindow.bench.referees import the_judge

    made: list[object] = []

    class Judge:
        model = None

    def referees(model: Any, settings: Any) -> Any:
        time.sleep(0.05)  # long enough for a second thread to come by
        made.append(object())
        return {"judge": Judge()}

    monkeypatch.setattr(engines, "_referees", referees)
    monkeypatch.setattr(find, "score", lambda reply, turn: 1.0 if isinstance(the_judge(), Judge) else 0.0)
    threads = Threads(at_once(answerer(), 4), Settings())
    units = [Unit(model="m", task="toy.find", length=64, number=i, tokens=64, recipes=("stock",), way=Way()) for i in range(8)]
    rows = [row for _, found in threads.run(units) for row in found]
    assert [(row.score, row.error) for row in rows] == [(1.0, "")] * 8
    assert len(made) == 1


def test_an_endpoint_takes_as_many_as_its_settings_say_and_a_local_model_one(answerer) -> None:
    there = OpenAIModel("m", Endpoint(base_url="http://127.0.0.1:1/v1", concurrency=7), context=100)
    assert there.concurrency == 7
    assert isinstance(engine_for(there, Settings()), Threads)
    assert type(engine_for(answerer(), Settings())) is Local
