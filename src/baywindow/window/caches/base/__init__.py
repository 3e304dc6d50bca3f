"""The contract of the caches room: what stays of keys and values, and in which form.

A recipe chains at most one policy of each role: a *reducer* drops or merges tokens, an *allocator* shares the budget among heads,
a *narrower* leaves channels of the keys out, a *joiner* stores several layers together, a *quantiser* packs what stayed, a *mover*
says where it lies. The engine calls them; they hold no tensors of their own.
Sliding-window layers never reach a policy.
"""

from __future__ import annotations

from baywindow.window.caches.base.choosing import Allocator, Finisher, Reducer, Selector, Whole, top_of_each_head
from baywindow.window.caches.base.feeding import Codec, Feed, Piece, Prefill
from baywindow.window.caches.base.joining import Joiner, Narrower, Together
from baywindow.window.caches.base.packing import Encode, Mover, Packing, Quantiser
from baywindow.window.caches.base.policy import SURPRISAL, CachePolicy, Moment, Phase, Seen, options_of
from baywindow.window.caches.base.segment import PlainSegment, Segment

__all__ = [
    "SURPRISAL",
    "Allocator",
    "CachePolicy",
    "Codec",
    "Encode",
    "Feed",
    "Finisher",
    "Joiner",
    "Moment",
    "Mover",
    "Narrower",
    "Packing",
    "Phase",
    "Piece",
    "PlainSegment",
    "Prefill",
    "Quantiser",
    "Reducer",
    "Seen",
    "Segment",
    "Selector",
    "Together",
    "Whole",
    "options_of",
    "top_of_each_head",
]
