"""Inside an open-weights model: one seam, small policies. `attach` puts a recipe's inside part into a transformers model; `Prefilled`
reads a long text once and answers many questions."""

from baywindow.window.engine.runtime import Runtime, attach
from baywindow.window.prefilled import Prefilled

__all__ = ["Prefilled", "Runtime", "attach"]
