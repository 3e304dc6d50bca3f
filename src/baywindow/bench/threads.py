"""Samples measured several at a time, for a model that takes several questions at once: one behind an endpoint.

An endpoint may answer many at once, and one that is far away would be waited for most of the time. Rows are the same but for what only a
question alone can tell: ``seconds`` and the like are those under this load, as a note in the row says, and processor time and memory of
this process belong to no question, so they stay empty.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

from baywindow.bench import measure
from baywindow.bench.base import Sample
from baywindow.bench.engine import Engine, Local, Unit
from baywindow.bench.referees import refereeing
from baywindow.bench.store import Row
from baywindow.config import Settings
from baywindow.models.base import LanguageModel
from baywindow.recipe import Recipe

T = TypeVar("T")


def engine_for(model: LanguageModel, settings: Settings) -> Engine:
    """What measures in this process: with a model that takes several questions at once, so many."""
    return Threads(model, settings) if model.concurrency > 1 else Local(model, settings)


class Threads(Local):
    """`LanguageModel.concurrency` questions at a time. Samples are made by who iterates, and only as they are needed."""

    def __init__(self, model: LanguageModel, settings: Settings) -> None:
        super().__init__(model, settings)
        self.at_once = model.concurrency
        self._pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="bench")
        self._desk = replace(self._desk, embedder=_made_once(self._desk.embedder))
        self._referees_once = _made_once(self._referees)
        self._filling = threading.Lock()

    def run(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, list[Row]]]:
        """In the order in which they are done. What is under way when the iterator is closed is not waited for."""
        running: dict[Future[list[Row]], Unit] = {}
        jobs = self._jobs(units)
        try:
            while True:
                while len(running) < self.at_once and (job := next(jobs, None)) is not None:
                    running[self._pool.submit(self._measured, *job)] = job[0]
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(done), done.result()
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        """Ends what is under way at its next piece, and waits for that."""
        self._desk.stop.set()
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def _jobs(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, Sample | None, Recipe, Row]]:
        for unit in units:
            sample, blanks = self._prepared(unit)
            for recipe, blank in blanks:
                yield unit, sample, recipe, blank

    def _measured(self, unit: Unit, sample: Sample | None, recipe: Recipe, blank: Row) -> list[Row]:
        if sample is None:
            return [blank]
        # Two questions about one conversation must not both fill its memory.
        alone = self._filling if sample.metadata.get("finds") else nullcontext()
        with alone, refereeing(**self._referees_once()):
            [rows] = measure.measured(sample, [(recipe, blank)], self._desk, unit.way)
        return [replace(row, cpu_seconds=None, peak_rss_bytes=None, notes=self._noted(row.notes)) for row in rows]

    def _noted(self, notes: str) -> str:
        return "; ".join(filter(None, [notes, f"{self.at_once} questions at a time"]))


def _made_once(make: Callable[[], T]) -> Callable[[], T]:
    """``make`` remembers what it made, but threads that ask at once would each make one."""
    lock = threading.Lock()

    def made() -> T:
        with lock:
            return make()

    return made
