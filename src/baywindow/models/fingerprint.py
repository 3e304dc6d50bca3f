"""What a local model is bound to: a SHA-256 of its weights, remembered by path, size and time of change.

Hashing half a gigabyte takes about a second; a remembered sum costs one small file. A changed file has another size or time and is
hashed again. The memory lives in the cache and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from baywindow.errors import ModelError
from baywindow.home import cache_dir

WEIGHTS = ("*.safetensors",)
_BLOCK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """SHA-256 of one file as 64 hex digits, from memory if the file has not changed. ModelError if it cannot be read."""
    try:
        path = path.resolve(strict=True)
        stat = path.stat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint="check the path and its permissions") from None
    known = cache_dir("fingerprints") / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    mark = {"path": str(path), "bytes": stat.st_size, "changed_ns": stat.st_mtime_ns}
    if (remembered := _read(known)) is not None and remembered.items() >= mark.items() and "sha256" in remembered:
        return str(remembered["sha256"])
    digest = _hash(path)
    write_json(known, mark | {"sha256": digest})
    return digest


def sha256_of_folder(folder: Path) -> str:
    """SHA-256 over the names and sums of a model folder's weight files, in order of name. ModelError if there are none."""
    files = sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)})
    if not files:
        raise ModelError(f"{folder} holds no weights (*.safetensors)", hint="save the model with safe serialization")
    return combined([(file.name, sha256_of(file)) for file in files])


def combined(sums: Sequence[tuple[str, str]]) -> str:
    """One sum over (name, sum) pairs; a single file keeps its own sum, so that renaming it changes nothing."""
    if len(sums) == 1:
        return sums[0][1]
    return hashlib.sha256("\n".join(f"{digest}  {name}" for name, digest in sums).encode()).hexdigest()


def write_json(path: Path, value: dict[str, object]) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(value, out, indent=1, sort_keys=True)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing, or cut short by a full disk: the sum is computed again
        return None
    return found if isinstance(found, dict) else None


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
