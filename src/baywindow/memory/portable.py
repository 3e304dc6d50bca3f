"""A scope's memories as JSON lines: readable, complete, and the way from one store to another.

The first line says what the file is; then come turns as they came together, memories with their history, decisions, and which system has
seen which turns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from baywindow.errors import SourceError
from baywindow.memory.records import Decision, Record, Scope, Turn, plain
from baywindow.memory.store import Store

HEAD = {"baywindow_memory": 1}
TURNS: TypeAdapter[list[Turn]] = TypeAdapter(list[Turn])
RECORD: TypeAdapter[Record] = TypeAdapter(Record)
DECISION: TypeAdapter[Decision] = TypeAdapter(Decision)
SEEN: TypeAdapter[dict[str, list[str]]] = TypeAdapter(dict[str, list[str]])
HINT = "import what `bay memory export` wrote"


@dataclass
class Everything:
    """What a file holds. ``batches`` are names with the turns that came together; ``seen`` the turns each system has absorbed."""

    batches: list[tuple[str, list[Turn]]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    seen: dict[str, list[str]] = field(default_factory=dict)


def export(store: Store, scope: Scope, path: Path) -> int:
    """Write a scope, whole or not at all; how many turns and memories that were."""
    records = store.records(scope, past=True)
    batches = store.batches(scope, "", again=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for line in _lines(store, scope, batches=[(b.name, list(b.turns)) for b in batches], records=records):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SourceError(f"{path} cannot be written: {error.strerror}", hint="name another file") from None
    return len(records) + sum(len(b.turns) for b in batches)


def import_(store: Store, path: Path) -> int:
    """Read a file that `export` wrote; how much of it was new. SourceError with the line that is wrong; then nothing was written."""
    try:
        with path.open(encoding="utf-8") as file:
            return store.bring_in(_read(file, path))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", hint=HINT) from None


def _lines(store: Store, scope: Scope, *, batches: list[tuple[str, list[Turn]]], records: list[Record]) -> Iterator[dict[str, Any]]:
    yield HEAD
    for name, turns in batches:
        yield {"batch": name, "turns": [plain(turn) for turn in turns]}
    for record in records:
        yield {"memory": plain(record)}
    for decision in store.decisions(scope):
        yield {"decision": plain(decision)}
    yield {"seen": store.seen(scope)}


def _read(lines: Iterator[str], path: Path) -> Everything:
    found = Everything()
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            table = json.loads(line)
            if number == 1:
                if table != HEAD:
                    raise ValueError("it does not begin as an export does")
            else:
                _take(found, table)
    except (ValueError, ValidationError, TypeError, KeyError) as error:
        why = str(error).splitlines()[0][:200]
        raise SourceError(f"{path}, line {number}: {why}", hint=HINT) from None
    if not number:
        raise SourceError(f"{path} is empty", hint=HINT)
    said = {turn.id for _, turns in found.batches for turn in turns}
    if lost := next((r for r in found.records if not r.turns or not said.issuperset(r.turns)), None):
        raise SourceError(f"{path}: the memory {lost.id} rests on turns that the file does not hold", hint=HINT)
    return found


def _take(found: Everything, table: dict[str, Any]) -> None:
    if "turns" in table:
        found.batches.append((str(table["batch"]), TURNS.validate_python(table["turns"])))
    elif "memory" in table:
        found.records.append(RECORD.validate_python(table["memory"]))
    elif "decision" in table:
        found.decisions.append(DECISION.validate_python(table["decision"]))
    else:
        found.seen.update(SEEN.validate_python(table["seen"]))
