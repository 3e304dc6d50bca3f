"""What saved contexts and calibrated arrays are bound to: the weights themselves."""

from __future__ import annotations

import hashlib
import weakref

import torch
from torch import nn

_known: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def fingerprint(model: nn.Module) -> str:
    """The hub commit where the model came from one, else a SHA-256 over the names, shapes and bytes of its weights (read once a
    process and model: about a second a gigabyte)."""
    commit = getattr(getattr(model, "config", None), "_commit_hash", None)
    if commit:
        return f"hub:{commit}"
    if model not in _known:
        digest = hashlib.sha256()
        for name, weight in sorted(model.named_parameters()):
            plain = weight.detach().cpu().contiguous()
            digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
            digest.update(plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        _known[model] = "sha256:" + digest.hexdigest()
    return _known[model]
