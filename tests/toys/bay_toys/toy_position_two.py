"""Another position scheme."""

from baywindow.registry import Technique, technique


@technique(room="window/positions", summary="moves positions otherwise", needs=("weights",))
class ToyPositionTwo(Technique):
    pass
