"""One writer at a time. The system frees the lock when its process ends, however it ends; a second writer learns who holds it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from baywindow import home
from baywindow.errors import IndexBusyError


def lock_path(uri: str) -> Path:
    """Beside a local index; for one on object storage in the user's own folder, where it guards this machine only."""
    if "://" in uri:
        return home.data_dir("locks") / (hashlib.sha256(uri.encode()).hexdigest()[:32] + ".lock")
    return Path(uri) / ".writer.lock"


@contextmanager
def writing(uri: str) -> Iterator[None]:
    """Hold the writer's lock. IndexBusyError at once, naming the other process, if it is held."""
    path = lock_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".pid")
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise IndexBusyError(f"process {_pid(holder)} is writing the index {uri}", hint="wait for it, or end it; nothing is lost") from None
    try:
        holder.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        lock.release()


def _pid(holder: Path) -> str:
    try:
        return holder.read_text(encoding="ascii").strip() or "(unknown)"
    except OSError:
        return "(unknown)"
