"""Where the machine's state is read: this process and its processors, or an NVIDIA device."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baywindow.errors import MissingExtraError

RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Reading:
    """The state at one time (seconds of a monotonic clock). None is what this meter cannot tell. ``joules`` is a running counter."""

    at_s: float
    memory_bytes: float | None = None
    utilisation: float | None = None  # 0 to 1, since the reading before
    joules: float | None = None


class Meter(ABC):
    """Reads the machine. ``memory_total`` in bytes, 0 if unknown; ``notes`` say what cannot be read and why."""

    memory_total: int = 0
    notes: tuple[str, ...] = ()

    @abstractmethod
    def read(self, at_s: float) -> Reading:
        """The state now, stamped with the time given."""


class ProcessMeter(Meter):
    """This process and its children: resident memory, share of the processors it may use, RAPL's energy of the whole machine."""

    def __init__(self, rapl: Path = RAPL) -> None:
        try:
            import psutil
        except ImportError:
            raise MissingExtraError.of("what reads memory and processor time (psutil)", "local") from None
        self._process: Any = psutil.Process()
        self._gone = psutil.NoSuchProcess
        self._processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        self.memory_total = int(psutil.virtual_memory().total)
        self._counters = _rapl_counters(rapl)
        self._before: tuple[float, float] | None = None
        if not self._counters:
            self.notes = ("energy: no RAPL counter can be read here",)

    def read(self, at_s: float) -> Reading:
        family = self._family()
        memory, used = sum(m for m, _ in family), sum(t for _, t in family)
        busy = None
        if self._before is not None and at_s > self._before[0]:
            busy = min(1.0, max(0.0, (used - self._before[1]) / (at_s - self._before[0]) / self._processors))
        self._before = (at_s, used)
        return Reading(at_s, memory, busy, sum(_joules(c) for c in self._counters) if self._counters else None)

    def _family(self) -> list[tuple[int, float]]:
        """Resident bytes and processor seconds of the process and of those of its children that are still there."""
        found = []
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                times = process.cpu_times()
                found.append((process.memory_info().rss, times.user + times.system))
            except self._gone:
                continue
        return found


class NvmlMeter(Meter):
    """The first NVIDIA device: memory in use by anybody, the driver's utilisation figure, its energy counter (millijoules)."""

    def __init__(self, nvml: Any, index: int = 0) -> None:
        self._nvml = nvml
        self._device = nvml.nvmlDeviceGetHandleByIndex(index)
        self.memory_total = int(nvml.nvmlDeviceGetMemoryInfo(self._device).total)
        self._has_energy = self._energy() is not None
        if not self._has_energy:
            self.notes = ("energy: this device has no energy counter",)

    def read(self, at_s: float) -> Reading:
        memory = float(self._nvml.nvmlDeviceGetMemoryInfo(self._device).used)
        busy = self._nvml.nvmlDeviceGetUtilizationRates(self._device).gpu / 100
        return Reading(at_s, memory, busy, self._energy() if self._has_energy else None)

    def _energy(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)) / 1000
        except self._nvml.NVMLError:
            return None


def meter() -> Meter:
    """The NVIDIA device where NVML and its Python package are there, else this process."""
    try:
        import pynvml
    except ImportError:
        return ProcessMeter()
    try:
        pynvml.nvmlInit()
        return NvmlMeter(pynvml)
    except pynvml.NVMLError:
        return ProcessMeter()


def _rapl_counters(root: Path) -> list[Path]:
    """Counters of whole packages; their parts (``intel-rapl:0:0``) are contained in them and would count twice."""
    found = []
    for file in sorted(root.glob("*rapl:*/energy_uj")):
        if file.parent.name.count(":") != 1:
            continue
        try:
            int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        found.append(file)
    return found


def _joules(counter: Path) -> float:
    return int(counter.read_text(encoding="ascii")) / 1e6
