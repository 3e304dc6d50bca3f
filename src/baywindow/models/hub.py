"""What the model hub has, asked quickly: a machine without it must not wait for minutes to learn that."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

HUB_SECONDS = 3.0
_TRUE = frozenset({"1", "true", "yes", "on"})


def offline() -> bool:
    """Whether the person has ruled the hub out (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def is_cached(name: str) -> bool:
    """Whether a model's configuration and weights are in the hub's cache. False without the hub's client."""
    return cached_bytes(name) > 0


def cached_bytes(name: str) -> int:
    """Bytes of a model's snapshot in the hub's cache; 0 if configuration or weights are missing."""
    folder = cached_folder(name)
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder is not None else 0


def cached_folder(name: str) -> Path | None:
    """A model's snapshot in the hub's cache, named by its commit; None if configuration or weights are missing."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        return None
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")) else None


@cache
def hub_answers(name: str) -> tuple[bool, str]:
    """Whether the hub has this model and answers within seconds, and the reason in a few words. Asked once a process."""
    if offline():
        return False, "HF_HUB_OFFLINE is set and it is not in the cache"
    import httpx

    base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    try:
        reply = httpx.get(f"{base}/api/models/{name}", timeout=HUB_SECONDS, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False, f"the model hub cannot be reached within {HUB_SECONDS:g} s"
    if reply.status_code in {401, 404}:
        return False, "the model hub does not have it, or keeps it private"
    if reply.status_code >= 400:
        return False, f"the model hub answers HTTP {reply.status_code}"
    return True, "the model hub has it"
