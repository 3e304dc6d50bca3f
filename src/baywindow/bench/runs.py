"""Where runs are kept, and what they are called."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from baywindow.bench.store import SUFFIX
from baywindow.home import data_dir


def folder() -> Path:
    return data_dir("bench")


def path_of(name: str) -> Path:
    """The file of a run: a path as it is (also a folder that holds one run), else a name in the folder of runs."""
    given = Path(name).expanduser()
    if given.is_dir() and len(found := sorted(given.glob(f"*{SUFFIX}"))) == 1:
        return found[0]
    if given.name.endswith(SUFFIX) or len(given.parts) > 1:
        return given if given.name.endswith(SUFFIX) else given.with_name(given.name + SUFFIX)
    return folder() / f"{name}{SUFFIX}"


def name_of(path: Path) -> str:
    """What to type for a run: its name where it is in the folder of runs, else its path."""
    return path.name.removesuffix(SUFFIX) if path.parent == folder() else str(path)


def new_path(now: datetime) -> Path:
    """A name that sorts by time."""
    return folder() / f"{now:%Y%m%d-%H%M%S}{SUFFIX}"


def all_runs() -> list[Path]:
    return sorted(folder().glob(f"*{SUFFIX}"))
