"""Local models through transformers: hub id, folder or .gguf.

Nothing is imported before it is used: the embedder's encoder lives here too, and needs torch but not transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from baywindow.uncollected import uncollected

if TYPE_CHECKING:
    from baywindow.models.transformers.model import TransformersModel

__all__ = ["TransformersModel"]


def __getattr__(name: str) -> Any:
    if name != "TransformersModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with uncollected():
        from baywindow.models.transformers.model import TransformersModel

    return TransformersModel
