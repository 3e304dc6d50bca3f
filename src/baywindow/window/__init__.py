"""Inside an open-weights model: one seam, small policies. `attach` puts a recipe's inside part into a transformers model."""

from baywindow.window.engine.runtime import Runtime, attach

__all__ = ["Runtime", "attach"]
