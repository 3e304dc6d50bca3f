"""API keys and the tenants they stand for. A key is shown once, when it is made; kept is only its SHA-256.

Keys are 256 random bits, so a plain hash is as good as a slow one: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from baywindow.errors import ConfigError
from baywindow.home import data_dir

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Tenant:
    """Whose request it is. ``id`` names folders and queues; it is made here and never comes from a request."""

    id: str
    name: str


LOCAL = Tenant("local", "local")  # whoever sits at this machine, where no key is asked for


class Keys:
    """The keys of this home. Keys that are made or revoked while a server runs count at once."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or data_dir("serve") / "keys.json"
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, Tenant] = {}

    def new(self, name: str) -> str:
        """A new key, to be shown once. ConfigError for a name that is taken or could not be typed."""
        if not _NAME.fullmatch(name):
            raise ConfigError.bad_value("key name", name, "letters, digits, and ._@- between")
        token = f"bay-{secrets.token_urlsafe(32)}"
        with FileLock(f"{self.path}.lock"):
            rows = self._read()
            if any(row["name"] == name for row in rows):
                raise ConfigError(f"there is a key called {name} already", hint=f"--revoke-key {name} ends it")
            made = {"name": name, "id": f"t{secrets.token_hex(8)}", "sha256": _hash(token), "created_at": int(time.time())}
            self._write([*rows, made])
        return token

    def revoke(self, name: str) -> None:
        """End a key. Its tenant's files stay on disk, out of everybody's reach."""
        with FileLock(f"{self.path}.lock"):
            rows = self._read()
            if not any(row["name"] == name for row in rows):
                raise ConfigError(f"there is no key called {name}", hint="--keys lists them")
            self._write([row for row in rows if row["name"] != name])

    def names(self) -> list[tuple[str, int]]:
        """Every key's name and when it was made (seconds since 1970)."""
        return [(row["name"], row["created_at"]) for row in self._read()]

    def tenant_of(self, token: str) -> Tenant | None:
        """Looked up by hash, so timing tells nothing of a key."""
        self._refresh()
        return self._known.get(_hash(token))

    def __len__(self) -> int:
        self._refresh()
        return len(self._known)

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            self._stamp, self._known = None, {}
            return
        if stamp != self._stamp:
            self._known = {row["sha256"]: Tenant(row["id"], row["name"]) for row in self._read()}
            self._stamp = stamp

    def _read(self) -> list[dict[str, Any]]:
        try:
            return list(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.path} cannot be read: {error}", hint="restore it, or remove it and make new keys") from None

    def _write(self, rows: list[dict[str, Any]]) -> None:
        write_private(self.path, json.dumps(rows, indent=1))


def write_private(path: Path, text: str) -> None:
    """A file that only its owner reads, replaced in one step."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(partial, path)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).hexdigest()
