"""What a local model's fingerprint is, told without loading it: `LanguageModel.fingerprint` of the model that a name would load."""

from __future__ import annotations

from pathlib import Path

from baywindow.models import embedded, gguf
from baywindow.models.fingerprint import sha256_of, sha256_of_folder
from baywindow.models.hub import cached_folder


def fingerprint_of(name: str) -> str | None:
    """Of the embedded model, a .gguf file, a folder or a hub id whose snapshot is cached; None where only loading would tell.

    Sums are remembered, so a file is read at most once. ModelError for a folder without weights.
    """
    path = embedded.gguf_path() if name == embedded.NAME else Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        return f"sha256:{sha256_of(path)}"
    if path.is_dir():
        return of_folder(path)
    snapshot = cached_folder(name)
    return of_commit(name, snapshot.name) if snapshot is not None else None


def of_folder(folder: Path) -> str:
    """A converted folder bears the sum of the file it was made from."""
    manifest = gguf.read_manifest(folder)
    return f"sha256:{manifest['sha256'] if manifest else sha256_of_folder(folder)}"


def of_commit(name: str, commit: str | None) -> str:
    """Of a model from the hub; the name alone where the commit is not known."""
    return f"{name}@{commit}" if commit else name
