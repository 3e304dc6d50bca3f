"""A compressor that must be told how much."""

from baywindow.registry import Technique, technique


@technique(room="context/compress", summary="squeezes passages")
class ToySqueeze(Technique):
    rate: float
