"""`Memory`: the door to what is remembered. The CLI, the chat, the server and `ask` all come in here."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType

from baywindow import home
from baywindow import recipe as recipes
from baywindow.budget import Budget, Meter
from baywindow.config import Settings
from baywindow.errors import ConfigError, RecipeError
from baywindow.memory import portable, undoing
from baywindow.memory.answers import Added, Forgot, History, Listed, Remembered
from baywindow.memory.base import MemorySystem
from baywindow.memory.calls import Caller
from baywindow.memory.messages import Said, turns_of
from baywindow.memory.prompting import rendered
from baywindow.memory.records import Decision, Recalled, Record, Scope, Turn
from baywindow.memory.search import Finder
from baywindow.memory.store import Store
from baywindow.memory.store.opening import meaning_of
from baywindow.memory.work import Work
from baywindow.memory.workshop import Workshop
from baywindow.models import select
from baywindow.models.base import Embedder, LanguageModel
from baywindow.registry import Technique

DEFAULT_SYSTEM = "default_memory"
ANYTHING_OF_ME = Scope()
DEFAULT_WINDOW_TOKENS = 8192  # what a share is of where no model says its window


class Memory:
    """What was said, word for word, and what a system makes of it, in a folder or a PostgreSQL database by URL (None: the settings' own).

    ``system`` is a memory technique, as a line of a recipe or an object. ``model`` and ``embedder`` are loaded when first needed, those
    of the settings where none are given. ``scope`` is meant where a call names none. Safe for several threads and processes; close it,
    or use it as a context manager. Raises a `BayError` with a hint: a store that cannot be used, a full disk, a model that is not there.
    """

    def __init__(
        self,
        where: str | Path | None = None,
        system: str | MemorySystem = DEFAULT_SYSTEM,
        *,
        model: str | LanguageModel | None = None,
        embedder: Embedder | None = None,
        scope: Scope = ANYTHING_OF_ME,
        settings: Settings | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.system = system_of(system)
        self.scope = scope
        self._given_settings = settings
        self._model = model
        self._notes: list[str] = []
        self._store = Store(where or self._settings.memory or home.data_dir("memory"))
        self._meaning = meaning_of(self._store, embedder, lambda: self._settings, self._notes.append)
        finder = Finder(self._store, self._meaning, self._notes.append)
        self._workshop = Workshop(self._store, self._meaning, finder, clock or (lambda: datetime.now(UTC)))

    @property
    def where(self) -> str:
        return self._store.database.where

    # Saying and asking

    def add(
        self,
        messages: Said | Sequence[Said],
        scope: Scope | None = None,
        *,
        said_at: datetime | str | float | None = None,
        budget: str | Budget | None = None,
    ) -> Added:
        """Keep what was said, and what the system makes of it, in one commit. ``said_at`` is of messages that bring no time of their own.

        If the system fails (its model cannot be reached, its replies cannot be used) the words are kept all the same, a note says so, and
        they are offered to it again with the next ones. The same messages added twice are kept once.
        """
        asked, caller = scope or self.scope, self._caller(budget)
        said = turns_of(messages, asked, said_at, self._workshop.clock())
        new, decisions = self._workshop.take_in(self.system, said, asked, caller)
        return Added(tuple(new), tuple(decisions), self._told(caller), caller.meter.usage)

    def search(self, query: str, scope: Scope | None = None, k: int = 10) -> builtins.list[Recalled]:
        """The best ``k`` memories, best first."""
        if not query.strip():
            raise ConfigError("the query is empty", hint="say what to look for")
        if k < 1:
            raise ConfigError.bad_value("k", k, "at least 1")
        work = self._workshop.work(scope or self.scope, self.system.card.name, self._caller())
        return self.system.search(work, query, k)[:k]

    def recall(self, query: str, scope: Scope | None = None, budget_tokens: int | None = None) -> Remembered:
        """What to put in the prompt: the best memories that fit a budget (None: the system's own), fenced and labelled as data."""
        return self._recall(self.system, query, scope or self.scope, budget_tokens, self._caller())

    def recall_for(self, part: Technique | None, question: str, model: LanguageModel, meter: Meter, most_tokens: int) -> Remembered:
        """What `ask` puts before the passages. ``part`` is the memory of its recipe (None: this one's system); ``model`` counts, and is the
        one it may call.
        """
        system = self.system if part is None else part
        if not isinstance(system, MemorySystem):
            raise RecipeError(f"{system.card.name} is no memory", hint="`bay list memory` shows what is")
        most = min(system.budget_of(model.context_length), most_tokens)
        return self._recall(system, question, self.scope, most, Caller(model, meter))

    @contextmanager
    def working(self, messages: Said | Sequence[Said] = (), scope: Scope | None = None) -> Iterator[Work]:
        """For a system's own doors: what is done through the `Work` in the block is committed at its end, with the messages."""
        asked = scope or self.scope
        said = turns_of(messages, asked, None, self._workshop.clock())
        with self._workshop.working(self.system, said, asked, self._caller()) as work:
            yield work

    # Looking after it

    def list(self, scope: Scope | None = None, *, past: bool = False, said: bool = False) -> builtins.list[Listed]:
        """The system's memories as they were made, with ``past`` every version; the turns where it makes none, or with ``said``."""
        asked = scope or self.scope
        made = [] if said else self._store.records(asked, self.system.card.name, past=past)
        return [*made] or [*self._store.turns(asked)]

    def get(self, id: str, scope: Scope | None = None) -> Listed:
        """A memory or turn by its id, or the beginning of it. ConfigError if the scope has none such."""
        return self._store.one(scope or self.scope, id)

    def update(self, id: str, text: str, scope: Scope | None = None) -> Record:
        """A person's own wording of a memory; the one before stays as history."""
        old = self.get(id, scope)
        if isinstance(old, Turn):
            raise ConfigError(f"{old.id} stays as it was said", hint="forget it, and add what should stand there")
        made = self._workshop.edit(old, text)
        self._workshop.embed(self.system, made.scope)
        return made

    def forget(self, id: str | None = None, *, query: str | None = None, scope: Scope | None = None, keep_turns: bool = False) -> Forgot:
        """Take out one memory or turn, all that holds the words of ``query``, or, given neither, a whole scope, which must then be named.

        A memory goes in all its versions and with the turns it rests on, else what it says would still be there; ``keep_turns`` leaves
        those. What else rests on them goes too. It is gone from every search at once, and from every file after `compact`.
        """
        asked = scope or self.scope
        said, made = self.rests(id, query=query, scope=scope)
        gone = self._store.forget(asked, () if keep_turns else said, made)
        self._meaning.forget(gone.numbers)
        return Forgot(gone.turns, gone.records)

    def rests(self, id: str | None = None, *, query: str | None = None, scope: Scope | None = None) -> tuple[set[str], set[str]]:
        """What `forget` would begin with: ids of turns and of memories."""
        asked = scope or self.scope
        if id is not None:
            one = self.get(id, asked)
            if isinstance(one, Turn):
                return {one.id}, set()
            versions = {r.id for r in self._store.versions(asked, one.id)}
            return self._store.turns_under(versions), versions
        if query is not None:
            said, made = self._store.holding(asked, query)
            # Words that only a memory holds stand for turns that say it in others.
            alone = [r.turns for r in self._store.records(asked, past=True, ids=list(made)) if not said.intersection(r.turns)]
            return said.union(*alone), made
        if scope is None:
            raise ConfigError("what should be forgotten?", hint="give an id, a query, or the scope to empty")
        return {t.id for t in self._store.turns(scope)}, {r.id for r in self._store.records(scope, None, past=True)}

    def history(self, id: str, scope: Scope | None = None) -> History:
        """Every version of a memory, the decisions that made them, and the turns they rest on."""
        asked = scope or self.scope
        one = self.get(id, asked)
        if isinstance(one, Turn):
            return History((), (), (one,))
        versions = self._store.versions(asked, one.id)
        told = self._store.decisions(asked, of=[r.id for r in versions])
        rests = list({turn for r in versions for turn in r.turns})
        return History(tuple(versions), tuple(told), tuple(self._store.turns(asked, ids=rests)))

    def undo(self, decision: str | Decision, scope: Scope | None = None) -> Decision:
        """Take a decision back: what it added is retired, what it replaced or retired counts again. The newest of several goes first."""
        name = decision if isinstance(decision, str) else decision.id
        done = undoing.undo(self._store, scope or self.scope, name, self._workshop.clock())
        self._workshop.embed(self.system, done.scope)
        return done

    def redo(self, scope: Scope | None = None, *, budget: str | Budget | None = None) -> Added:
        """Make the system's layer again from the turns, as they came; edits by hand go with the old one. An error changes nothing."""
        caller = self._caller(budget)
        made = self._workshop.redo(self.system, scope or self.scope, caller)
        return Added((), tuple(made), self._told(caller), caller.meter.usage)

    def export(self, path: str | Path, scope: Scope | None = None) -> int:
        """Everything of a scope as JSON lines, which `import_` reads; how many turns and memories that were."""
        return portable.export(self._store, scope or self.scope, Path(path))

    def import_(self, path: str | Path) -> int:
        """What `export` wrote, all or nothing; what is there already stays as it is. How many turns and memories were new."""
        return portable.import_(self._store, Path(path))

    def compact(self) -> None:
        """Rewrite the files: what was forgotten is in none of them afterwards. MemoryBusyError while another process reads or writes."""
        self._meaning.compact()
        self._store.compact()

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # How

    def _recall(self, system: MemorySystem, query: str, scope: Scope, budget_tokens: int | None, caller: Caller) -> Remembered:
        work = self._workshop.work(scope, system.card.name, caller)
        most = budget_tokens if budget_tokens is not None else system.budget_of(caller.window(DEFAULT_WINDOW_TOKENS))
        found = tuple(system.recall(work, query, most))
        text = rendered(found)
        return Remembered(found, text, work.count_tokens(text) if text else 0, self._told(caller))

    def _caller(self, budget: str | Budget | None = None) -> Caller:
        limits = Budget.parse(budget) if isinstance(budget, str) else budget or Budget()
        prices = self._settings.token_prices() if limits.usd is not None else None
        given = self._model if isinstance(self._model, LanguageModel) else None
        return Caller(given, Meter(budget=limits, prices=prices), load=self._load)

    def _load(self) -> LanguageModel:
        """The model that was named, or the one of the settings; loaded once."""
        if not isinstance(self._model, LanguageModel):
            self._model = select.load(self._model, settings=self._settings)
        return self._model

    @cached_property
    def _settings(self) -> Settings:
        return self._given_settings or Settings()

    def _told(self, caller: Caller) -> tuple[str, ...]:
        """Every remark once, those of the store first."""
        told, self._notes[:] = [*self._notes, *caller.notes], []
        return tuple(dict.fromkeys(told))


def system_of(system: str | MemorySystem) -> MemorySystem:
    """A memory technique from a line such as ``mem0(budget_tokens=500)``. RecipeError if it is none, or more than one."""
    if isinstance(system, MemorySystem):
        return system
    plan = recipes.parse(system)
    if plan.inside or len(plan.outside) != 1 or not isinstance(plan.outside[0], MemorySystem):
        raise RecipeError(f"{system!r} is no memory system", hint="`bay list memory` shows them")
    return plan.outside[0]
