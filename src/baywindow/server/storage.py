"""Uploaded files on disk: one folder a tenant, one folder a file. Every name in a path is made here, none comes from a request.

    TENANT/files/FILE_ID/meta.json, content.SUFFIX     TENANT/stores/STORE_ID/… (see `stores`)

A request's file name is kept as data; only its ending, if it is a short plain one, tells how to read the content.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baywindow.server.errors import ApiError, not_found
from baywindow.server.keys import Tenant, write_private

_ID = re.compile(r"[0-9a-f]{24}")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """What is known of an upload. ``filename`` is as the client named it, for showing."""

    id: str
    filename: str
    bytes: int
    created_at: int
    purpose: str
    suffix: str

    def to_openai(self) -> dict[str, Any]:
        shown = {k: v for k, v in asdict(self).items() if k != "suffix"}
        return {**shown, "object": "file", "status": "processed", "expires_at": None, "status_details": None}


class Files:
    """The uploads of all tenants below ``root``; every call says whose."""

    def __init__(self, root: Path, *, most_bytes: int) -> None:
        self.root = root
        self._most_bytes = most_bytes

    def add(self, tenant: Tenant, filename: str, purpose: str, content: Iterable[bytes]) -> StoredFile:
        """Keep a file. ApiError 413 when the tenant's files together would become too large; nothing is left of it then."""
        number = secrets.token_hex(12)
        folder = self._folder(tenant) / number
        suffix = found.lower() if _SUFFIX.fullmatch(found := Path(filename).suffix) else ""
        free = self._most_bytes - sum(file.bytes for file in self.all(tenant))
        folder.mkdir(parents=True)
        try:
            size = _write(folder / f"content{suffix}", content, free)
            made = StoredFile(
                id=f"file-{number}", filename=shown_name(filename), bytes=size, created_at=int(time.time()), purpose=purpose, suffix=suffix
            )
            write_private(folder / "meta.json", json.dumps(asdict(made)))  # last: without it there is no file
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return made

    def get(self, tenant: Tenant, file_id: str) -> StoredFile:
        """404 for an unknown id, also when it is another tenant's."""
        try:
            return StoredFile(**json.loads((self._of(tenant, file_id) / "meta.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise not_found("file", file_id) from None

    def path(self, tenant: Tenant, file: StoredFile) -> Path:
        return self._of(tenant, file.id) / f"content{file.suffix}"

    def all(self, tenant: Tenant) -> list[StoredFile]:
        """Newest first."""
        found = [StoredFile(**json.loads(p.read_text(encoding="utf-8"))) for p in self._folder(tenant).glob("*/meta.json")]
        return sorted(found, key=lambda file: (-file.created_at, file.id))

    def remove(self, tenant: Tenant, file_id: str) -> None:
        self.get(tenant, file_id)
        shutil.rmtree(self._of(tenant, file_id))

    def _folder(self, tenant: Tenant) -> Path:
        return self.root / tenant.id / "files"

    def _of(self, tenant: Tenant, file_id: str) -> Path:
        return self._folder(tenant) / number_of("file", "file-", file_id)


def number_of(what: str, prefix: str, given: str) -> str:
    """The part of an id that names a folder; 404 for anything that was not made here."""
    number = given.removeprefix(prefix)
    if given == number or not _ID.fullmatch(number):
        raise not_found(what, given)
    return number


def shown_name(filename: str) -> str:
    """A file name for showing: its last part, without characters that command a terminal or a page."""
    last = re.split(r"[/\\]", filename)[-1]
    plain = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip()
    return plain[-LONGEST_NAME:] or "unnamed"


def _write(path: Path, content: Iterable[bytes], free: int) -> int:
    size = 0
    with path.open("xb") as file:
        for piece in content:
            size += len(piece)
            if size > free:
                raise ApiError(413, "your files together are too large", hint="delete some: DELETE /v1/files/ID", code="quota_exceeded")
            file.write(piece)
    return size
