"""Taking a decision back. Its words stay as history; what it did is undone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from baywindow.errors import ConfigError
from baywindow.memory.records import Decision, Record, Scope
from baywindow.memory.store import Store


def undo(store: Store, scope: Scope, decision_id: str, now: datetime) -> Decision:
    """ConfigError if there is no such decision in the scope, if it is undone already, or if a later one builds on it."""
    told = store.decisions(scope, ids=[decision_id])
    if not told:
        raise ConfigError(f"there is no decision {decision_id!r} in this scope", hint="`bay memory history ID` shows them")
    with store.lock(told[0].scope.home):
        decision = store.decisions(scope, ids=[decision_id])[0]
        if decision.undone_at is not None:
            raise ConfigError(f"{decision_id} is undone already", hint="`bay memory history ID` shows what counts now")
        touched = {r.id: r for r in store.records(scope, past=True, ids=[i for i in (decision.before, decision.after) if i])}
        _refuse_if_built_on(store, scope, decision)
        store.undo(decision, _as_before(decision, touched.get(decision.before), touched.get(decision.after), now), now)
    return replace(decision, undone_at=now)


def _as_before(decision: Decision, before: Record | None, after: Record | None, now: datetime) -> list[Record]:
    """The records as they were, but for those that a NOOP only confirmed."""
    if decision.action == "NOOP":
        return []
    changed = []
    if before is not None:
        changed.append(replace(before, retired_at=None, superseded_by="", valid_to=None))
    if after is not None and after.decision == decision.id:  # an older one that took the place of another stays
        changed.append(replace(after, retired_at=now, valid_to=after.valid_to or now))
    return changed


def _refuse_if_built_on(store: Store, scope: Scope, decision: Decision) -> None:
    """A later decision, still in force, that replaced or retired what this one made."""
    if not decision.after or decision.action == "NOOP":
        return
    later = [
        d
        for d in store.decisions(scope, of=[decision.after])
        if d.id != decision.id and d.before == decision.after and d.action in ("UPDATE", "DELETE") and d.undone_at is None
    ]
    if later:
        raise ConfigError(f"{later[-1].id} came later and changed what {decision.id} made", hint=f"undo {later[-1].id} first")
