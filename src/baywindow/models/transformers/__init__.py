"""Local models through transformers: hub id, folder or .gguf. Importing this room imports torch."""

from __future__ import annotations

from baywindow.models.transformers.model import TransformersModel

__all__ = ["TransformersModel"]
