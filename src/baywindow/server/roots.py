"""Folders that were named when the server started: vector stores that are there from the beginning, and that no request can change.

A root's id is its name. It is read once, at the start, into an index of the server's own; a request names a root and nothing in it, so
no path that comes from outside is ever opened. In answers files go by their path below the root. Hidden files, what .gitignore names,
and links that lead out of the folder are not read (see `documents.walk`).
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from baywindow.documents.index import Index
from baywindow.documents.walk import shown
from baywindow.errors import BayError, ConfigError, IndexBusyError, IndexStoreError
from baywindow.models.base import Embedder
from baywindow.server.errors import ApiError
from baywindow.server.in_use import InUse
from baywindow.server.keys import LOCAL, Tenant
from baywindow.server.renamed import Renamed
from baywindow.server.vector_store import Member, VectorStore

log = logging.getLogger("baywindow.server")
RETRY_AFTER_S = 5
_NAME = re.compile(r"(?!vs_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Root:
    """A folder and the name that it goes by in requests."""

    name: str
    path: Path

    @classmethod
    def of(cls, text: str) -> Root:
        """``FOLDER``, called as its last part is, or ``NAME=FOLDER``. ConfigError for what is no folder, or no name."""
        name, joint, rest = text.partition("=")
        path = Path(rest if joint else text).expanduser()
        if not path.is_dir():
            raise ConfigError(f"{path} is no folder", hint="write --root FOLDER or --root NAME=FOLDER")
        path = path.resolve()
        name = name if joint else path.name
        if not _NAME.fullmatch(name):
            raise ConfigError.bad_value("root name", name, "letters, digits and ._- between; write --root NAME=FOLDER")
        return cls(name, path)


class Roots:
    """All roots of a server. Shown to whoever sits at this machine; to keys only if ``shared``."""

    def __init__(
        self, folder: Path, roots: Sequence[Root], *, embedder: Callable[[], Embedder | None], chunk_tokens: int, shared: bool
    ) -> None:
        if len({root.name for root in roots}) < len(roots):
            raise ConfigError("two roots have one name", hint="write --root NAME=FOLDER")
        self._folder, self._embedder, self._chunk_tokens, self._shared = folder, embedder, chunk_tokens, shared
        self._roots = {root.name: root for root in roots}
        now = int(time.time())
        self._stores = {name: VectorStore(id=name, name=name, created_at=now, last_active_at=now) for name in self._roots}
        self._waiting = dict.fromkeys(self._roots, "is still being read")  # why a root cannot be asked yet

    def __contains__(self, store_id: str) -> bool:
        return store_id in self._roots

    def all(self, tenant: Tenant) -> list[VectorStore]:
        return list(self._stores.values()) if self._shared or tenant == LOCAL else []

    def get(self, tenant: Tenant, store_id: str) -> VectorStore | None:
        """None for what is no root, or none of this tenant's."""
        return next((store for store in self.all(tenant) if store.id == store_id), None)

    def corpus(self, store: VectorStore) -> Renamed:
        """What a question is asked of. 409 while it is being read, or where it could not be; 400 where there was nothing to read."""
        if why := self._waiting.get(store.id):
            raise ApiError(409, f"the folder {store.name} {why}", hint="try again later", code="not_ready", retry_after_s=RETRY_AFTER_S)
        if not store.members:
            raise ApiError(400, f"the folder {store.name} holds no file that can be read", code="invalid_value")
        root = self._roots[store.id].path
        return Renamed(self._index(store.id, self._embedder()), {shown(root / name): name for name in store.members})

    def read_all(self, use: InUse) -> None:
        """Bring every root up to date, one after the other; for a thread."""
        for name in self._roots:
            try:
                with use.alone(name):
                    self._read(name)
            except BayError as wrong:
                log.error("the root %s could not be read: %s", name, wrong)
                self._waiting[name] = "is being written by another server" if isinstance(wrong, IndexBusyError) else "could not be read"
            except Exception as wrong:  # one root must not end the reader of all
                log.error("the root %s could not be read: %s", name, type(wrong).__name__, exc_info=wrong)
                self._waiting[name] = "could not be read"

    def _read(self, name: str) -> None:
        embedder, root = self._embedder(), self._roots[name].path
        index = self._index(name, embedder)
        try:
            index.update([root])
        except IndexBusyError:
            raise
        except IndexStoreError:  # of another version or embedder: it is the server's own, and can be made again
            index.update([root], rebuild=True)
        if embedder is not None:
            index.embed()
        store = self._stores[name]
        members = (self._member(root, Path(path), store.created_at) for path in index.files())
        store.members = {member.file_id: member for member in members}
        del self._waiting[name]

    def _member(self, root: Path, path: Path, created_at: int) -> Member:
        name = path.relative_to(root).as_posix()
        size = path.stat().st_size if path.exists() else 0
        return Member(file_id=name, filename=name, created_at=created_at, bytes=size, status="completed")

    def _index(self, name: str, embedder: Embedder | None) -> Index:
        number = hashlib.sha256(str(self._roots[name].path).encode()).hexdigest()[:24]
        return Index(self._folder / number, embedder=embedder, chunk_tokens=self._chunk_tokens)
