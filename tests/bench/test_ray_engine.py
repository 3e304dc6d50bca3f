"""Samples over Ray workers: the same rows as in one process. Starts Ray for real."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baywindow.bench import run as running
from baywindow.bench.engine import Local
from baywindow.bench.plan import Plan
from baywindow.bench.store import Row, Store

pytestmark = pytest.mark.slow
TASKS = ("ruler.niah_single_1", "needlebench.single")
PLAN = Plan(models=("m",), tasks=TASKS, lengths=(1024, 2048), recipes=("stock", "full_text(k=1) > rag"), samples=2)


def made_up_model() -> Any:
    """The bench's own fake model, from its file: workers get it by value."""
    name = "bay_bench_fakes"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "conftest.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def rows_of(path: Path, make_engine: Any) -> list[Row]:
    model = made_up_model().Answerer()
    with Store(path, write=True, make=True) as store:
        running.run(store, PLAN, lambda name, settings: model, lambda state: None, make_engine)
        return store.rows()


@pytest.mark.filterwarnings("ignore::Warning")  # Ray's own, on its way in and out
def test_rows_are_those_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs ray")
    from ray import cloudpickle

    from baywindow.bench.ray_engine import RayEngine

    fakes = made_up_model()
    cloudpickle.register_pickle_by_value(fakes)
    answerer = fakes.Answerer
    flags = {"embedder": "embedded"}
    there = RayEngine("m", flags, lambda name, settings: answerer(), workers=2)
    found = rows_of(tmp_path / "ray.bay.sqlite", lambda model, settings: there)
    expected = rows_of(tmp_path / "one.bay.sqlite", Local)

    def bare(row: Row) -> Row:
        times = ("seconds", "cpu_seconds", "first_token_s", "tokens_per_s", "peak_rss_bytes", "made_at")
        return replace(row, **dict.fromkeys(times))

    assert len(expected) == 2 * 2 * 2 * 2
    assert all(not row.error for row in expected)
    assert [bare(row) for row in found] == [bare(row) for row in expected]
