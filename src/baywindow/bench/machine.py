"""What a measurement was made on, and how much memory it took."""

from __future__ import annotations

import os
import platform
import sys
import threading
from functools import cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

PACKAGES = ("baywindow", "torch", "transformers", "tokenizers", "numpy", "lancedb", "openai")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def described() -> dict[str, Any]:
    """Machine and versions, as they are kept with every row."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


class Peak:
    """The largest resident size of this process while a block runs, in bytes (`bytes`; None where it cannot be known).

    Linux is asked to forget its own high-water mark at the start; elsewhere the size is looked at fifty times a second.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Peak:
        try:
            _CLEAR.write_text("5")
        except OSError:
            if _resident() is not None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        else:
            self.bytes = _high_water()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.bytes = max(self.bytes or 0, _resident() or 0)


def _high_water() -> int | None:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


def _resident() -> int | None:
    try:
        import psutil
    except ModuleNotFoundError:
        return None
    return int(psutil.Process().memory_info().rss)


@cache
def _cpu() -> str:
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
