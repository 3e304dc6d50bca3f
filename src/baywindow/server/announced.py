"""Servers that run on this machine for this user, each as a small file by which `bay ask` finds it.

``serve/running/PID.json`` in the data folder holds where the server listens, what it serves and a token that only it takes; nobody
else may read it. Beside it the server holds a lock, which the system frees when the process ends, however it ends: a number alone
could meanwhile be another process's. What a process left behind is removed by whoever looks next.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import filelock

from baywindow.home import data_dir
from baywindow.models.embedders import EMBEDDED
from baywindow.models.endpoint import is_loopback
from baywindow.server.keys import write_private

if TYPE_CHECKING:
    from baywindow.config import Settings
    from baywindow.models.base import Embedder
    from baywindow.server.service import Service

HEALTH_SECONDS = 2.0
LOCK_SECONDS = 5.0  # somebody may just be looking whether a process of the same number left something


@dataclass(frozen=True, kw_only=True)
class Announced:
    """A running server. ``model`` is its name in requests; ``label``, ``instructed`` and ``window`` (tokens) are as `LanguageModel` has
    them; ``embedder`` is the fingerprint of the embedded embedder, empty where another one is served; ``device``, ``dtype`` and
    ``context`` are the settings that the model was loaded with; ``version`` is Baywindow's; ``private`` serves nobody but this user's
    `bay ask`."""

    url: str
    model: str
    label: str
    instructed: bool
    fingerprint: str
    embedder: str
    window: int
    device: str
    dtype: str
    context: int | None
    timeout_s: float
    version: str
    private: bool
    token: str = field(repr=False)

    def would_load(self, fingerprint: str, settings: Settings) -> bool:
        """Whether this is the model, held in the same way, that these settings would load for that fingerprint."""
        here = (fingerprint, settings.device, settings.dtype, settings.context, version())
        return here == (self.fingerprint, self.device, self.dtype, self.context, self.version)

    def would_embed(self, fingerprint: str, settings: Settings) -> bool:
        """Whether its vectors are those that these settings would make with the embedder of that fingerprint."""
        return (fingerprint, settings.device, version()) == (self.embedder, self.device, self.version)

    def answers(self) -> bool:
        """Whether it says that it is well, at once."""
        import httpx

        try:
            reply = httpx.get(f"{self.url}/healthz", timeout=HEALTH_SECONDS, trust_env=False)
        except httpx.HTTPError:
            return False
        return reply.status_code == 200


def announcement(service: Service, url: str) -> Announced | None:
    """What to announce of a service; None where the same question would be answered otherwise through it than by the model loaded anew.

    That is so of an upstream, and of a default recipe that acts inside the model. A server that listens for other machines is announced
    no more than one that does not run.
    """
    model, options, settings = service.model, service.options, service.settings
    if model is None or not options.local or not options.local_token:
        return None
    if service.named(service.served[0]).recipe.inside:
        return None
    return Announced(
        url=url,
        model=service.served[0],
        label=model.label,
        instructed=model.instructed,
        fingerprint=model.fingerprint,
        embedder=_embedded(service.embedder),
        window=model.context_length,
        device=settings.device,
        dtype=settings.dtype,
        context=settings.context,
        timeout_s=options.timeout_s,
        version=version(),
        private=options.private,
        token=options.local_token,
    )


def _embedded(embedder: Embedder | None) -> str:
    return embedder.fingerprint if embedder is not None and embedder.name == EMBEDDED else ""


def announce(what: Announced) -> Callable[[], None]:
    """Write the file of this process. What is returned takes it away again, and holds the lock for as long as it is kept."""
    path = _folder() / f"{os.getpid()}.json"
    lock = filelock.FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS, thread_local=False)
    lock.acquire()
    write_private(path, json.dumps(asdict(what), indent=1))

    def withdraw() -> None:
        _remove(path)
        lock.release()

    return withdraw


def running() -> list[Announced]:
    """Every announced server whose process lives and whose address is this machine's."""
    return [found for path in sorted(_folder().glob("*.json")) if _lives(path) and (found := _read(path)) is not None]


def stop_private() -> int:
    """Tell every private server of this user to end; how many there were."""
    found = [path for path in sorted(_folder().glob("*.json")) if _lives(path) and (server := _read(path)) is not None and server.private]
    for path in found:
        os.kill(int(path.stem), signal.SIGTERM)
    return len(found)


def version() -> str:
    from importlib import metadata

    return metadata.version("baywindow")


def _folder() -> Path:
    return data_dir("serve", "running")


def _lives(path: Path) -> bool:
    """Whether the process that wrote this holds its lock; removes what a dead one left."""
    lock = filelock.FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        with lock:
            _remove(path)
    except filelock.Timeout:
        return True
    return False


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if os.name != "nt":  # there an open file cannot be removed; it holds nothing
        path.with_suffix(".lock").unlink(missing_ok=True)


def _read(path: Path) -> Announced | None:
    """None for a file that is not whole, is of another version's form, or names another machine."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(row, dict) or row.keys() != {f.name for f in fields(Announced)}:
        return None
    return Announced(**row) if is_loopback(urlsplit(str(row["url"])).hostname or "") else None
