"""A run: every model, task, length and recipe of a plan, measured in an order that may stop anywhere, kept as it comes, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from baywindow.bench import machine
from baywindow.bench.engine import Engine
from baywindow.bench.model_run import MOST_FAILURES, ModelRun
from baywindow.bench.plan import Plan
from baywindow.bench.progress import State, Tell
from baywindow.bench.store import Store
from baywindow.bench.threads import engine_for
from baywindow.config import Settings
from baywindow.models.base import LanguageModel

__all__ = ["MOST_FAILURES", "ModelRun", "State", "each_model", "engine_for", "run", "shown_name", "with_more_hours"]

Load = Callable[[str, Settings], LanguageModel]
MakeEngine = Callable[[LanguageModel, Settings], Engine]


def run(store: Store, plan: Plan, load: Load, tell: Tell, make_engine: MakeEngine = engine_for) -> None:
    """Measure what the store still lacks of its plan, until done or out of time. Everything measured is in the store when this ends,
    however it ends."""
    each_model(store, plan, load, tell, make_engine, ModelRun.until)


def each_model(
    store: Store, plan: Plan, load: Load, tell: Tell, make_engine: MakeEngine, work: Callable[[ModelRun, float], object]
) -> None:
    """Load the plan's models one after the other, each with an equal share of the time that is left, and let ``work`` use it."""
    machine_id = store.machine(machine.described())
    clock = Spending(store)

    def told(state: State) -> None:
        clock.note()
        tell(state)

    for at, name in enumerate(plan.models):
        settings = Settings(**{**plan.settings, "model": name})
        told(State(text=f"loading {name}", done=0, total=None, left_s=None))
        left = plan.hours * 3600 - clock.seconds if plan.hours else float("inf")
        deadline = time.monotonic() + left / (len(plan.models) - at)
        with ExitStack() as opened:
            opened.callback(clock.note)
            model = load(name, settings)
            opened.callback(model.close)
            engine = make_engine(model, settings)
            opened.callback(engine.close)
            work(ModelRun(store, plan, shown_name(name), model, engine, told, machine_id), deadline)


class Spending:
    """Seconds that the run has taken over all its sessions, kept as they pass: a killed session has spent its time too."""

    def __init__(self, store: Store) -> None:
        self._store, self._last = store, time.monotonic()
        self.seconds = float(store.fact("spent_s", 0.0))

    def note(self) -> None:
        now = time.monotonic()
        self.seconds, self._last = self.seconds + now - self._last, now
        self._store.set_fact("spent_s", self.seconds)


def with_more_hours(store: Store, hours: float) -> Plan:
    """The store's plan with so many hours from now on."""
    table = store.fact("plan") | {"hours": hours + float(store.fact("spent_s", 0.0)) / 3600, "samples": 0}
    plan = Plan.from_dict(table)
    store.set_fact("plan", plan.to_dict())
    return plan


def shown_name(name: str) -> str:
    """How a model is called in results: a path by its last part, for the rest of it says nothing to others."""
    return Path(name).name if "/" in name and Path(name).expanduser().exists() else name
