"""A reader."""

from baywindow.registry import Technique, technique


@technique(room="context/read", summary="reads")
class ToyRead(Technique):
    rounds: int = 1
