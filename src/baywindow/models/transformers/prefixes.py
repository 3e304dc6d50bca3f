"""States of a transformers model: the stock cache's keys and values, or a window cache as it is in the middle of a prompt.

A window cache is kept before anything is compressed, so that the question still takes part in what is dropped.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicSlidingWindowLayer

from baywindow import recipe
from baywindow.errors import SourceError
from baywindow.models.prefixes import Level, Prefix, State, whole_blocks
from baywindow.models.transformers import loop
from baywindow.window import Runtime
from baywindow.window.base import Calibrated
from baywindow.window.caches.base import Codec
from baywindow.window.engine import saving
from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.tail import own

if TYPE_CHECKING:
    from baywindow.models.transformers.model import TransformersModel

CODER = "cachegen"  # what writes every level but the exact one


def read(model: TransformersModel, prefix: Prefix, rows: int, alive: Callable[[], bool]) -> Generator[None, None, tuple[Any, int]]:
    """Returns a cache that holds the prefix, once a row, and how many of its tokens were not read for it, and yields after each piece that
    was. Stops early when ``alive`` says no."""
    states = model.states
    state = prefix.longest(states.load)
    cache, reused = (model.new_cache(), 0) if state is None else (states.give(state), state.tokens)
    ids = torch.tensor([prefix.ids], device=model.model.device)
    size, whole = loop.CHUNK_TOKENS.get(model.model.device.type, 512), whole_blocks(len(prefix.ids))
    spent, started = 0.0, time.perf_counter()  # without what others do between two pieces
    marked: Marked = {}
    for start, end in [*loop.pieces(reused, whole, size), *loop.pieces(max(reused, whole), len(prefix.ids), size)]:
        if not alive():
            return cache, reused
        with model.lock:
            model.cache_phase(cache, "more")
            loop.forward(model.model, ids[:, start:end], ids.new_ones(1, end), cache)
        if end == whole < len(prefix.ids):
            marked = states.mark(cache)
        spent += time.perf_counter() - started
        yield
        started = time.perf_counter()
    if reused < len(prefix.ids):
        prefix.keep(states.take(cache, marked), len(prefix.ids) - reused, spent)
    if rows > 1:
        cache.batch_repeat_interleave(rows)
    return cache, reused


@dataclass(frozen=True)
class Layer:
    """Keys and values [1, H, L, D] of one layer after ``seen`` tokens; L is less than that in a sliding layer."""

    keys: Tensor
    values: Tensor
    seen: int


Marked = Mapping[int, Layer]  # layers, by number, as they were at the last whole block; those that cannot be cut back to it


class Plain(State):
    """A stock cache. The tensors are those that it held: growing makes new ones."""

    def __init__(self, layers: Sequence[Layer], tokens: int, marked: Marked = MappingProxyType({})) -> None:
        self.layers, self.tokens, self.marked = tuple(layers), tokens, marked
        self.nbytes = sum(t.numel() * t.element_size() for layer in (*layers, *marked.values()) for t in (layer.keys, layer.values))

    def upto(self, tokens: int) -> State | None:
        if tokens == self.tokens:
            return self
        found = []
        for i, layer in enumerate(self.layers):
            if layer.keys.shape[2] == layer.seen:  # nothing has slid away
                found.append(Layer(layer.keys[:, :, :tokens], layer.values[:, :, :tokens], tokens))
            elif i in self.marked and self.marked[i].seen == tokens:
                found.append(self.marked[i])
            else:
                return None
        return Plain(found, tokens)

    def save(self, folder: Path, level: Level) -> bool:
        tensors: dict[str, Tensor] = {}
        for i, layer in enumerate(self.layers):
            tensors |= {f"{i}.tail.keys": layer.keys, f"{i}.tail.values": layer.values}  # the names that a codec knows
        described = {"tokens": self.tokens, "seen": [layer.seen for layer in self.layers], "level": level}
        saving.write(folder, described, tensors, coder(level))
        return True


class PlainStates:
    """Takes states from stock caches and makes caches of them."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def mark(self, cache: Any) -> Marked:
        """What the end of the whole blocks will need once more has been read: layers from which something slides away."""
        return {i: _held(layer) for i, layer in enumerate(cache.layers) if isinstance(layer, DynamicSlidingWindowLayer)}

    def take(self, cache: Any, marked: Marked) -> State | None:
        """None for a cache with layers of another kind, which may hold more than keys and values."""
        if not loop.is_plain(cache):
            return None
        layers = [_held(layer) for layer in cache.layers]
        needed = {i: layer for i, layer in marked.items() if layers[i].keys.shape[2] < layers[i].seen}
        return Plain(layers, int(cache.get_seq_length()), needed)

    def give(self, state: State) -> Any:
        assert isinstance(state, Plain)
        cache = loop.new_cache(self._model)
        for layer, held in zip(cache.layers, state.layers, strict=True):
            keys, values = held.keys.to(self._model.device), held.values.to(self._model.device)
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            if layer.is_sliding:
                layer.cumulative_length = held.seen
        return cache

    def load(self, folder: Path) -> State:
        manifest = saving.read_manifest(folder, {})
        tensors = saving.read_tensors(folder, manifest, coder(manifest["level"]))
        layers = [Layer(tensors[f"{i}.tail.keys"], tensors[f"{i}.tail.values"], int(n)) for i, n in enumerate(manifest["seen"])]
        self._check(layers, int(manifest["tokens"]), folder)
        return Plain(layers, int(manifest["tokens"]))

    def _check(self, layers: Sequence[Layer], tokens: int, folder: Path) -> None:
        """Shapes that this model's cache would have; anything else would fail in the middle of a reply."""
        fresh = loop.new_cache(self._model).layers
        fits = len(fresh) == len(layers)
        for layer, held in zip(fresh, layers, strict=False):
            length = min(tokens, layer.sliding_window - 1) if layer.is_sliding else tokens
            for t in (held.keys, held.values):
                fits = fits and t.dim() == 4 and (t.shape[0], t.shape[2]) == (1, length) and t.dtype == self._model.dtype
            fits = fits and held.seen == tokens
        if not fits:
            raise SourceError(f"the kept context {folder} is damaged: its shapes are not this model's", hint="make it again")


def _held(layer: Any) -> Layer:
    return Layer(own(layer.keys.to("cpu")), own(layer.values.to("cpu")), int(layer.get_seq_length()))


class Inside(State):
    """A window cache in the middle of a prompt, after whole blocks: it cannot be cut back to them."""

    def __init__(self, cache: WindowCache) -> None:
        self.cache = cache
        self.tokens, self.nbytes = cache.get_seq_length(), cache.nbytes()

    def save(self, folder: Path, level: Level) -> bool:
        if any(isinstance(part, Calibrated) for part in self.cache.runtime.parts.all):
            return False  # it depends on arrays that may be prepared anew, of which its name says nothing
        saving.save(self.cache, folder, {"level": level}, coder(level))
        return True


class InsideStates:
    """Takes states from the caches of one attached recipe and makes caches of them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def mark(self, cache: WindowCache) -> Marked:
        return {}

    def take(self, cache: WindowCache, marked: Marked) -> State | None:
        return Inside(copy.deepcopy(cache))

    def give(self, state: State) -> WindowCache:
        assert isinstance(state, Inside)
        cache = copy.deepcopy(state.cache)
        cache.runtime = self._runtime
        self._runtime.last_cache = cache
        return cache

    def load(self, folder: Path) -> State:
        manifest = saving.read_manifest(folder, {})
        return Inside(saving.load(self._runtime, folder, manifest, coder(manifest["level"])))


def coder(level: str) -> Codec | None:
    """What writes and reads a level; None: plain safetensors."""
    if level == "exact":
        return None
    (made,) = recipe.parse(f"{CODER}(quality={level})").inside
    assert isinstance(made, Codec)
    return made
