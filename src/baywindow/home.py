"""Where Baywindow keeps what it makes. ``BAY_HOME`` moves all of it; ``BAY_CACHE`` moves only what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_dir(*parts: str) -> Path:
    """A folder for things worth keeping (the index); made if missing."""
    return _made(_root("data"), parts)


def cache_dir(*parts: str) -> Path:
    """A folder for things that can be made again (converted models); made if missing."""
    return _made(_root("cache"), parts)


def _root(kind: str) -> Path:
    if kind == "cache" and (cache := os.environ.get("BAY_CACHE")):
        return Path(cache).expanduser()
    if home := os.environ.get("BAY_HOME"):
        return Path(home).expanduser() / kind
    found = platformdirs.user_data_dir("baywindow") if kind == "data" else platformdirs.user_cache_dir("baywindow")
    return Path(found)


def _made(root: Path, parts: tuple[str, ...]) -> Path:
    path = root.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path
