"""Vector stores: one index a store, below its tenant's folder. Files are read and embedded by one thread, in the order they came.

TENANT/stores/STORE_ID/meta.json, index/ (LanceDB)
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from baywindow.documents.index import Index
from baywindow.documents.walk import shown
from baywindow.errors import BayError
from baywindow.models.base import Embedder
from baywindow.server.errors import ApiError, not_found
from baywindow.server.in_use import InUse
from baywindow.server.keys import Tenant, write_private
from baywindow.server.renamed import Renamed
from baywindow.server.roots import Roots
from baywindow.server.storage import Files, StoredFile, number_of
from baywindow.server.vector_store import Member, VectorStore

log = logging.getLogger("baywindow.server")
MOST_FILES = 10_000  # of a store


class Stores:
    """The stores of all tenants, ``roots`` among them. ``embedder`` is asked for when it is first needed; None where there is none (words
    only)."""

    def __init__(
        self, root: Path, files: Files, roots: Roots, *, embedder: Callable[[], Embedder | None], chunk_tokens: int, most_each: int = 100
    ) -> None:
        self._root, self._files, self._roots = root, files, roots
        self._embedder, self._chunk_tokens, self._most_each = embedder, chunk_tokens, most_each
        self._lock = threading.RLock()  # of every meta.json
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="baywindow-index")
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="baywindow-forget")
        self.use = InUse()

    def new(self, tenant: Tenant, name: str, metadata: dict[str, str]) -> VectorStore:
        if len(self._own(tenant)) >= self._most_each:
            raise ApiError(400, f"you have {self._most_each} vector stores", hint="delete some", code="quota_exceeded")
        now = int(time.time())
        made = VectorStore(id=f"vs_{secrets.token_hex(12)}", name=name, created_at=now, last_active_at=now, metadata=metadata)
        self._folder(tenant, made.id).mkdir(parents=True)
        self._save(tenant, made)
        return made

    def get(self, tenant: Tenant, store_id: str) -> VectorStore:
        """404 for an unknown id, also when it is another tenant's."""
        if (root := self._roots.get(tenant, store_id)) is not None:
            return root
        try:
            with self._lock:
                table = json.loads((self._folder(tenant, store_id) / "meta.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise not_found("vector_store", store_id) from None
        members = {key: Member(**member) for key, member in table.pop("members").items()}
        return VectorStore(**table, members=members)

    def fresh(self, tenant: Tenant, store_id: str) -> VectorStore:
        """`get` for a question: what has changed in a root's folder is taken up first."""
        store = self.get(tenant, store_id)
        if store.id not in self._roots:
            return store
        self._roots.look(store.id, self.use)
        return self.get(tenant, store_id)

    def all(self, tenant: Tenant) -> list[VectorStore]:
        """Newest first, roots last."""
        return [*self._own(tenant), *self._roots.all(tenant)]

    def _own(self, tenant: Tenant) -> list[VectorStore]:
        found = [self.get(tenant, path.parent.name) for path in (self._root / tenant.id / "stores").glob("*/meta.json")]
        return sorted(found, key=lambda store: (-store.created_at, store.id))

    def change(self, tenant: Tenant, store_id: str, act: Callable[[VectorStore], None]) -> VectorStore:
        """Change what is known of a store, in one step. 403 for a root."""
        with self._lock:
            store = self._changeable(tenant, store_id)
            act(store)
            self._save(tenant, store)
            return store

    def remove(self, tenant: Tenant, store_id: str) -> None:
        with self._lock:
            self._changeable(tenant, store_id)
            shutil.rmtree(self._folder(tenant, store_id), ignore_errors=True)

    def _changeable(self, tenant: Tenant, store_id: str) -> VectorStore:
        store = self.get(tenant, store_id)
        if store.id in self._roots:
            raise ApiError(403, f"{store_id} is a folder of this server's, and no request changes it", code="read_only")
        return store

    def add(self, tenant: Tenant, store_id: str, file: StoredFile, attributes: dict[str, str | float | bool]) -> Member:
        """Put a file in; it is read as soon as the reader comes to it."""
        member = Member(file_id=file.id, filename=file.filename, created_at=int(time.time()), bytes=file.bytes, attributes=attributes)

        def put(store: VectorStore) -> None:
            if len(store.members) >= MOST_FILES:
                raise ApiError(400, f"a vector store holds at most {MOST_FILES} files", code="quota_exceeded")
            store.members[file.id] = member

        self.change(tenant, store_id, put)
        self._reader.submit(self._read, tenant, store_id, file)
        return member

    def resume(self) -> None:
        """Go on with the files that were not read when the last server ended, and read the roots."""
        self._roots.start(self.use)
        for path in self._root.glob("*/stores/*/meta.json"):
            tenant = Tenant(path.parents[2].name, "")
            store = self.get(tenant, path.parent.name)
            for member in store.members.values():
                if member.status == "in_progress":
                    self._reader.submit(self._read, tenant, store.id, self._files.get(tenant, member.file_id))

    def take_out(self, tenant: Tenant, store_id: str, file_id: str) -> None:
        """A file leaves a store, and what was read of it leaves the index."""
        store = self.get(tenant, store_id)
        if file_id not in store.members:
            raise not_found("file", file_id)

        def leave(store: VectorStore) -> None:
            store.members.pop(file_id, None)

        self.change(tenant, store_id, leave)
        self._remover.submit(self._forget, tenant, store_id, self._files.path(tenant, self._files.get(tenant, file_id)))

    def forget_file(self, tenant: Tenant, file_id: str) -> None:
        """A file is to be deleted: it leaves all stores first."""
        for store in self._own(tenant):
            if file_id in store.members:
                self.take_out(tenant, store.id, file_id)

    def corpus(self, tenant: Tenant, store: VectorStore) -> Renamed:
        """What a question is asked of, inside ``use.reading(store.id)``: the files that were read, under the names that people gave them
        (the second of one name with its id)."""
        if store.id in self._roots:
            return self._roots.corpus(store)
        done = [m for m in store.members.values() if m.status == "completed"]
        if not done:
            raise ApiError(400, f"the vector store {store.id} has no file that was read", hint="add files, and wait for `completed`")
        paths = {m.file_id: self._files.path(tenant, self._files.get(tenant, m.file_id)) for m in done}
        index = Index(
            self._folder(tenant, store.id) / "index",
            embedder=self._embedder(),
            chunk_tokens=self._chunk_tokens,
            within=[str(path) for path in paths.values()],
        )
        return Renamed(index, {shown(paths[m.file_id]): name for name, m in self.sources(store).items()})

    def sources(self, store: VectorStore) -> dict[str, Member]:
        """The names under which `corpus` shows files."""
        found: dict[str, Member] = {}
        for member in store.members.values():
            if member.status == "completed":
                found[member.filename if member.filename not in found else f"{member.filename} ({member.file_id})"] = member
        return found

    def close(self) -> None:
        self._roots.close()
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._remover.shutdown(wait=True)  # what was to be forgotten is forgotten

    def _read(self, tenant: Tenant, store_id: str, file: StoredFile) -> None:
        status, error = "completed", ""
        try:
            index = Index(self._folder(tenant, store_id) / "index", embedder=self._embedder(), chunk_tokens=self._chunk_tokens)
            with self.use.writing(store_id):
                index.update([self._files.path(tenant, file)])
                if self._embedder() is not None:
                    index.embed()
        except BayError as wrong:
            status, error = "failed", _without_paths(wrong.message, self._files.path(tenant, file), file.filename)
        except Exception as wrong:  # one file must not end the reader of all
            log.error("a file could not be indexed: %s", type(wrong).__name__, exc_info=wrong)
            status, error = "failed", "the server failed to read it"

        def mark(store: VectorStore) -> None:
            if file.id in store.members:
                store.members[file.id].status, store.members[file.id].error = status, error

        try:
            self.change(tenant, store_id, mark)
        except ApiError:
            log.info("a vector store was deleted while a file was read for it")

    def _forget(self, tenant: Tenant, store_id: str, path: Path) -> None:
        try:
            with self.use.alone(store_id):
                Index(self._folder(tenant, store_id) / "index").remove(path)
        except BayError as wrong:  # it was never read, or the store is gone: either way it is not there any more
            log.info("nothing to forget: %s", wrong.message)

    def _save(self, tenant: Tenant, store: VectorStore) -> None:
        store.last_active_at = int(time.time())
        write_private(self._folder(tenant, store.id) / "meta.json", json.dumps(asdict(store)))

    def _folder(self, tenant: Tenant, store_id: str) -> Path:
        number_of("vector_store", "vs_", store_id)
        return self._root / tenant.id / "stores" / store_id


def _without_paths(message: str, path: Path, filename: str) -> str:
    """An error of the extraction, told without where this server keeps things."""
    return message.replace(str(path), filename).replace(shown(path), filename)
