"""Samples spread over Ray workers, on one machine or a cluster. Each worker holds the model once, for the whole run.

A worker measures a sample on all its recipes, as this process would; what makes a sample (tokenizer, seed, depth) does not depend on who
makes it, so the rows are the same but for times. Workers need the same packages and reach the model by the same name or path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from baywindow.bench.engine import Local, Unit
from baywindow.bench.store import Row
from baywindow.config import Settings
from baywindow.errors import MissingExtraError
from baywindow.models.base import LanguageModel

Load = Callable[[str, Settings], LanguageModel]


class Worker:
    """Lives in a Ray process: loads the model once and measures what it is given."""

    def __init__(self, name: str, flags: dict[str, Any], load: Load) -> None:
        settings = Settings(**flags)
        self._local = Local(load(name, settings), settings)

    def measure(self, unit: Unit) -> tuple[Unit, list[Row]]:
        return unit, [row for _, rows in self._local.run([unit]) for row in rows]


class RayEngine:
    """``workers`` 0: one for each processor that Ray has, or for each graphics card where there are any.

    Starts Ray on this machine if it is not running and no cluster was named (``RAY_ADDRESS``). MissingExtraError without Ray.
    """

    def __init__(self, name: str, flags: dict[str, Any], load: Load, workers: int = 0) -> None:
        try:
            import ray
            from ray.util import ActorPool
        except ModuleNotFoundError:
            raise MissingExtraError.of("what spreads work over machines (ray)", "ray") from None
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        has: dict[str, float] = ray.cluster_resources()
        cards = int(has.get("GPU", 0))
        count = workers or cards or max(1, int(has.get("CPU", 1)))
        self.at_once = count
        actor: Any = ray.remote(num_cpus=0 if cards else 1, num_gpus=1 if cards else 0)(Worker)
        self._actors = [actor.remote(name, flags, load) for _ in range(count)]
        self._pool = ActorPool(self._actors)

    def run(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, list[Row]]]:
        """In the order in which samples are done."""
        for unit, rows in self._pool.map_unordered(lambda worker, unit: worker.measure.remote(unit), list(units)):
            for _, of_recipe in groupby(rows, key=lambda row: row.recipe_hash):
                yield unit, list(of_recipe)

    def close(self) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)
        if self._started:
            ray.shutdown()
