"""The stored index as a `Corpus`, and everything one does to it: update, embed, ask, remove, list."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.base import Corpus, Hits, Passage
from baywindow.documents.index.embed import embed_missing, missing_ids
from baywindow.documents.index.info import IndexInfo, info_of
from baywindow.documents.index.lock import writing
from baywindow.documents.index.plan import Plan, is_below, plan_update
from baywindow.documents.index.store import Store
from baywindow.documents.index.update import Done
from baywindow.documents.index.view import View
from baywindow.documents.index.writer import Writer
from baywindow.documents.memory import needed
from baywindow.documents.progress import Tell, duration
from baywindow.documents.walk import Root, roots_of
from baywindow.errors import IndexBusyError, IndexStoreError, Interrupted, SourceError
from baywindow.models.base import Embedder

COLD_HITS = 200  # full-text hits embedded for one question while the rest has no vectors yet
CATCH_UP_SECONDS = 20.0  # what a question may spend on embedding before it is answered from what there is


class Index(Corpus):
    """An index by URI (None: the user's own). Searching it needs no lock and sees whole files only; `refresh` sees later writes.

    ``within`` limits it to these absolute paths. Without an embedder there is full text only. IndexStoreError if it was made by another
    version or, once vectors are asked for, another embedder; nothing is rebuilt unless `update` is told to.
    """

    def __init__(
        self,
        uri: str | Path | None = None,
        *,
        embedder: Embedder | None = None,
        chunk_tokens: int = 256,
        within: Sequence[str] | None = None,
        on_progress: Tell | None = None,
        catch_up_seconds: float = CATCH_UP_SECONDS,
    ) -> None:
        self._store = Store(uri)
        self._writer = Writer(self._store, embedder, chunk_tokens, on_progress)
        self._embedder = embedder
        self._within = None if within is None else list(within)
        self._tell = on_progress
        self._catch_up_seconds = catch_up_seconds
        self._view: View | None = None
        self._caught_up = False
        self._queries: dict[str, NDArray[np.float32]] = {}
        self._cold: dict[tuple[str, int, int], NDArray[np.float32]] = {}
        self._notes: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        return self._store.uri

    # A corpus

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]  # computed where others keep it
        return (*self._opened().notes, *self._notes)

    def passages(self) -> Iterator[Passage]:
        return self._opened().passages()

    def full_text(self, query: str, k: int) -> list[Passage]:
        view = self._opened()
        return view.fetched(view.by_words(query, k))

    def vectors(self, query: str, k: int) -> list[Passage]:
        self._catch_up()
        view = self._opened()
        found = view.fetched(view.by_meaning(self.embed_query(query), k))
        if view.embedded < view.chunks:
            found = self._with_cold(query, found)
        return found[:k]

    def hits(self, query: str, k: int) -> tuple[Hits, Hits]:
        self._catch_up()
        view = self._opened()
        if view.embedded < view.chunks:
            return super().hits(query, k)
        with ThreadPoolExecutor(1) as beside:  # LanceDB counts words while the question is embedded
            words = beside.submit(view.by_words, query, k)
            meaning = view.by_meaning(self.embed_query(query), k)
            return list(words.result()), list(meaning)

    def fetched(self, hits: Hits) -> list[Passage]:
        if any(isinstance(place, Passage) for place, _ in hits):
            return super().fetched(hits)
        return self._opened().fetched([(place, score) for place, score in hits if isinstance(place, int)])

    def embed_query(self, query: str) -> NDArray[np.float32]:
        if query not in self._queries:
            self._queries[query] = needed(self._embedder).embed([query], "query")[0]
        return self._queries[query]

    def embeddings(self, passages: list[Passage]) -> NDArray[np.float32]:
        stored = self._opened().stored_vectors(passages)
        new = [p for at, p in enumerate(passages) if at not in stored and p.key not in self._cold]
        if new:
            self._cold |= dict(zip((p.key for p in new), needed(self._embedder).embed([p.text for p in new]), strict=True))
        found = [stored[at] if at in stored else self._cold[p.key] for at, p in enumerate(passages)]
        return np.stack(found) if found else np.zeros((0, needed(self._embedder).dim), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return needed(self._embedder).embed(texts)

    def excerpt(self, source: str, start: int, end: int) -> str:
        return self._opened().excerpt(source, start, end)

    @property
    def characters(self) -> int:
        return self._opened().characters

    # Keeping it

    def update(self, paths: Sequence[str | Path], *, rebuild: bool = False) -> Done:
        """Bring these paths up to date: new and changed files in, files that are gone out. Full text is searchable afterwards.

        ``rebuild`` is the consent to throw away an index made by another version or embedder (then its other roots are read again too).
        Nothing is locked or written if nothing changed. IndexBusyError if another process is writing; Interrupted on Ctrl-C.
        """
        roots = roots_of(paths)
        plan = Plan()
        if self._store.exists and not rebuild:
            self._writer.check(self._store.about())
            self.refresh()
            plan = plan_update(self._store.records(), roots)
            known = self._store.about().roots
            if not plan and all(str(root.path) in known for root in roots):
                return Done(unchanged=plan.unchanged)
        try:
            with writing(self.uri):
                return self._writer.write(roots, rebuild)
        except KeyboardInterrupt:
            raise Interrupted("stopped; the index keeps what was finished", hint="run it again to go on") from None
        finally:
            self.refresh()

    def embed(self, *, seconds: float = math.inf) -> int:
        """Embed chunks without vectors, for at most about ``seconds``; how many are left. Resumes where the last run ended."""
        embedder = needed(self._embedder)
        try:
            with writing(self.uri):
                self._store.refresh()
                self._writer.bind(embedder)
                numbers = np.asarray([r.number for r in self._opened().records.values()], dtype=np.int64)
                left = embed_missing(self._store, embedder, missing_ids(self._store, numbers), seconds=seconds, tell=self._tell)
                if not left:
                    self._writer.index_vectors()
                return left
        except KeyboardInterrupt:
            raise Interrupted("stopped; the vectors that were made are kept", hint="run it again to go on") from None
        finally:
            self.refresh()

    def remove(self, path: str | Path) -> int:
        """Forget a path and everything below it, on disk too; how many files that were. SourceError if nothing is there."""
        if not self._store.exists:
            raise SourceError(f"{path} is not in the index", hint="nothing has been indexed yet")
        try:
            with writing(self.uri):
                return self._writer.remove(path)
        finally:
            self.refresh()

    def info(self) -> IndexInfo:
        """Where it lives, how large it is, and what it holds."""
        self._store.refresh()
        return info_of(self._store)

    def files(self) -> list[str]:
        """The absolute paths of the files it holds, sorted."""
        return sorted(self._store.records()) if self._store.exists else []

    def refresh(self) -> None:
        """See what was written since."""
        self._store.refresh()
        self._view = None

    def add_notes(self, notes: Sequence[str]) -> None:
        """Remarks of whoever opened the index, e.g. which files were passed over."""
        for note in notes:
            self._note(note)

    def holds(self, root: Root) -> bool:
        """Whether the index has anything at or below a root."""
        return self._store.exists and any(is_below(path, str(root.path)) for path in self._store.records())

    # How

    def _opened(self) -> View:
        if self._view is None:
            if not self._store.exists:
                raise IndexStoreError(f"there is no index at {self.uri}", hint="`bay index PATH…` makes one")
            self._view = View(self._store, self._within)
        return self._view

    def _catch_up(self) -> None:
        """Once a corpus: embed what is missing, as long as a question may wait, unless another process is writing."""
        if self._caught_up:
            return
        self._caught_up = True
        self._writer.check_embedder(self._opened().about)
        view = self._opened()
        if self._embedder is None or view.embedded >= view.chunks or self._catch_up_seconds <= 0:
            return
        try:
            started = time.monotonic()
            before = view.chunks - view.embedded
            left = self.embed(seconds=self._catch_up_seconds)
        except IndexBusyError as busy:
            self._note(busy.message + "; this answer goes by what was finished")
            return
        if left:
            rest = duration(left * (time.monotonic() - started) / max(1, before - left))
            self._note(f"{left} of {view.chunks} chunks have no vectors yet (about {rest} of work); `bay index` finishes it")

    def _with_cold(self, query: str, found: list[Passage]) -> list[Passage]:
        """The best full-text hits, embedded now, beside what has vectors."""
        view = self._opened()
        hits = view.fetched(view.by_words(query, COLD_HITS))
        vectors = self.embeddings(hits)
        self._note(
            f"{view.embedded} of {view.chunks} chunks have vectors; the best {len(hits)} by full text were compared by meaning besides"
        )
        scores = vectors @ self.embed_query(query)
        cold = [replace(p, score=float(s)) for p, s in zip(hits, scores, strict=True)]
        merged = {p.key: p for p in [*found, *cold]}
        return sorted(merged.values(), key=lambda p: -p.score)

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes = (*self._notes, text)
