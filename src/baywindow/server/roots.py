"""Folders that were named when the server started: vector stores that are there from the beginning, and that no request can change.

A root's id is its name. It is read at the start into an index of the server's own, and what has changed in it is taken up when it is
asked about, by a thread of the roots' own. A request names a root and nothing in it, so no path that comes from outside is ever opened.
In answers files go by their path below the root. Hidden files, what .gitignore names, and links that lead out of the folder are not read
(see `documents.walk`).
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
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
LOOK_EVERY_S = 3.0  # at most so often a folder is looked through
PATIENCE_S = 2.0  # that a question waits for it
UNREAD = "is still being read"
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
        self._waiting = dict.fromkeys(self._roots, UNREAD)  # why a root cannot be asked yet
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="baywindow-roots")
        self._looked: dict[str, float] = {}  # when a root was last looked through; never again while that goes on
        self._lock = threading.Lock()  # of the line above

    def __contains__(self, store_id: str) -> bool:
        return store_id in self._roots

    def all(self, tenant: Tenant) -> list[VectorStore]:
        return list(self._stores.values()) if self._shared or tenant == LOCAL else []

    def get(self, tenant: Tenant, store_id: str) -> VectorStore | None:
        """As it is now. None for what is no root, or none of this tenant's."""
        return next((replace(store) for store in self.all(tenant) if store.id == store_id), None)

    def corpus(self, store: VectorStore) -> Renamed:
        """What a question is asked of. 409 while it is being read, or where it could not be; 400 where there was nothing to read."""
        if why := self._waiting.get(store.id):
            raise ApiError(409, f"the folder {store.name} {why}", hint="try again later", code="not_ready", retry_after_s=RETRY_AFTER_S)
        if not store.members:
            raise ApiError(400, f"the folder {store.name} holds no file that can be read", code="invalid_value")
        root = self._roots[store.id].path
        return Renamed(self._index(store.id, self._embedder()), {shown(root / name): name for name in store.members})

    def start(self, use: InUse) -> None:
        """Read every root, one after the other."""
        for name in self._roots:
            self._reader.submit(self.read, name, use)

    def look(self, name: str, use: InUse) -> None:
        """Take up what has changed in a root since it was last looked through, unless that was a moment ago. Where it takes long it goes
        on without the question, which is answered by what was read before; the next ones do not wait for it."""
        with self._lock:
            if self._waiting.get(name) == UNREAD or time.monotonic() - self._looked.get(name, float("-inf")) < LOOK_EVERY_S:
                return
            self._looked[name] = float("inf")
        with suppress(TimeoutError):
            self._reader.submit(self.read, name, use).result(PATIENCE_S)

    def close(self) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)

    def read(self, name: str, use: InUse) -> None:
        """Bring a root up to date. Why that fails is kept, and told to who asks about it."""
        try:
            self._read(name, use)
            self._waiting.pop(name, None)
        except IndexBusyError:
            if name in self._waiting:  # else there is what was read before
                self._waiting[name] = "is being written by another server"
        except Exception as wrong:  # one root must not end the reader of all
            told = str(wrong) if isinstance(wrong, BayError) else type(wrong).__name__
            log.error("the root %s could not be read: %s", name, told, exc_info=None if isinstance(wrong, BayError) else wrong)
            self._waiting[name] = "could not be read"
        finally:
            with self._lock:
                self._looked[name] = time.monotonic()

    def _read(self, name: str, use: InUse) -> None:
        embedder, root, store = self._embedder(), self._roots[name].path, self._stores[name]
        index = self._index(name, embedder)
        try:
            with use.writing(name):
                done = index.update([root])
        except IndexBusyError:
            raise
        except IndexStoreError:  # of another version or embedder: it is the server's own, and can be made again, if nobody reads it
            with use.alone(name):
                done = index.update([root], rebuild=True)
        if embedder is not None and (done.added or done.changed or name in self._waiting):
            with use.writing(name):
                index.embed()
        members = (self._member(root, Path(path), store.created_at) for path in index.files())
        store.members = {member.file_id: member for member in members}

    def _member(self, root: Path, path: Path, created_at: int) -> Member:
        name = path.relative_to(root).as_posix()
        size = path.stat().st_size if path.exists() else 0
        return Member(file_id=name, filename=name, created_at=created_at, bytes=size, status="completed")

    def _index(self, name: str, embedder: Embedder | None) -> Index:
        number = hashlib.sha256(str(self._roots[name].path).encode()).hexdigest()[:24]
        return Index(self._folder / number, embedder=embedder, chunk_tokens=self._chunk_tokens)
