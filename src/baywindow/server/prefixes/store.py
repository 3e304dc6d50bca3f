"""Both places together: what is looked for where, what is kept, and whether loading beats reading again.

A state goes to memory when it is made and to disk when it is first used again: most prompts come once, and writing costs as much as
some sentences of a reply. Writing is done by a thread of its own, between replies: beside one it would take half of the time it spares.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from baywindow.errors import ConfigError
from baywindow.models.base import LanguageModel, Prompt, Sampling
from baywindow.models.prefixes import LEAST_TOKENS, Level, Load, Prefix, State, whole_blocks
from baywindow.models.stable import stable_part
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.server.prefixes.disk import Disk, bytes_of
from baywindow.server.prefixes.keys import SHARED, names_of
from baywindow.server.prefixes.memory import Memory

log = logging.getLogger("baywindow.server")
MOST_WAITING = 4  # states to be written; they take memory beyond the bound
PATIENCE_S = 30.0  # that a state waits for a moment without replies
PAUSE_S = 60.0  # without writing after the disk was full
WEIGHT = 0.3  # of the newest measurement of a rate
RECOVERY = 1.1  # of the rate of loading, each time that it was not worth it


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """``level`` is that of the disk; memory holds states as they are. ``shared``: one tenant may have what another's text has made."""

    memory_bytes: int = 1_000_000_000
    disk_bytes: int = 8_000_000_000
    level: Level = "3"
    shared: bool = False

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "disk_bytes"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 (nothing) or more")


class PrefixStore:
    """One server's. ``counts``: hits from memory and disk, misses, tokens that were not read again, damaged states, and failed writes.
    ``quiet`` is set by whoever runs the model while no reply is under way."""

    def __init__(self, folder: Path, options: CacheOptions) -> None:
        self.memory = Memory(options.memory_bytes)
        self.disk = Disk(folder, options.disk_bytes, options.level)
        self.rates = Rates()
        self.counts: Counter[str] = Counter()
        self._shared = options.shared
        self.quiet = threading.Event()
        self.quiet.set()
        self._paused_until = 0.0
        self._waiting: queue.Queue[tuple[str, State] | None] = queue.Queue(MOST_WAITING)
        self._writer = threading.Thread(target=self._write_all, name="baywindow-prefixes", daemon=True)
        self._writer.start()

    def of(
        self, model: LanguageModel, tenant: str, inside: tuple[Technique, ...], prompt: Prompt | str, sampling: Sampling
    ) -> KeptPrefix | None:
        """The beginning of a prompt, if it is long enough to be kept. With techniques inside it is whole blocks: what they hold cannot be
        cut back to those, and one that can be used for nothing but the same text would take twice the room."""
        ids = model.beginning(prompt, stable_part(prompt), sampling)
        if inside:
            ids = ids[: whole_blocks(len(ids))]
        if len(ids) < LEAST_TOKENS:
            return None
        bound_to = (model.state_kind, Recipe(inside).hash)
        return KeptPrefix(self, ids, names_of(ids, SHARED if self._shared else f"tenant {tenant}", bound_to))

    def write_later(self, name: str, state: State) -> None:
        """Nothing, where it lies there already or the disk was full a moment ago."""
        if not self.disk.most_bytes or time.monotonic() < self._paused_until or name in self.disk:
            return
        try:
            self._waiting.put_nowait((name, state))
        except queue.Full:
            self.counts["unwritten"] += 1

    def close(self) -> None:
        """Writes what waits."""
        self.quiet.set()
        self._waiting.put(None)
        self._writer.join()

    def _write_all(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            self.quiet.wait(PATIENCE_S)
            if time.monotonic() < self._paused_until:
                continue
            try:
                self.disk.write(*waiting)
            except Exception as error:  # a full disk, above all; replies do not depend on it
                self.counts["unwritten"] += 1
                self._paused_until = time.monotonic() + PAUSE_S
                log.warning("a cached context could not be written (%s); nothing is for %d s", error, PAUSE_S)


class KeptPrefix(Prefix):
    """One prompt's beginning. ``names``: of the ends of its blocks, and of its own (see `names_of`)."""

    key: str
    near: str

    def __init__(self, store: PrefixStore, ids: tuple[int, ...], names: list[tuple[int, str]]) -> None:
        self.ids, self.key = ids, names[-1][1]
        self.near = dict(names)[whole_blocks(len(ids))]
        self._store, self._names = store, names
        self._reused = 0

    def in_blocks(self) -> KeptPrefix:
        """Its whole blocks alone."""
        whole = whole_blocks(len(self.ids))
        return KeptPrefix(self._store, self.ids[:whole], [one for one in self._names if one[0] <= whole])

    def is_stored(self) -> bool:
        """Whether some of it is kept. It may be gone by the time it is asked for."""
        memory, disk = self._store.memory, self._store.disk
        return any(name in memory or name in disk for _, name in self._candidates())

    def longest(self, load: Load) -> State | None:
        state = self._longest(load)
        self._reused = state.tokens if state is not None else 0
        counts = self._store.counts
        counts["tokens"] += self._reused
        counts["misses"] += state is None
        return state

    def keep(self, state: State | None, read_tokens: int, seconds: float) -> None:
        self._store.rates.read(read_tokens, seconds)
        if state is None or len(self.ids) - self._reused < LEAST_TOKENS:
            return
        if self._put(self.key, state):
            return
        self._store.write_later(self.key, state)
        if self.near != self.key and (shorter := state.upto(whole_blocks(state.tokens))) is not None:
            self._store.write_later(self.near, shorter)

    def _longest(self, load: Load) -> State | None:
        store = self._store
        held = next(((tokens, name) for tokens, name in self._candidates() if name in store.memory), None)
        least = held[0] if held is not None else 0
        for tokens, name in self._candidates():
            if tokens <= least:
                break
            path = store.disk.find(name)
            if path is not None and (state := self._load(name, path, tokens, tokens - least, load)) is not None:
                return state
        state = store.memory.get(held[1], held[0]) if held is not None else None
        if state is not None and held is not None:
            store.counts["memory"] += 1
            store.write_later(held[1], state)
        return state

    def _load(self, name: str, path: Path, tokens: int, spared: int, load: Load) -> State | None:
        """From disk, if that is quicker than reading ``spared`` tokens. What is damaged is removed."""
        store, size = self._store, bytes_of(path)
        if not store.rates.loading_pays(size, spared):
            store.counts["recomputed"] += 1
            return None
        started = time.perf_counter()
        try:
            state = load(path)
            if state.tokens != tokens:
                raise ValueError(f"it holds {state.tokens} tokens, not {tokens}")
        except Exception as error:  # whatever a damaged file makes of itself: it is not trusted, and read anew
            if path.exists():  # else another server has removed it meanwhile
                store.counts["damaged"] += 1
                log.warning("a cached context was damaged and is removed (%s)", error)
                store.disk.remove(path)
            return None
        store.rates.loaded(size, time.perf_counter() - started)
        self._put(name, state)
        store.counts["disk"] += 1
        return state

    def _put(self, name: str, state: State) -> bool:
        """Into memory, to be found by its whole blocks too."""
        whole = whole_blocks(state.tokens)
        can_be_cut = whole < state.tokens and state.upto(whole) is not None
        return self._store.memory.put(name, state, dict(self._names)[whole] if can_be_cut else "")

    def _candidates(self) -> list[tuple[int, str]]:
        """Beginnings of this beginning that may be kept, longest first: tokens and name."""
        return [one for one in reversed(self._names) if one[0] >= LEAST_TOKENS]


class Rates:
    """Tokens a second of reading prompts and bytes a second of loading states, as measured here so far; None before the first."""

    def __init__(self) -> None:
        self.tokens_per_s: float | None = None
        self.bytes_per_s: float | None = None

    def read(self, tokens: int, seconds: float) -> None:
        self.tokens_per_s = _mixed(self.tokens_per_s, tokens, seconds)

    def loaded(self, nbytes: int, seconds: float) -> None:
        self.bytes_per_s = _mixed(self.bytes_per_s, nbytes, seconds)

    def loading_pays(self, nbytes: int, tokens: int) -> bool:
        """True as long as one of the two is not known: loading is what it takes to know. What was slow once is tried again in time."""
        if self.tokens_per_s is None or self.bytes_per_s is None:
            return True
        if nbytes / self.bytes_per_s < tokens / self.tokens_per_s:
            return True
        self.bytes_per_s *= RECOVERY
        return False


def _mixed(old: float | None, amount: int, seconds: float) -> float:
    new = amount / max(seconds, 1e-6)
    return new if old is None else (1 - WEIGHT) * old + WEIGHT * new
