"""What is done to an index under the writer's lock: bring it up to date, bind it to an embedder, build its searches, forget a path."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from baywindow.documents.chunks import Chunker, chunker_for
from baywindow.documents.index.nearest import FLAT_LIMIT, build_approximate
from baywindow.documents.index.plan import is_below, plan_update
from baywindow.documents.index.rows import About, ids_within
from baywindow.documents.index.store import NOTHING_KEPT, Store
from baywindow.documents.index.update import Done, Updater
from baywindow.documents.progress import Tell
from baywindow.documents.walk import Root, roots_of
from baywindow.errors import IndexStoreError, SourceError
from baywindow.models.base import Embedder

ANN_GROWTH = 1.5  # the approximate index is measured anew when the vectors have grown by this much


class Writer:
    """All methods but the two checks need `lock.writing` around them."""

    def __init__(self, store: Store, embedder: Embedder | None, chunk_tokens: int, tell: Tell | None) -> None:
        self._store = store
        self._embedder = embedder
        self._chunk_tokens = chunk_tokens
        self._tell = tell

    def check(self, about: About) -> None:
        """IndexStoreError if chunks or vectors of this run would not fit those that are stored."""
        if about.chunk_tokens != self._chunk_tokens:
            raise self._made_with(f"chunks of {about.chunk_tokens} tokens, this run asks for {self._chunk_tokens}")
        self.check_embedder(about)

    def check_embedder(self, about: About) -> None:
        if self._embedder is not None and about.embedder and about.embedder != self._embedder.fingerprint:
            raise self._made_with(f"the embedder {about.embedder_name}, this run uses {self._embedder.name}")

    def _made_with(self, what: str) -> IndexStoreError:
        return IndexStoreError(
            f"the index {self._store.uri} was made with {what}", hint="change the setting back, or `bay index --rebuild PATH…`"
        )

    def write(self, roots: Sequence[Root], rebuild: bool) -> Done:
        """What `Index.update` promises."""
        self._store.refresh()
        chunker = chunker_for(self._embedder, self._chunk_tokens)
        if rebuild or not self._store.exists:
            roots = [*roots, *self._old_roots(roots)] if rebuild else roots
            self._store.create(About(chunk_tokens=self._chunk_tokens, tokenizer=tokenizer_digest(chunker, self._embedder)))
        about = self._store.about()
        self.check(about)
        plan = plan_update(self._store.records(), roots)
        done = Updater(self._store, chunker, self._tell).run(plan)
        now = time.time()
        self._store.set_about(replace(about, roots={**about.roots, **{str(r.path): now for r in roots}}))
        if plan:
            self._say("indexing words")
            self._store.tidy("chunks")
        return done

    def _old_roots(self, roots: Sequence[Root]) -> list[Root]:
        """What a rebuilt index held besides, as far as it can still be told and is still there."""
        given = {str(r.path) for r in roots}
        try:
            known = [path for path in self._store.about().roots if path not in given and Path(path).exists()]
        except IndexStoreError:
            return []
        return roots_of(known)

    def bind(self, embedder: Embedder) -> None:
        """From the first vector on, the index belongs to one embedder. A table of vectors without an owner is from a killed run."""
        about = self._store.about()
        self.check_embedder(about)
        if not about.embedder:
            self._store.drop_vectors()
            self._store.vectors(embedder.dim)
            self._store.set_about(replace(about, embedder=embedder.fingerprint, embedder_name=embedder.name, dim=embedder.dim))

    def index_vectors(self) -> None:
        """Approximate search above a size; measured when it is built and when the vectors have grown by half."""
        table = self._store.vectors()
        if table is None:
            return
        count = table.count_rows()
        about = self._store.about()
        if count > FLAT_LIMIT and count > ANN_GROWTH * about.measured_vectors:
            self._say(f"building approximate search over {count} vectors")
            with self._store.translated():
                nprobes, recall = build_approximate(table)
            self._store.set_about(replace(about, nprobes=nprobes, recall_at_10=recall, measured_vectors=count))
            self._say(f"approximate search: recall@10 {recall:.3f} against exact search, {nprobes} probes")
        self._store.tidy("vectors")

    def remove(self, path: str | Path) -> int:
        """What `Index.remove` promises."""
        gone = str(Path(path).expanduser().absolute())
        self._store.refresh()
        about = self._store.about()
        numbers = [r.number for p, r in self._store.records().items() if is_below(p, gone)]
        kept = {root: at for root, at in about.roots.items() if not is_below(root, gone)}
        if not numbers and len(kept) == len(about.roots):
            raise SourceError(f"{path} is not in the index", hint="`bay index --list` shows what is")
        self._store.set_about(replace(about, roots=kept))
        for name in ("chunks", "vectors"):
            table = self._store.table("chunks") if name == "chunks" else self._store.vectors()
            if table is not None and numbers:
                with self._store.translated():
                    table.delete(ids_within(numbers))
                self._store.tidy(name, keep=NOTHING_KEPT)
        return len(numbers)

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(text)


def tokenizer_digest(chunker: Chunker, embedder: Embedder | None) -> str:
    """Which tokenizer sized the chunks; empty for an estimate."""
    tokenizer_json = getattr(embedder, "tokenizer_json", None)
    return "" if chunker.estimated or tokenizer_json is None else hashlib.sha256(str(tokenizer_json).encode()).hexdigest()[:16]
