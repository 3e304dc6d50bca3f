"""One thread that runs the local model for everybody, batch by batch, fairly.

Work waits in `Fair`. The thread takes the tenant's turn that is next, gathers what else waits for the same recipe inside the model,
and runs what goes well together as one batch. Whoever comes later joins it where the model can take in further rows, and else waits for
the next one. A batch that fails tells its own rows and nobody else; a row whose client is gone is dropped, and a batch of which none is
left ends.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from baywindow.models.base import Completion, Held, LanguageModel, Prompt, Sampling
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.server.fair import Fair
from baywindow.server.prefixes.once import ReadOnce

if TYPE_CHECKING:
    from baywindow.models.together import Together
    from baywindow.server.prefixes.store import KeptPrefix, PrefixStore

GATHER_S = 0.03
MOST_GATHERED = 64  # waiting rows looked at for one batch; the model says how many of them go together
T = TypeVar("T")
Inside = tuple[Technique, ...]


@dataclass(eq=False)
class Row:
    """One reply that is asked for. ``said`` gets pieces of text, then its completion or the error that ended it."""

    inside: Inside
    prompt: Prompt | str
    sampling: Sampling
    prompt_tokens: int
    cancelled: threading.Event
    prefix: KeptPrefix | ReadOnce | None = None
    said: queue.SimpleQueue[str | Completion | BaseException] = field(default_factory=queue.SimpleQueue)
    # What the inside of the model says of the generation; known only where the row ran alone.
    remark: str = ""
    held: Held | None = None


@dataclass(eq=False)
class Errand:
    """Something else that needs the model: scores, attention, how far a recipe reaches."""

    inside: Inside
    act: Callable[[LanguageModel], Any]
    result: Future[Any] = field(default_factory=Future)


class Engine:
    """Runs the model. ``expected`` tells how many requests are under way, and so how many rows may be about to come. ``prefixes`` keeps
    what was read of long prompts; it is closed with the engine."""

    def __init__(self, model: LanguageModel, expected: Callable[[], int] = lambda: 0, prefixes: PrefixStore | None = None) -> None:
        self.model = model
        self.prefixes = prefixes
        self._expected = expected
        self.batches = 0  # run so far, with `rows` for the metrics
        self.rows = 0
        self._waiting: Fair[Row | Errand] = Fair()
        self._stack = ExitStack()
        self._view = model
        self._inside: Inside = ()
        self._reach: dict[str, int] = {}
        self._thread = threading.Thread(target=self._work, name="baywindow-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, tenant: str, *rows: Row) -> None:
        """Put replies in the queue, together."""
        self._waiting.put(tenant, *rows)

    def run(self, tenant: str, inside: Inside, act: Callable[[LanguageModel], T]) -> T:
        """Run something on the model, in its turn and in its thread; wait for what it gives."""
        errand = Errand(inside, act)
        self._waiting.put(tenant, errand)
        found: T = errand.result.result()
        return found

    def reach(self, tenant: str, inside: Inside) -> int:
        """The window with these techniques inside, in tokens. Raises what attaching them raises."""
        if not inside:
            return self.model.context_length
        key = Recipe(inside).hash
        if key not in self._reach:
            if len(self._reach) > 256:  # recipes come from strangers
                self._reach.clear()
            self._reach[key] = self.run(tenant, inside, lambda view: view.context_length)
        return self._reach[key]

    def close(self) -> None:
        """Ends the thread after what runs now; the model stays its owner's to close."""
        self._waiting.close()
        self._thread.join()
        self._stack.close()
        if self.prefixes is not None:
            self.prefixes.close()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            tenant, first = taken
            if isinstance(first, Errand):
                self._serve_errand(first)
            else:
                self._serve_rows(tenant, first)

    def _next(self) -> tuple[str, Row | Errand] | None:
        """What comes next, and a quiet moment for the document cache until it comes."""
        if self.prefixes is None or len(self._waiting):
            return self._waiting.take()
        self.prefixes.quiet.set()
        taken = self._waiting.take()
        self.prefixes.quiet.clear()
        return taken

    def _serve_errand(self, errand: Errand) -> None:
        try:
            errand.result.set_result(errand.act(self._with(errand.inside)))
        except BaseException as error:  # it belongs to whoever asked; this thread goes on
            errand.result.set_exception(error)

    def _serve_rows(self, tenant: str, first: Row) -> None:
        rows = [first]
        try:
            view = self._with(first.inside)
            self._await_company()
            rows = self._gathered(tenant, first, view)
            if rows:
                self._run(view, rows)
        except BaseException as error:  # each of its rows is told; this thread goes on
            for row in rows:
                row.said.put(error)

    def _await_company(self) -> None:
        """A moment for those who came at the same time and are still being counted: else they wait for a whole reply."""
        end = time.monotonic() + GATHER_S
        while len(self._waiting) + 1 < self._expected() and time.monotonic() < end:
            time.sleep(GATHER_S / 10)

    def _gathered(self, tenant: str, first: Row, view: LanguageModel) -> list[Row]:
        """The rows of the next batch, ``first`` among them; the others that were looked at go back in front."""
        key = _stored(first)
        others = self._waiting.take_like(lambda w: isinstance(w, Row) and w.inside == first.inside and _stored(w) == key, MOST_GATHERED)
        found = [(tenant, first), *((t, w) for t, w in others if isinstance(w, Row))]
        found = [(t, row) for t, row in found if not _gone(row)]
        if not found:
            return []
        new_tokens = max(row.sampling.max_new_tokens for _, row in found)
        groups = view.batches([row.prompt_tokens for _, row in found], new_tokens)
        chosen = next(set(group) for group in groups if 0 in group)
        self._waiting.put_back([pair for i, pair in enumerate(found) if i not in chosen])
        return [row for i, (_, row) in enumerate(found) if i in chosen]

    def _run(self, view: LanguageModel, rows: list[Row]) -> None:
        """``rows`` grows by those that join."""
        together = view.together([row.prompt for row in rows], [row.sampling for row in rows], _common(rows))
        told: set[Row] = set()
        self.batches, self.rows = self.batches + 1, self.rows + len(rows)
        for texts in together:
            for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
                if text:
                    row.said.put(text)
                if row.cancelled.is_set() and not together.done(i):
                    together.drop(i)
                if together.done(i) and row not in told:
                    told.add(row)
                    self._tell(view, together, rows, i)
            if not self._inside:
                self._admit(view, together, rows)
        for i, row in enumerate(rows):
            if row not in told:
                self._tell(view, together, rows, i)

    def _tell(self, view: LanguageModel, together: Together, rows: Sequence[Row], at: int) -> None:
        """The end of a reply, at once: whoever joins next must not hold it up."""
        if len(rows) == 1:
            rows[0].remark, rows[0].held = view.remark(), view.held()
        rows[at].said.put(together.completion(at))

    def _admit(self, view: LanguageModel, together: Together, rows: list[Row]) -> None:
        """Between two steps: rows that are next and find room, or an errand. What needs something else inside the model keeps its turn, and
        so do all behind it: the batch ends, and they are served."""

        def suits(waiting: Row | Errand) -> bool:
            return not waiting.inside and (isinstance(waiting, Errand) or _room(together, waiting) > 0)

        while (taken := self._waiting.take_if(suits)) is not None:
            first = taken[1]
            if isinstance(first, Errand):
                self._serve_errand(first)
                return  # one at a time, for those who are being answered wait
            if not _gone(first):
                self._join(together, rows, self._with_same(first, _room(together, first)))

    def _with_same(self, first: Row, room: int) -> list[Row]:
        """A row and the others whose prompt is read once with its own."""
        if not isinstance(first.prefix, ReadOnce):
            return [first]
        near = first.prefix.near
        found = self._waiting.take_like(lambda w: isinstance(w, Row) and w.prefix is not None and w.prefix.near == near, room - 1)
        return [first, *(row for _, row in found if isinstance(row, Row) and not _gone(row))]

    def _join(self, together: Together, rows: list[Row], new: list[Row]) -> None:
        try:
            together.join([row.prompt for row in new], [row.sampling for row in new], _common(new))
        except BaseException as error:  # theirs alone; the batch goes on
            for row in new:
                row.said.put(error)
            return
        rows += new
        self.rows += len(new)

    def _with(self, inside: Inside) -> LanguageModel:
        """The model with these techniques in place; they stay until others are asked for."""
        if inside != self._inside:
            self._stack.close()
            self._view, self._inside = self.model, ()
            if inside:
                self._view = self._stack.enter_context(self.model.attached(inside))
                self._inside = inside
        return self._view


def _room(together: Together, row: Row) -> int:
    return together.room(row.prompt_tokens, row.sampling.max_new_tokens)


def _stored(row: Row) -> Hashable:
    """What a row's prefix begins with, where some of it is kept: such rows are read on from there, together with those that begin alike.
    With techniques inside each goes alone: over a shared beginning a batch with them gave other replies than each row by itself."""
    if row.prefix is None or not row.prefix.is_stored():
        return None
    return (row.prefix.near, id(row)) if row.inside else row.prefix.near


def _common(rows: Sequence[Row]) -> KeptPrefix | ReadOnce | None:
    """The prefix of all rows, or its whole blocks if only those are the same. Different ones are read together as they are, and nothing is
    kept of them: a batch is worth more."""
    first = rows[0].prefix
    if len(rows) == 1 or first is None:
        return first
    others = [row.prefix for row in rows]
    if rows[0].inside or not all(other is not None and other.near == first.near for other in others):
        return None
    return first if all(other is not None and other.key == first.key for other in others) else first.in_blocks()


def _gone(row: Row) -> bool:
    """Whether nobody waits for a row; its reader is told, in case it still listens."""
    if row.cancelled.is_set():
        row.said.put(Completion(text="", prompt_tokens=0, generated_tokens=0, finish="cancelled"))
        return True
    return False
