"""Which vectors go with which database."""

from __future__ import annotations

from collections.abc import Callable

from baywindow.memory.store.lance import LanceVectors
from baywindow.memory.store.meaning import Meaning, Vectors
from baywindow.memory.store.pgvector import PostgresVectors
from baywindow.memory.store.store import Store
from baywindow.models import embedders
from baywindow.models.base import Embedder

FOLDER = "vectors.lance"


def meaning_of(
    store: Store, embedder: Embedder | None, settings: Callable[[], embedders.EmbedderSettings], note: Callable[[str], None]
) -> Meaning:
    """LanceDB beside SQLite, pgvector inside PostgreSQL. The settings name the embedder where none is given."""
    folder = store.database.folder
    vectors: Vectors = PostgresVectors(store) if folder is None else LanceVectors(store, folder / FOLDER, note)
    return Meaning(store, lambda: embedder or embedders.load_embedder(settings=settings()), vectors)
