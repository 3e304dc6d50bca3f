"""A third cache, which claims no slot and so may stand beside either."""

from baywindow.registry import Technique, technique


@technique(room="window/caches", summary="stores keys in fewer bits", needs=("weights", "kv"))
class ToyQuantiser(Technique):
    bits: int = 4
