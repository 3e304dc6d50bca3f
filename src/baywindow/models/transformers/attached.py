"""A local model with a recipe's inside half in place: the only bridge from models to the window engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from baywindow.errors import ConfigError
from baywindow.models.base import Held, LanguageModel
from baywindow.models.transformers.prefixes import InsideStates
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.window import Runtime, attach
from baywindow.window.base import InsideTechnique
from baywindow.window.engine.picture import kept_map
from baywindow.window.engine.prepare import prepare

if TYPE_CHECKING:
    from baywindow.models.transformers.model import TransformersModel
    from baywindow.window.engine.cache import WindowCache


@contextmanager
def attached(model: TransformersModel, parts: Sequence[Technique]) -> Iterator[LanguageModel]:
    """A view of ``model`` through which every generation runs with ``parts``; the model itself is as before when this ends.

    The view's window is as long as the recipe's position scheme reaches, if that is longer than the model's own. What a cache drops is
    chosen once a prompt is whole, with the question in it.
    """
    with attach(model.model, Recipe(tuple(parts)), tokenizer=model.tokenizer) as runtime:
        view = copy.copy(model)
        view.new_cache = runtime.cache
        view.states = InsideStates(runtime)
        view.attached_to = True
        view.cache_phase = _tell
        view.context_length = max(model.context_length, runtime.reach())
        view.name = f"{model.name}+{runtime.recipe}"
        view.seen_inside = lambda: _remark(runtime)
        view.held_inside = lambda: _held(runtime, model.tokenizer)
        yield view


def prepared(model: TransformersModel, part: Technique, text: str) -> Path:
    """The file with what ``part`` found on this text. Raises ConfigError for a technique that has nothing to prepare."""
    if not isinstance(part, InsideTechnique):
        raise ConfigError(f"{part.card.name} has nothing to prepare", hint="use it as it is")
    ids = torch.tensor([model.text_ids(text)])
    return prepare(model.model, part, ids)


def _remark(runtime: Runtime) -> str:
    """One line on the last generation: what stayed of what was read, and what it held."""
    report = runtime.report()
    kept = [tokens for layer in report.kept for row in layer for tokens in row]
    share = f"{sum(kept) / len(kept):.0f} of {max(report.seen)} tokens a head" if kept and report.seen else "nothing"
    lines = [f"inside the model ({report.recipe}): kept {share}, {report.nbytes / 2**20:.1f} of {report.stock_nbytes / 2**20:.1f} MiB"]
    return "; ".join([*lines, *report.notes])


def _held(runtime: Runtime, tokenizer: Any) -> Held | None:
    """Which share of the heads of full-attention layers holds each token of the last prompt, and where in its text the token stands."""
    cache = runtime.last_cache
    if cache is None or not cache.ids or not (runtime.parts.reducer or runtime.parts.finisher):
        return None
    layers = [layer.index for layer in runtime.info.full_layers]
    ids = [i for i in torch.cat(cache.ids, dim=1)[0, : cache.prompt_slots].tolist() if i >= 0]
    kept = kept_map(cache)[layers].float().mean(dim=(0, 1))[: len(ids)]
    if bool((kept == 1).all()):
        return None
    text, offsets = located(tokenizer, ids)
    return Held(text, offsets, kept.numpy())


def located(tokenizer: Any, ids: list[int]) -> tuple[str, NDArray[np.int64]]:
    """The text of token ids and the characters of each, [token, 2]. Where the text tokenises otherwise in its middle (plain characters
    that spell a control token), the places of the tokens there are estimated."""
    text = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    again = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = np.array(again.offset_mapping, dtype=np.int64).reshape(-1, 2)
    if again.input_ids == ids:
        return text, offsets
    same = next((i for i, (a, b) in enumerate(zip(ids, again.input_ids, strict=False)) if a != b), min(len(ids), len(offsets)))
    at = np.concatenate([np.arange(same), np.linspace(same, len(offsets) - 1, len(ids) - same).round()]).astype(np.int64)
    return text, offsets[at.clip(0, max(0, len(offsets) - 1))]


def _tell(cache: WindowCache, phase: str) -> None:
    if phase == "done":
        cache.close()
    else:
        cache.mode = "auto" if phase == "last" else "hold"
