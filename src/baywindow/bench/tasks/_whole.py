"""Units that may not be cut (rows, lines of code, turns of a chat) taken to a number of tokens."""

from __future__ import annotations

from collections.abc import Callable

from baywindow.bench.counting import TokenCounter
from baywindow.bench.sized import Drawn

_UNITS, _FEWEST, _TOKENS = 192, 48, 8000  # counted: so many units, or fewer if these make so many tokens


class Whole:
    """Draws units and takes as many from the start as fill a room, each counted with the joint before it.

    The first units are counted one by one. A room they overfill ends with the one or two of them that fit best, so that the gap is a few
    tokens. Beyond, their mean length is trusted, known to a few percent: `sized` counts the whole and corrects.
    """

    def __init__(self, draw: Callable[[], str], counter: TokenCounter, joint: str = "\n") -> None:
        self._drawn = Drawn(draw)
        self._costs: list[int] = []
        for unit in self._drawn.endless():
            self._costs.append(counter(joint + unit))
            if len(self._costs) == _UNITS or (len(self._costs) >= _FEWEST and sum(self._costs) > _TOKENS):
                break

    def upto(self, room: int) -> list[str]:
        """Whole units of about ``room`` tokens; none if the room is smaller than every unit."""
        if room > sum(self._costs):
            return self.first(round(room * len(self._costs) / sum(self._costs)))
        taken, widest = 0, max(self._costs)
        while taken < len(self._costs) and room >= self._costs[taken] + widest:
            room -= self._costs[taken]
            taken += 1
        return self.first(taken) + [self._drawn[i] for i in self._best(taken, room)]

    def first(self, count: int) -> list[str]:
        return [unit for unit, _ in zip(self._drawn.endless(), range(count), strict=False)]

    def _best(self, start: int, room: int) -> tuple[int, ...]:
        """At most two units from ``start`` on that together fill most of the room."""
        costs = self._costs
        rest = [i for i in range(start, len(costs)) if costs[i] <= room]
        pairs = ((i, j) for i in rest for j in rest if i < j and costs[i] + costs[j] <= room)
        return max([(), *((i,) for i in rest), *pairs], key=lambda chosen: sum(costs[i] for i in chosen))
