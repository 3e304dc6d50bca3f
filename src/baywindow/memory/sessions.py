"""Where one session ends and the next begins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from baywindow.memory.records import Turn


def sessions(turns: Sequence[Turn], gap: timedelta) -> list[list[Turn]]:
    """Turns in order, parted where the session's name changes, or, without names, where nobody spoke for longer than ``gap``."""
    made: list[list[Turn]] = []
    for turn in turns:
        last = made[-1][-1] if made else None
        named = last is not None and (turn.scope.session or last.scope.session)
        if last is not None and (turn.scope.session == last.scope.session if named else turn.said_at - last.said_at <= gap):
            made[-1].append(turn)
        else:
            made.append([turn])
    return made
