"""What people pass to `Memory.add`, as turns. Recalled text is taken out of it: what came from memory does not go in again as new."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from baywindow.errors import ConfigError
from baywindow.memory.prompting import without_recalled
from baywindow.memory.records import Scope, Speaker, Turn, turn_id, utc
from baywindow.models.base import Message

Said = str | Message | Mapping[str, Any] | Turn
KEYS = frozenset({"role", "content", "name", "said_at", "ref", "data"})
SHAPE = "a text, or a table with `role` and `content`, and where known `name`, `said_at`, `ref`, `data`"


def turns_of(messages: Said | Sequence[Said], scope: Scope, said_at: datetime | str | float | None, now: datetime) -> list[Turn]:
    """Turns in order. What is given without a time was said at ``said_at``, or now.

    The same thing is the same turn: its id is made of scope, role, speaker, ref, text, and of the time only if one was given. So a call
    that is repeated adds nothing, and two equal lines of one call stay two.
    """
    given = [messages] if isinstance(messages, str | Message | Mapping | Turn) else list(messages)
    made: list[Turn] = []
    times: Counter[str] = Counter()
    for one in given:
        table = _table(one)
        text = without_recalled(table["content"])
        if not text.strip():
            continue
        when = table.get("said_at", said_at)
        name = "" if when is None else utc(when).isoformat()
        stored = scope.stored
        parts = (stored.user, str(stored.agent), str(stored.session), table["role"], table["name"], table["ref"], name, text)
        first = turn_id(*parts)
        times[first] += 1
        made.append(
            Turn(
                id=first if times[first] == 1 else turn_id(*parts, str(times[first])),
                role=table["role"],
                text=text,
                said_at=now if when is None else utc(when),
                scope=stored,
                speaker=table["name"],
                ref=table["ref"],
                data=table["data"],
            )
        )
    return made


def _table(one: Said) -> dict[str, Any]:
    if isinstance(one, str):
        one = Message("user", one)
    if isinstance(one, Message):
        return {"role": one.role, "content": one.content, "name": "", "ref": "", "data": {}}
    if isinstance(one, Turn):
        return {"role": one.role, "content": one.text, "name": one.speaker, "ref": one.ref, "data": one.data, "said_at": one.said_at}
    if not isinstance(one, Mapping) or (unknown := set(one) - KEYS):
        raise ConfigError(f"a message has no {sorted(unknown)[0]!r}" if isinstance(one, Mapping) else f"{one!r} is no message", hint=SHAPE)
    table = {"role": "user", "name": "", "ref": "", "data": {}} | {key: value for key, value in one.items() if value is not None}
    texts = all(isinstance(table.get(key), str) for key in ("role", "content", "name", "ref"))
    if not texts or table["role"] not in get_args(Speaker) or not isinstance(table["data"], Mapping):
        raise ConfigError("a message is not as it should be", hint=f"it is {SHAPE}; role: {', '.join(get_args(Speaker))}")
    try:
        json.dumps(table["data"])
    except (TypeError, ValueError):
        raise ConfigError("the data of a message cannot be stored", hint="data holds what JSON can") from None
    return table
