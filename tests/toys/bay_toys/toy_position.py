"""A position scheme; its room takes one technique a recipe."""

from baywindow.registry import Technique, technique


@technique(room="window/positions", summary="moves positions", needs=("weights",))
class ToyPosition(Technique):
    factor: float = 2.0
