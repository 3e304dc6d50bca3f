"""A second claimant of the same slot."""

from baywindow.registry import Technique, technique


@technique(room="window/caches", summary="keeps other keys", needs=("weights", "kv"), slot="toy_slot")
class ToyCacheTwo(Technique):
    bits: int = 4
