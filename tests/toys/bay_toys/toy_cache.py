"""A store of keys and values that claims a slot."""

from typing import ClassVar

from baywindow.budget import Budgeted
from baywindow.registry import Technique, technique


@technique(room="window/caches", summary="keeps some keys", needs=("weights", "kv"), slot="toy_slot", paper="arXiv:0000.00001", year=2024)
class ToyCache(Budgeted, Technique):
    default_budget_tokens: ClassVar[int] = 64

    sink_tokens: int = 4  # S: first tokens that always stay
