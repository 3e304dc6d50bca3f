"""A memory, which may stand first outside."""

from baywindow.registry import Technique, technique


@technique(room="memory", summary="remembers")
class ToyMemory(Technique):
    pass
