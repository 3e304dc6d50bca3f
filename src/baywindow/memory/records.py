"""The words of this room: who may see what (`Scope`), what was said (`Turn`), what a system made of it (`Record`), and why (`Decision`).

Turns are the truth: they are kept word for word and never changed. Records are a layer on top that a system makes from turns and can
make again. A record is never changed either: a new version supersedes it, so its history stays and a wrong change can be undone.
Times are in UTC and carry their zone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from baywindow.errors import ConfigError

Speaker = Literal["user", "assistant", "system", "tool"]
Action = Literal["ADD", "UPDATE", "DELETE", "NOOP"]

DEFAULT_USER = "me"
SEVERAL = "*"  # the agent or session of a memory that rests on turns of several
LONGEST_NAME = 200  # characters of a user, agent or session


@dataclass(frozen=True)
class Scope:
    """Whose memory: of one user, one of their agents, one session. In a question None means any; in what is stored there is no None: an
    empty text means none in particular, ``*`` several. ``user`` is never empty: nothing is ever seen across users.
    """

    user: str = DEFAULT_USER
    agent: str | None = None
    session: str | None = None

    def __post_init__(self) -> None:
        for name in ("user", "agent", "session"):
            value = getattr(self, name)
            if name != "user" and value is None:
                continue
            if not isinstance(value, str) or len(value) > LONGEST_NAME or "\0" in value:
                raise ConfigError.bad_value(f"scope {name}", value, f"a text of at most {LONGEST_NAME} characters")
        if not self.user:
            raise ConfigError.bad_value("scope user", self.user, "not empty")

    def sees(self, other: Scope) -> bool:
        """Whether a question in this scope may be shown what is stored under ``other``."""
        return self.user == other.user and self.agent in (None, other.agent) and self.session in (None, other.session)

    @property
    def stored(self) -> Scope:
        """As what is said in this scope is stored. ConfigError for ``*``: something is said in one scope."""
        if SEVERAL in (self.agent, self.session):
            raise ConfigError.bad_value("scope", SEVERAL, "one agent and one session where something is said")
        return Scope(self.user, self.agent or "", self.session or "")

    @property
    def home(self) -> Scope:
        """All sessions of this user with this agent: within it a system compares new turns with old ones."""
        return Scope(self.user, self.agent or "")


def common_scope(scopes: Iterable[Scope]) -> Scope:
    """The narrowest stored scope that covers all: what a record made from several turns belongs to. ConfigError across users."""
    first, *rest = set(scopes)
    if any(other.user != first.user for other in rest):
        raise ConfigError("one memory cannot come from turns of several users", hint="work in the scope of one user")
    agent = first.agent if all(other.agent == first.agent for other in rest) else SEVERAL
    session = first.session if agent == first.agent and all(other.session == first.session for other in rest) else SEVERAL
    return Scope(first.user, agent, session)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one party said at one time, word for word. ``ref`` is the caller's own name for it; ``n`` the order of arrival in its store."""

    id: str
    role: Speaker
    text: str
    said_at: datetime
    scope: Scope
    speaker: str = ""
    ref: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    n: int = 0

    @property
    def who(self) -> str:
        """The speaker's name, or the role where there is none."""
        return self.speaker or self.role

    @property
    def line(self) -> str:
        """As prompts and searches see it."""
        return f"{self.who}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One version of one memory that a system made. ``turns`` are the ids of the turns it rests on, never none.

    ``said_at`` is when the newest of its turns was said; ``valid_from`` and ``valid_to`` say when it held in the world. ``retired_at``
    is when this store stopped holding it for true (None: it still does); ``superseded_by`` is the version that took its place.
    """

    id: str
    system: str
    kind: str
    text: str
    scope: Scope
    turns: tuple[str, ...]
    said_at: datetime
    made_at: datetime
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    retired_at: datetime | None = None
    superseded_by: str = ""
    decision: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def current(self) -> bool:
        return self.retired_at is None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Why a record is as it is: the version before and the one after (ids, empty where there is none), and the system's own reason."""

    id: str
    action: Action
    system: str
    scope: Scope
    made_at: datetime
    before: str = ""
    after: str = ""
    reason: str = ""
    turns: tuple[str, ...] = ()
    undone_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """One piece of memory found for a question: its text as a prompt shows it, and what it rests on.

    ``record`` is empty for a turn shown as it was said. ``tokens`` are of the asking model, 0 until it is packed into a budget.
    """

    text: str
    turns: tuple[str, ...]
    said_at: datetime
    record: str = ""
    kind: str = "turn"
    score: float = 0.0
    tokens: int = 0

    @property
    def id(self) -> str:
        return self.record or self.turns[0]


def of_turn(turn: Turn, score: float = 0.0) -> Recalled:
    return Recalled(text=turn.line, turns=(turn.id,), said_at=turn.said_at, score=score)


def of_record(record: Record, score: float = 0.0) -> Recalled:
    return Recalled(text=record.text, turns=record.turns, said_at=record.said_at, record=record.id, kind=record.kind, score=score)


def new_id(letter: Literal["m", "d"]) -> str:
    """A fresh id; the first letter tells memories (m), turns (t) and decisions (d) apart."""
    return letter + secrets.token_hex(8)


def turn_id(*parts: str) -> str:
    """The id that makes two turns the same: of all that was given."""
    return "t" + hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def utc(value: datetime | str | float) -> datetime:
    """A time in UTC from a datetime (without a zone: taken as UTC), an ISO 8601 text, or seconds since 1970. ConfigError else."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise ConfigError.bad_value("said_at", value, "a time such as 2024-05-08T13:56:00") from None


def plain(item: Turn | Record | Decision | Recalled) -> dict[str, Any]:
    """As JSON shows it: times in ISO 8601, the scope as a table."""

    def of(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, Mapping):
            return {key: of(inner) for key, inner in value.items()}
        return [of(inner) for inner in value] if isinstance(value, list | tuple) else value

    return {name: of(value) for name, value in asdict(item).items()}
