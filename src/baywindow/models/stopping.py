"""What leaves a stream, and when: no broken characters, no stop string or half of one.

`Decoder` turns token ids into text as they come. A token may end inside a character (an emoji is several), so text is held back
until it is whole; at the end of a stream an unfinished character is dropped. `Stops` holds back text that may be the beginning of a
stop string, whatever the token borders are, and ends the stream before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"
_HELD_TOKENS = 16  # more tokens than any character has: from here on the model means its broken bytes


class Decoder:
    """Text of token ids, piece by piece; ``decode`` is the tokenizer's, with special tokens left out.

    Always decodes from a few tokens back, because what a token spells may depend on the one before it (leading spaces).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._from = 0  # tokens before this one no longer matter
        self._said = 0  # tokens before this one have been given out

    def push(self, token: int) -> str:
        """The text that this token completes, possibly empty."""
        self._ids.append(token)
        new = self._new()
        if new.endswith(BROKEN) and len(self._ids) - self._said <= _HELD_TOKENS:
            return ""
        if new:
            self._from, self._said = self._said, len(self._ids)
        return new

    def flush(self) -> str:
        """What is still held, without an unfinished character at its end."""
        new = self._new().rstrip(BROKEN)
        self._from = self._said = len(self._ids)
        return new

    def _new(self) -> str:
        before = self._decode(self._ids[self._from : self._said])
        return self._decode(self._ids[self._from :])[len(before) :]


class Stops:
    """Cuts a stream at the first stop string. With ``strip`` blank text at the very beginning is left out (and stops nothing)."""

    def __init__(self, stops: Sequence[str], *, strip: bool = False) -> None:
        self._stops = tuple(s for s in stops if s)
        self._strip = strip
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that may be shown now; `stopped` is set once a stop string has come."""
        if self.stopped:
            return ""
        self._held += text
        if self._strip:
            self._held = self._held.lstrip()
            self._strip = not self._held
        # The one that is complete first, as if the text had come character by character; of two that end together the longer.
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)[1]], ""
            return shown
        keep = self._beginning()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """At the end of the stream: what was held back, for no stop string came."""
        shown, self._held = self._held, ""
        return shown

    def _beginning(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
