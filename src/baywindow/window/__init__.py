"""Inside an open-weights model: one seam, small policies. `attach` puts a recipe's inside part into a transformers model; `Prefilled`
reads a long text once and answers many questions; `prepare` calibrates the techniques that need it."""

from baywindow.window.engine.prepare import prepare
from baywindow.window.engine.runtime import Runtime, attach
from baywindow.window.prefilled import Prefilled

__all__ = ["Prefilled", "Runtime", "attach", "prepare"]
