"""The one door from what a person names to a `Corpus`: paths, globs, folders, standard input, an index, or documents in memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charset_normalizer import from_bytes

from baywindow.documents.base import Corpus, Document, Mark
from baywindow.documents.extract import NotTextError, extract
from baywindow.documents.extract.text import is_binary
from baywindow.documents.memory import InMemory
from baywindow.documents.progress import Tell
from baywindow.documents.walk import files_of, roots_of, shown
from baywindow.errors import IndexBusyError, MissingExtraError, SourceError
from baywindow.models.base import Embedder

if TYPE_CHECKING:
    from baywindow.config import Settings

Source = str | Path | Document
Sources = Source | Corpus | Sequence[Source]
STDIN = "-"
IN_MEMORY_LIMIT = 64_000_000  # characters of standard input and what is read beside it


def open_corpus(
    sources: Sources,
    *,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    rebuild: bool = False,
    on_progress: Tell | None = None,
) -> Corpus:
    """Paths are brought up to date in the stored index first, and only they are searched; documents and ``-`` stay in memory.

    ``embedder`` None: the one that the settings name. SourceError for a path that leads nowhere, cannot be read or holds no text;
    IndexBusyError if another process is writing and nothing of a path is indexed yet.
    """
    if isinstance(sources, Corpus):
        return sources
    given: list[Source] = [sources] if isinstance(sources, str | Path | Document) else list(sources)
    if not given:
        raise SourceError("no sources were given", hint='name files or folders, e.g. bay ask "…" docs/')
    chosen = embedder if embedder is not None else _embedder_of(settings)
    chunk_tokens = settings.chunk_tokens if settings is not None else 256
    documents = [s for s in given if isinstance(s, Document)]
    names = [s for s in given if not isinstance(s, Document)]
    if documents or STDIN in map(str, names):
        return _in_memory(documents, names, chunk_tokens, chosen)
    from baywindow.documents.index import Index

    roots = roots_of(names)
    index = Index(
        settings.index if settings is not None else None,
        embedder=chosen,
        chunk_tokens=chunk_tokens,
        within=[str(root.path) for root in roots],
        on_progress=on_progress,
    )
    try:
        index.add_notes(index.update(names, rebuild=rebuild).notes)
    except IndexBusyError as busy:
        if not all(index.holds(root) for root in roots):
            raise
        index.add_notes((f"{busy.message}; this searches what it had finished",))
    if index.characters == 0:
        raise _empty([shown(root.path) for root in roots], index.notes)
    return index


def documents_of(names: Sequence[str | Path]) -> list[Document]:
    """Paths, globs and folders as whole documents in memory, in order of their paths. SourceError where there is no text, or too much."""
    notes: list[str] = []
    read = _read([], names, notes)
    if not any(document.text.strip() for document in read):
        raise _empty([str(name) for name in names], tuple(notes))
    return read


def _embedder_of(settings: Settings | None) -> Embedder | None:
    """The configured embedder; None where the packages for one are missing, so that full text works without them."""
    from baywindow.models.embedders import load_embedder

    try:
        return load_embedder(settings.embedder if settings is not None else None, settings)
    except MissingExtraError:
        if settings is not None and settings.embedder:
            raise
        return None


def _in_memory(documents: list[Document], names: list[str | Path], chunk_tokens: int, embedder: Embedder | None) -> InMemory:
    notes: list[str] = []
    read = _read(documents, names, notes)
    if not any(d.text.strip() for d in read):
        raise _empty([d.source for d in read], tuple(notes))
    corpus = InMemory(read, chunk_tokens=chunk_tokens, embedder=embedder)
    corpus.notes = tuple(notes)
    return corpus


def _read(documents: list[Document], names: Sequence[str | Path], notes: list[str]) -> list[Document]:
    """The documents, and whole files behind them; what was skipped goes to ``notes``."""
    read = list(documents)
    if STDIN in map(str, names):
        read.append(Document(_stdin(), STDIN))
    for root in roots_of([name for name in names if str(name) != STDIN]):
        for path in files_of(root):
            try:
                read.append(_document(path, notes))
            except NotTextError:
                if not root.is_folder:
                    raise
            if sum(len(d.text) for d in read) > IN_MEMORY_LIMIT:
                raise SourceError(
                    "this is too much text to be kept in memory", hint="name fewer files, or index the folder and ask without -"
                )
    return read


def _document(path: Path, notes: list[str]) -> Document:
    """A whole file in memory, read as the index would read it."""
    source = extract(path)
    texts: list[str] = []
    marks: list[Mark] = []
    for block in source.blocks:
        texts.append(block.text)
        marks += block.marks
    notes += [f"{shown(path)}: {note}" for note in source.notes]
    return Document("".join(texts), shown(path), tuple(marks), {"form": source.form})


def _stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError("there is nothing on standard input", hint='e.g. git diff | bay ask "What does this change?" -')
    data = sys.stdin.buffer.read(4 * IN_MEMORY_LIMIT + 1)
    if len(data) > 4 * IN_MEMORY_LIMIT:
        raise SourceError("standard input is too long to be kept in memory", hint="save it as a file and name that")
    if is_binary(data[:8192]):
        raise SourceError("standard input is binary", hint="pipe text, or save it as a file and name that")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return str(from_bytes(data).best() or data.decode("latin-1"))


def _empty(names: Sequence[str], notes: tuple[str, ...]) -> SourceError:
    where = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    why = "; ".join(notes[:3]) or "hidden files and those that .gitignore names are left out"
    return SourceError(f"there is no text in {where or 'the sources'}", hint=why)
