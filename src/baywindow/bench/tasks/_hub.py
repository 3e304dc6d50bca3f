"""Public sets fetched by name, through the library ``datasets``. No code of a set is ever run: only files are read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from baywindow.errors import MissingExtraError, SourceError
from baywindow.models.hub import HUB_SECONDS, offline

FILES = "hf://datasets"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where a subset is: a configuration that the library reads itself, or one file, perhaps a member of a zip archive.

    Files are for sets whose own loader is a script (which is never run) or whose columns mix types (which the library refuses).
    """

    repo: str
    config: str = ""
    split: str = "test"
    file: str = ""
    member: str = ""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of a configuration. SourceError if it cannot be had."""
        load = _library().load_dataset
        yield from (dict(row) for row in _tried(self.repo, lambda: load(self.repo, self.config or None, split=self.split)))

    def path(self, folder: Path) -> Path:
        """The file, downloaded; a member of an archive is written to ``folder``. SourceError if it cannot be had."""
        manager = _library().DownloadManager()
        found = Path(_tried(self.repo, lambda: manager.download(f"{FILES}/{self.repo}/{self.file}")))
        if not self.member:
            return found
        target = folder / Path(self.member).name
        with zipfile.ZipFile(found) as archive:
            if self.member not in archive.namelist():
                raise SourceError(f"{self.repo}: {self.file} has no {self.member}", hint="give a local copy of the set")
            target.write_bytes(archive.read(self.member))
        return target


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError.of("what fetches public data sets (datasets)", "bench") from None
    return datasets


def _tried(repo: str, fetch: Any) -> Any:
    answers, reason = (True, "") if offline() or Path(repo).exists() or not FILES.startswith("hf://") else _hub_has(repo)
    if not answers:
        raise SourceError(f"the data set {repo} cannot be fetched: {reason}", hint="give a local copy of the set")
    try:
        return fetch()
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"the data set {repo} cannot be fetched: {first}", hint="give a local copy of the set") from error


@cache
def _hub_has(repo: str) -> tuple[bool, str]:
    """Asked quickly and once, as for models: the library itself tries for minutes."""
    import httpx

    base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    try:
        reply = httpx.get(f"{base}/api/datasets/{repo}", timeout=HUB_SECONDS, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False, f"the hub cannot be reached within {HUB_SECONDS:g} s"
    if reply.status_code >= 400:
        return False, f"the hub answers HTTP {reply.status_code}"
    return True, ""
