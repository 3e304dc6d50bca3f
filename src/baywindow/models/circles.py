"""Ends a reply that goes in circles.

A small model that is held to a JSON form often cannot close a list or a string any more and repeats itself until its tokens are used up
(notes/memory.md has figures). What it has written by then is all that it will write; stopping there saves the rest.

Only for replies that Baywindow asks for and reads itself: what a user sees is never cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from baywindow.models.base import Completion, Stream

LEAST_CHARACTERS = 16  # of a stretch that counts when it stands there three times
LONG_CHARACTERS = 100  # of one that counts when it stands there twice
COUNTED_CHARACTERS = 40  # of one that counts though its numbers differ: [1, 2, 3] and ["m1", "m2"] are lists, not circles
SEEN_CHARACTERS = 2400  # how far back a circle is looked for
PIECES = 8  # from one look to the next
_NUMBER = re.compile(r"\d+")


def in_circles(text: str) -> bool:
    """Whether a text ends in the same stretch three times over, or twice if it is long. Numbers do not tell long stretches apart: items of
    a list that say the same are often counted on.
    """
    end = text[-SEEN_CHARACTERS:]
    if any(True for _ in _sizes(_common_beginnings(end[::-1]), LEAST_CHARACTERS)):
        return True
    repeated = _common_beginnings(_NUMBER.sub("0", end)[::-1])
    # Not where the stretch is itself made of shorter ones: those are the items then.
    return any(max(repeated[1:COUNTED_CHARACTERS]) < size for size in _sizes(repeated, COUNTED_CHARACTERS))


def _sizes(repeated: list[int], least: int) -> Iterator[int]:
    """Sizes of stretches that stand at the end often enough."""
    for size in range(least, len(repeated)):
        if repeated[size] >= 2 * size or (size >= LONG_CHARACTERS and repeated[size] >= size):
            yield size


def read_until_circling(stream: Stream) -> Completion:
    """The whole reply, or what there was when it began to go in circles."""
    said = ""
    for n, piece in enumerate(stream, 1):
        said += piece
        if n % PIECES == 0 and in_circles(said):
            stream.close()
            break
    return stream.completion


def _common_beginnings(text: str) -> list[int]:
    """For every place, how many characters from there on are those that the text begins with (the Z function; Gusfield 1997)."""
    found = [0] * len(text)
    left = right = 0  # the stretch that reaches furthest and equals the beginning
    for i in range(1, len(text)):
        size = min(right - i, found[i - left]) if i < right else 0
        while i + size < len(text) and text[size] == text[i + size]:
            size += 1
        found[i] = size
        if i + size > right:
            left, right = i, i + size
    return found
