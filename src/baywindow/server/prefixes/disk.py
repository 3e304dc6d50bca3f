"""States on disk: a folder each, under its name, in one folder that several servers may share.

A state is written beside and renamed into place while the lock is held, so it is there whole or not at all, and what a killed server
left behind is cleared by the next one that writes. Reading takes no lock: who finds a state gone meanwhile has not found it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from baywindow.models.prefixes import Level, State

PATIENCE_S = 60.0  # for another server that is writing
BESIDE = "being-written"
GONE = "gone-"


class Disk:
    """At most ``most_bytes``, the least recently used leaving first; 0 keeps nothing."""

    def __init__(self, folder: Path, most_bytes: int, level: Level) -> None:
        self.folder, self.most_bytes, self.level = folder, most_bytes, level
        if most_bytes:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")

    def __contains__(self, name: str) -> bool:
        return bool(self.most_bytes) and self.path(name).is_dir()

    def find(self, name: str) -> Path | None:
        """Where a state lies. It counts as used now."""
        if name not in self:
            return None
        try:
            os.utime(self.path(name))
        except FileNotFoundError:  # another server has just removed it
            return None
        return self.path(name)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}-{self.level}"

    @property
    def nbytes(self) -> int:
        return sum(map(bytes_of, self._kept())) if self.most_bytes else 0

    def write(self, name: str, state: State) -> bool:
        """Whether it is there now. OSError if the disk is full; nothing is left of it then."""
        path = self.path(name)
        if not self.most_bytes or path.exists():
            return path.exists()
        try:
            with self._lock.acquire(timeout=PATIENCE_S):
                return self._write(path, state)
        except Timeout:
            return False

    def _write(self, path: Path, state: State) -> bool:
        self._clear()
        beside = self.folder / BESIDE / path.name
        try:
            if not state.save(beside, self.level) or (size := bytes_of(beside)) > self.most_bytes:
                return False
            self._make_room(size)
            if not path.exists():
                beside.rename(path)
            return True
        finally:
            shutil.rmtree(self.folder / BESIDE, ignore_errors=True)

    def remove(self, path: Path) -> None:
        """Take a state away. A rename first, so that nobody finds half of it."""
        gone = self.folder / f"{GONE}{secrets.token_hex(8)}"
        try:
            path.rename(gone)
        except OSError:  # another server was quicker
            return
        shutil.rmtree(gone, ignore_errors=True)

    def _make_room(self, size: int) -> None:
        kept = sorted(((_used(path), path, bytes_of(path)) for path in self._kept()), key=lambda one: one[0])
        total = sum(nbytes for _, _, nbytes in kept)
        for _, path, nbytes in kept:
            if total + size <= self.most_bytes:
                return
            self.remove(path)
            total -= nbytes

    def _kept(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.is_dir() and path.name != BESIDE and not path.name.startswith(GONE)]

    def _clear(self) -> None:
        """What servers that were killed left behind: nobody else writes while the lock is held."""
        for path in [self.folder / BESIDE, *self.folder.glob(f"{GONE}*")]:
            shutil.rmtree(path, ignore_errors=True)


def bytes_of(folder: Path) -> int:
    """Bytes of a state's files; 0 for one that has just been removed."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except FileNotFoundError:
        return 0


def _used(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
