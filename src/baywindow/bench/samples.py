"""Samples by number: made once, kept on disk under everything that they depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from baywindow.bench.base import Generated, Loaded, Order, Sample, Task, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.documents.base import Document, Mark
from baywindow.errors import ConfigError, SourceError
from baywindow.home import cache_dir
from baywindow.models.fingerprint import write_json

Options = Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes samples for one tokenizer. ``data`` names a file or folder for loaded suites, by suite."""

    counter: TokenCounter
    haystack: Haystack
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def sample(
        self, task: Task, tokens: int, number: int, *, depth: float | None = None, options: Mapping[str, Any] | None = None
    ) -> Sample:
        """Sample ``number`` of a task; for a generated one that is its seed. SourceError where a loaded one has no more."""
        if isinstance(task, Generated):
            return self._generated(task, tokens, number, depth if task.has_depth else None, dict(options or {}))
        if not isinstance(task, Loaded):
            raise ConfigError(f"{task.name} is neither generated nor loaded")
        found = _loaded(task.name, self.data.get(task.name.partition(".")[0], ""), number + 1)
        if number >= len(found):
            raise SourceError(f"{task.name} has {len(found)} samples, not {number + 1}", hint=task.where)
        return found[number]

    def _generated(self, task: Generated, tokens: int, seed: int, depth: float | None, options: dict[str, Any]) -> Sample:
        depends = [task.name, tokens, seed, depth, sorted(options.items()), self.counter.name, self.haystack.name, _code()]
        digest = hashlib.sha256(json.dumps(depends, default=str).encode()).hexdigest()
        path = cache_dir("bench", "samples", digest[:2]) / f"{digest}.json"
        try:
            return from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):  # not there, or cut short: it is made again
            made = task.sample(Order(tokens=tokens, seed=seed, counter=self.counter, haystack=self.haystack, depth=depth, options=options))
        write_json(path, dataclasses.asdict(made))
        return from_dict(json.loads(json.dumps(dataclasses.asdict(made))))  # as it will be read next time: lists are tuples no more


def from_dict(table: dict[str, Any]) -> Sample:
    """A sample from its JSON form."""
    documents = tuple(Document(**{**d, "marks": tuple(Mark(**m) for m in d["marks"])}) for d in table["documents"])
    turns = tuple(Turn(**{**t, "gold": tuple(t["gold"])}) for t in table["turns"])
    return Sample(**{**table, "documents": documents, "turns": turns, "gold": tuple(table["gold"])})


def hay(name: str) -> Haystack:
    """The text that needles are hidden in: a folder, or what is installed."""
    return Haystack.folder(Path(name).expanduser()) if name else Haystack.installed()


@cache
def _code() -> str:
    """A sum over the code that makes samples: those of an older form are made again."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for file in [*sorted(here.glob("tasks/**/*.py")), *sorted(here.glob("*.py"))]:
        if file.parent != here or file.stem in ("base", "counting", "haystack", "sized"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=8)
def _read(task: str, where: str) -> tuple[Any, list[Sample]]:
    from baywindow.bench import find

    [loaded] = [t for t in find.tasks(task) if t.name == task]
    assert isinstance(loaded, Loaded)
    return loaded.load(Path(where).expanduser() if where else None), []


def _loaded(task: str, where: str, count: int) -> list[Sample]:
    """At least ``count`` samples of a loaded task, or all there are; each is read once."""
    source, found = _read(task, where)
    found += itertools.islice(source, max(0, count - len(found)))
    return found
