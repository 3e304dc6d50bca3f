"""What has to be done to bring an index up to date: which files are new or changed, and which are gone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from baywindow.documents.index.rows import FileRecord
from baywindow.documents.walk import Root, files_of

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Candidate:
    """A file to look at: new (no record), or with another time or size than its record."""

    path: Path
    stat: os.stat_result
    record: FileRecord | None
    named: bool  # a person named it, so that failing to read it is an error


@dataclass
class Plan:
    candidates: list[Candidate] = field(default_factory=list)
    gone: list[FileRecord] = field(default_factory=list)
    unchanged: int = 0

    def __bool__(self) -> bool:
        return bool(self.candidates or self.gone)


def plan_update(records: Mapping[str, FileRecord], roots: Sequence[Root]) -> Plan:
    """Compares the files of the roots with the records, by time and size alone. A record below a root without its file is gone."""
    found = Plan()
    seen: set[str] = set()
    for root in roots:
        for path in files_of(root):
            if str(path) not in seen:
                seen.add(str(path))
                _compare(path, records.get(str(path)), not root.is_folder, found)
    folders = [str(root.path) for root in roots if root.is_folder]
    found.gone += [r for path, r in records.items() if path not in seen and any(is_below(path, f) for f in folders)]
    return found


def _compare(path: Path, record: FileRecord | None, named: bool, found: Plan) -> None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return  # vanished since the folder was listed; its record, if any, stays until the next look
    if record is not None and (record.mtime_ns, record.size_bytes) == (stat.st_mtime_ns, stat.st_size):
        found.unchanged += 1
    else:
        found.candidates.append(Candidate(path, stat, record, named))


def is_below(path: str, root: str) -> bool:
    """Whether a path is the root or lies inside it (both absolute)."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def digest_of(path: Path) -> str:
    """Content hash, read in pieces."""
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
