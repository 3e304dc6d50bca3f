"""What can be asked of an index: where it lives, how large it is, and what it holds, root by root."""

from __future__ import annotations

from dataclasses import dataclass

from baywindow.documents.index.store import Store
from baywindow.documents.index.view import View


@dataclass(frozen=True, kw_only=True)
class RootInfo:
    """One folder or file that was indexed. ``updated_at`` is in seconds since the epoch."""

    path: str
    files: int
    chunks: int
    embedded_share: float
    updated_at: float


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """Where an index lives and what it holds. ``size_bytes`` is None on object storage; ``recall_at_10`` 0 without approximate search."""

    uri: str
    exists: bool
    size_bytes: int | None = 0
    files: int = 0
    chunks: int = 0
    embedder: str = ""
    chunk_tokens: int = 0
    recall_at_10: float = 0.0
    nprobes: int = 0
    roots: tuple[RootInfo, ...] = ()


def info_of(store: Store) -> IndexInfo:
    """Of the newest version. IndexStoreError if another version of Baywindow made it."""
    if not store.exists:
        return IndexInfo(uri=store.uri, exists=False)
    view = View(store, None)
    about = view.about
    return IndexInfo(
        uri=store.uri,
        exists=True,
        size_bytes=store.size_bytes(),
        files=len(view.records),
        chunks=view.chunks,
        embedder=about.embedder_name,
        chunk_tokens=about.chunk_tokens,
        recall_at_10=about.recall_at_10,
        nprobes=about.nprobes,
        roots=tuple(_root_info(store, root, at) for root, at in sorted(about.roots.items())),
    )


def _root_info(store: Store, root: str, updated_at: float) -> RootInfo:
    view = View(store, [root])
    share = view.embedded / view.chunks if view.chunks else 1.0
    return RootInfo(path=root, files=len(view.records), chunks=view.chunks, embedded_share=share, updated_at=updated_at)
