"""Arrays that were calibrated offline: where they are kept, and how they reach a technique.

They lie as safetensors under the cache folder, named by model fingerprint, technique and the settings they depend on, so another model
or another such setting never reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from baywindow.home import cache_dir
from baywindow.registry import Technique
from baywindow.window.base import Calibrated, ModelInfo
from baywindow.window.engine.fingerprint import fingerprint


def arrays_path(model_fingerprint: str, part: Calibrated) -> Path:
    """Where the arrays of this technique with these settings for this model belong."""
    settings = hashlib.sha256(repr(sorted(part.calibrated_by().items())).encode()).hexdigest()[:16]
    model = hashlib.sha256(model_fingerprint.encode()).hexdigest()[:16]
    return cache_dir("prepared", model) / f"{part.card.name}-{settings}.safetensors"


def with_arrays(info: ModelInfo, model: nn.Module, parts: Iterable[Technique]) -> ModelInfo:
    """``info`` with the arrays that were prepared for these parts; a part without any gets none."""
    known = fingerprint(model)
    found = {}
    for part in parts:
        if isinstance(part, Calibrated) and (path := arrays_path(known, part)).is_file():
            found[part.card.name] = load_file(path)
    return replace(info, fingerprint=known, arrays=found)


def save_arrays(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Written beside and moved into place, so an interrupted write leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, beside)
    beside.replace(path)
