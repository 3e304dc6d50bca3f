"""One model's part of a run: in which order its samples are measured, and when to stop."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from baywindow import recipe as recipes_of_text
from baywindow.bench import choose, fitting
from baywindow.bench.base import Generated, Task
from baywindow.bench.engine import Engine, Unit, closable
from baywindow.bench.measure import Way
from baywindow.bench.plan import LEAST_SAMPLES, MOST_SAMPLES, Plan, length_text, tasks_of
from baywindow.bench.progress import State
from baywindow.bench.schedule import Column, Schedule
from baywindow.bench.store import Row, Store
from baywindow.models.base import LanguageModel
from baywindow.recipe import Recipe

MOST_FAILURES = 10  # of a model or of a recipe that has never succeeded
WRITING_SHARE = 0.25  # of a model's time, for replies where they are written for some samples only


class ModelRun:
    """One model's part of a run."""

    def __init__(
        self, store: Store, plan: Plan, name: str, model: LanguageModel, engine: Engine, tell: Callable[[State], None], machine_id: int
    ) -> None:
        self.store, self.plan, self.model, self.engine, self.machine_id = store, plan, model, engine, machine_id
        self.name, self._tell = name, tell
        store.set_fact(f"model:{name}", {"fingerprint": model.fingerprint, "window": model.context_length, "label": model.label})
        self.tasks = tasks_of(plan.tasks)
        self.recipes = {r.hash: r for r in map(recipes_of_text.parse, plan.recipes)}
        self.reach, refused = fitting.reaches(model, list(self.recipes.values()))
        if len(refused) == len(self.recipes):
            fitting.raise_refused(refused, self.recipes)
        fitting.check(model, plan.lengths, self.reach)
        self.have = store.keys()
        self.failed: dict[str, int] = defaultdict(int)
        self.worked: set[str] = set()
        self.stopped = False  # the model only fails
        self.schedule = self._schedule(refused)
        self.schedule.waiting.update(filter(self._waits, plan.lengths))
        self._keep_decisions(None)

    # -- what is to be done -----------------------------------------------------------------------------------------------

    def _schedule(self, refused: dict[str, str]) -> Schedule:
        """All columns, less those that the model cannot read; those with fixed texts have length 0."""
        made = sum(isinstance(t, Generated) for t in self.tasks)
        tasks = dict.fromkeys(self.plan.lengths, made) if made else {}
        if made < len(self.tasks):
            tasks[0] = len(self.tasks) - made
        columns = [(length, h) for length in tasks for h in self._stock_first()]
        schedule = Schedule(columns, tasks, frozenset(h for h, r in self.recipes.items() if r == Recipe()))
        for model, _, length, _, turn, recipe_hash in self.have:
            if model == self.name and turn == 0:
                schedule.have[length, recipe_hash] += 1
        for column in columns:
            if column[1] in refused:
                schedule.drop([column], refused[column[1]])
            elif self.reach[column[1]] < column[0]:
                schedule.drop([column], f"reads at most {self.reach[column[1]]} tokens on this model")
        for length, recipe_hash, why in self.store.fact(f"dropped_for_good:{self.name}", []):
            schedule.drop([(length, recipe_hash)], why)
        return schedule

    def _stock_first(self) -> list[str]:
        return sorted(self.recipes, key=lambda h: self.recipes[h] != Recipe())

    def _waits(self, length: int) -> bool:
        """Whether this length is for the best recipes only, and these are not known yet."""
        return length_text(length) in self.plan.best and self.store.fact(self._best_name(length)) is None

    def _best_name(self, length: int) -> str:
        return f"best:{self.name}:{length}"

    # -- doing it -----------------------------------------------------------------------------------------------------------

    def until(self, deadline: float) -> None:
        """Measure until every kept cell has its samples or the time is over.

        Where replies are written for some samples only, likelihoods come first, for all; then these replies, in time set aside for them;
        then, if hours are what limits the run, more samples.
        """
        writing = WRITING_SHARE * (deadline - time.monotonic()) if self.plan.generate and self.plan.hours else 0.0
        if not self._rounds(deadline - writing, most=LEAST_SAMPLES):
            return
        self._catch_up(deadline - writing)
        if self.plan.generate:
            self._write_replies(deadline)
        if self.plan.hours and self._rounds(deadline, most=MOST_SAMPLES):
            self._catch_up(deadline)

    def _catch_up(self, deadline: float) -> None:
        """Samples that a recipe missed while it was postponed."""
        lengths = self.schedule.lengths
        for number in range(max((self.schedule.done[at] for at in lengths), default=0)):
            for length in [at for at in lengths if number < self.schedule.done[at]]:
                if time.monotonic() >= deadline or not self._round(length, self.schedule.done[length], deadline, number):
                    return

    def _rounds(self, deadline: float, most: int) -> bool:
        """Rounds in turn, the length with the fewest first; then the lengths of the best recipes. False if the model only fails."""
        samples = self._samples(deadline, most)
        while time.monotonic() < deadline:
            open_lengths = [at for at in self.schedule.lengths if self.schedule.done[at] < samples]
            if not open_lengths and self._choose_best():
                continue
            if not open_lengths:
                break
            length = min(open_lengths, key=lambda at: (self.schedule.done[at], at))
            if not self._round(length, samples, deadline, self.schedule.done[length]):
                break
            self.schedule.done[length] += 1
            samples = self._samples(deadline, most)
        return not self.stopped

    def _samples(self, deadline: float, most: int) -> int:
        """Samples a cell: the plan's, else what the time allows once every length has been tried."""
        if self.plan.samples or not all(self.schedule.done[at] for at in self.schedule.lengths):
            return self.plan.samples or LEAST_SAMPLES
        samples = min(most, self.schedule.decide(deadline - time.monotonic()))
        self._keep_decisions(samples)
        return samples

    def _write_replies(self, deadline: float) -> None:
        """Replies for the first samples of every cell that was measured without; the rows are measured anew, reply and all."""
        bare = {r.key for r in self.store.rows() if r.model == self.name and r.reply is None and not r.error}
        for number, length in itertools.product(range(self.plan.generate), self.schedule.lengths):
            for task in self._tasks_at(length):
                active = [h for h in self.schedule.active(length) if (self.name, task.name, length, number, 0, h) in bare]
                unit = self.unit(task, length, number)
                unit = replace(unit, recipes=tuple(str(self.recipes[h]) for h in active), way=replace(unit.way, generate=True))
                if active and not self._measure([unit], deadline, lambda unit, rows, seconds: self._say_writing(unit)):
                    return

    def _round(self, length: int, samples: int, deadline: float, number: int) -> bool:
        """Sample ``number`` of every task at a length, on the recipes that lack it; False if time or the model ended it."""
        units = [u for u in (self.unit(t, length, number) for t in self._tasks_at(length)) if u.recipes]

        def kept(unit: Unit, rows: list[Row], seconds: float) -> None:
            self.schedule.spent((length, rows[0].recipe_hash), seconds)
            self._say(unit, samples, deadline)

        return self._measure(units, deadline, kept)

    def _measure(self, units: list[Unit], deadline: float, kept: Callable[[Unit, list[Row], float], None]) -> bool:
        """Measure and keep; False if time or the model ended it."""
        before = time.monotonic()
        with closing(closable(self.engine.run(units))) as rows_of:
            for unit, rows in rows_of:
                elapsed, before = time.monotonic() - before, time.monotonic()
                self.store.add([replace(row, model=self.name) for row in rows])
                self.have.update(replace(row, model=self.name).key for row in rows)
                kept(unit, rows, self._spent(rows, elapsed))
                if self._hopeless(rows) or time.monotonic() >= deadline:
                    return False
        return True

    def _spent(self, rows: list[Row], elapsed: float) -> float:
        """What rows took of the run. Side by side, the time since the row before says nothing of a row: its own is a share of all."""
        told = [row.seconds for row in rows if row.seconds is not None]
        return elapsed if self.engine.at_once == 1 or not told else sum(told) / self.engine.at_once

    def _tasks_at(self, length: int) -> list[Task]:
        return [t for t in self.tasks if isinstance(t, Generated) == (length > 0)]

    def unit(self, task: Task, length: int, number: int) -> Unit:
        """One sample with the recipes that lack it."""
        active = self.schedule.active(length)
        lacking = [h for h in active if (self.name, task.name, length, number, 0, h) not in self.have]
        windows = [n for h, n in self.reach.items() if length <= n < fitting.ANY_LENGTH]
        new = min(task.max_new_tokens, self.plan.max_new_tokens or task.max_new_tokens)
        return Unit(
            model=self.name,
            task=task.name,
            length=length,
            number=number,
            tokens=fitting.ordered_tokens(length, windows, new),
            recipes=tuple(str(self.recipes[h]) for h in lacking),
            way=Way(generate=not self.plan.generate, max_new_tokens=self.plan.max_new_tokens, budget=self.plan.budget),
            haystack=self.plan.haystack,
            options=self.plan.options,
            data=self.plan.data,
            machine=self.machine_id,
        )

    # -- failures, decisions, progress ----------------------------------------------------------------------------------------

    def _hopeless(self, rows: list[Row]) -> bool:
        """Count failures; a recipe that only fails is dropped. True if the model itself only fails."""
        recipe_hash = rows[0].recipe_hash
        for name in (recipe_hash, ""):
            if all(row.error for row in rows):
                self.failed[name] += 1
            else:
                self.worked.add(name)
        if "" not in self.worked and self.failed[""] >= MOST_FAILURES:
            self.stopped = True
            self.store.set_fact(f"stopped:{self.name}", f"every one of the first {MOST_FAILURES} samples failed: {rows[-1].error}")
            return True
        if recipe_hash not in self.worked and self.failed[recipe_hash] >= MOST_FAILURES:
            columns = [c for c in self.schedule.kept if c[1] == recipe_hash]
            self.schedule.drop(columns, f"failed on its first {MOST_FAILURES} samples: {rows[-1].error}")
            self._keep_decisions(None)
        return False

    def _choose_best(self) -> bool:
        """Open the shortest length that is for the best only: now that the shorter ones have their samples, the best recipes there, and
        chance beside them, are what it gets. False if no length waits."""
        if not self.schedule.waiting:
            return False
        length = min(self.schedule.waiting)
        rows = [r for r in self.store.rows() if r.model == self.name and r.length in self.schedule.lengths and r.length < length]
        self.schedule.waiting.discard(length)
        kept = choose.best(rows, list(self.recipes.values()), self.plan.best[length_text(length)])
        self.schedule.drop([c for c in self.schedule.kept if c[0] == length and c[1] not in kept], "not among the best at shorter lengths")
        self.store.set_fact(self._best_name(length), sorted(kept))
        self._keep_decisions(None)
        return True

    def _keep_decisions(self, samples: int | None) -> None:
        name = self.name
        for_good = [(length, h, why) for (length, h), why in self.schedule.dropped.items()]
        for_time = [(length, h, why) for (length, h), why in self.schedule.postponed.items()]
        self.store.set_fact(f"dropped_for_good:{name}", for_good)
        self.store.set_fact(f"dropped:{name}", for_good + for_time)
        self.store.set_fact(f"dropped_names:{name}", {h: str(r) for h, r in self.recipes.items()})
        if samples is not None:
            self.store.set_fact(f"samples:{name}", samples)

    def _say_writing(self, unit: Unit) -> None:
        text = f"{self.name}: replies to {unit.task}, {length_text(unit.length)}, sample {unit.number + 1} of {self.plan.generate}"
        self._tell(State(text=text, done=0, total=None, left_s=None))

    def _say(self, unit: Unit, samples: int, deadline: float) -> None:
        kept: list[Column] = self.schedule.kept
        total = sum(self.schedule.tasks[length] for length, _ in kept) * samples
        done = sum(self.schedule.have[column] for column in kept)
        left = min(self.schedule.left(samples), deadline - time.monotonic())
        text = f"{self.name}: {unit.task}, {length_text(unit.length)}, sample {unit.number + 1} of {samples}"
        self._tell(State(text=text, done=done, total=max(total, done), left_s=max(0.0, left)))
