"""Rows of the tables as the room's words, and back."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa

from baywindow.memory.records import Decision, Record, Scope, Turn
from baywindow.memory.search import same_text

Row = sa.RowMapping


def turn_row(turn: Turn, batch: str) -> dict[str, Any]:
    names = ("id", "role", "speaker", "text", "said_at", "ref")
    return {name: getattr(turn, name) for name in names} | scope_row(turn.scope) | {"data": dict(turn.data), "batch": batch}


def record_row(record: Record) -> dict[str, Any]:
    names = ("id", "system", "kind", "text", "said_at", "made_at", "valid_from", "valid_to", "retired_at", "superseded_by", "decision")
    row = {name: getattr(record, name) for name in names} | scope_row(record.scope)
    return row | {"data": dict(record.data), "digest": digest(record.text)}


def decision_row(decision: Decision) -> dict[str, Any]:
    names = ("id", "action", "system", "made_at", "before", "after", "reason", "undone_at")
    return {name: getattr(decision, name) for name in names} | scope_row(decision.scope) | {"turns": list(decision.turns)}


def scope_row(scope: Scope) -> dict[str, str]:
    return {"user": scope.user, "agent": scope.agent or "", "session": scope.session or ""}


def digest(text: str) -> str:
    """Finds equal texts without holding a second copy of them."""
    return hashlib.blake2b(same_text(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def turn_of(row: Row) -> Turn:
    names = ("id", "role", "text", "said_at", "speaker", "ref", "data", "n")
    return Turn(scope=_scope(row), **{name: row[name] for name in names})


def record_of(row: Row, turn_ids: tuple[str, ...]) -> Record:
    names = ("id", "system", "kind", "text", "said_at", "made_at", "valid_from", "valid_to", "retired_at", "superseded_by", "decision")
    return Record(scope=_scope(row), turns=turn_ids, data=row["data"], **{name: row[name] for name in names})


def decision_of(row: Row) -> Decision:
    names = ("id", "action", "system", "made_at", "before", "after", "reason", "undone_at")
    return Decision(scope=_scope(row), turns=tuple(row["turns"]), **{name: row[name] for name in names})


def within(table: sa.Table, scope: Scope) -> list[sa.ColumnElement[bool]]:
    """The conditions for what a scope sees."""
    parts = [table.c.user == scope.user]
    parts += [table.c[name] == value for name, value in (("agent", scope.agent), ("session", scope.session)) if value is not None]
    return parts


def _scope(row: Row) -> Scope:
    return Scope(row["user"], row["agent"], row["session"])
