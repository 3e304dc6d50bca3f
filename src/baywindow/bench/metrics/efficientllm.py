"""What a run costs the machine, by EfficientLLM's six figures.

Paper: Yuan et al., 2025, EfficientLLM: Efficiency in Large Language Models, arXiv 2505.13840. No code was published and the exact formulas
were not to be had here, so these are ours for its six names:
AMU, memory in use, averaged over time, in bytes and as a share of the memory there is; PCU, compute utilisation, its peak and, because the
peak of a poller is nearly always 100 %, its average over time; AL, seconds a request; AT, tokens a second, prompt and generated apart;
AEC, watts drawn, averaged, only where a counter can be read; MCR, bytes of the model before over after, and the same weighted by the
quality kept. The poll interval is part of every result: a figure of a coarse poller and one of a fine one are two figures.

Of a process on the CPU, memory is its resident set, utilisation that of the processors it may use, energy Linux's RAPL counter (readable by
root on most machines). Of an NVIDIA device, all three come from NVML, where its Python package is installed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType

from baywindow.bench.metrics._meters import Meter, Reading, meter
from baywindow.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """One call to a model. ``first_token_s`` is None where the model does not stream."""

    seconds: float
    prompt_tokens: int
    generated_tokens: int
    first_token_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """None is a figure that could not be measured here; ``notes`` say why."""

    amu_bytes: float | None
    amu_share: float | None
    peak_bytes: float | None
    pcu: float | None
    average_utilisation: float | None
    al_s: float | None
    first_token_s: float | None
    at_generated: float | None  # generated tokens a second of request time
    at_all: float | None  # prompt and generated
    aec_watts: float | None
    energy_joules: float | None
    mcr: float | None
    mcr_quality: float | None
    poll_interval_s: float
    readings: int
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Sampler:
    """Polls the machine while its ``with`` block lasts, from a thread of its own: ``with Sampler() as watched: …``.

    Always at least two readings, one at either end. ``of`` is the meter; an NVIDIA device if NVML is there, else this process.
    """

    interval_s: float = 0.1
    of: Meter = field(default_factory=meter)
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.interval_s <= 0:
            raise ConfigError.bad_value("interval_s", self.interval_s, "above 0")

    def __enter__(self) -> Sampler:
        self._done = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._poll, name="bench-sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        self._take()

    def _poll(self) -> None:
        while not self._done.wait(self.interval_s):
            self._take()

    def _take(self) -> None:
        self.readings.append(self.of.read(time.perf_counter()))


def efficiency(
    watched: Sampler, requests: Sequence[Request], *, bytes_before: int = 0, bytes_after: int = 0, quality_kept: float | None = None
) -> Efficiency:
    """The six figures of what a sampler saw and the requests made meanwhile. ``quality_kept`` is score after over score before."""
    readings = watched.readings
    memory = averaged(readings, "memory_bytes")
    busy = averaged(readings, "utilisation")
    seconds = sum(r.seconds for r in requests)
    generated = sum(r.generated_tokens for r in requests)
    firsts = [r.first_token_s for r in requests if r.first_token_s is not None]
    joules = _spent(readings)
    mcr = bytes_before / bytes_after if bytes_before > 0 and bytes_after > 0 else None
    return Efficiency(
        amu_bytes=memory,
        amu_share=memory / watched.of.memory_total if memory is not None and watched.of.memory_total else None,
        peak_bytes=max((r.memory_bytes for r in readings if r.memory_bytes is not None), default=None),
        pcu=max((r.utilisation for r in readings if r.utilisation is not None), default=None),
        average_utilisation=busy,
        al_s=seconds / len(requests) if requests else None,
        first_token_s=sum(firsts) / len(firsts) if firsts else None,
        at_generated=generated / seconds if seconds else None,
        at_all=(generated + sum(r.prompt_tokens for r in requests)) / seconds if seconds else None,
        aec_watts=joules / (readings[-1].at_s - readings[0].at_s) if joules is not None and readings[-1].at_s > readings[0].at_s else None,
        energy_joules=joules,
        mcr=mcr,
        mcr_quality=mcr * quality_kept if mcr is not None and quality_kept is not None else None,
        poll_interval_s=watched.interval_s,
        readings=len(readings),
        notes=watched.of.notes,
    )


def averaged(readings: Sequence[Reading], what: str) -> float | None:
    """Mean over time of one quantity, by the trapezoid rule; the plain mean if no time passed. None without readings of it."""
    points = [(r.at_s, float(value)) for r in readings if (value := getattr(r, what)) is not None]
    if not points:
        return None
    length = points[-1][0] - points[0][0]
    if length <= 0:
        return sum(v for _, v in points) / len(points)
    return sum((b - a) * (u + v) / 2 for (a, u), (b, v) in pairwise(points)) / length


def _spent(readings: Sequence[Reading]) -> float | None:
    """Joules between the first and the last reading. A counter that wrapped round in between gives nothing rather than a wrong figure."""
    counted = [r.joules for r in readings if r.joules is not None]
    if len(counted) < 2 or any(b < a for a, b in pairwise(counted)):
        return None
    return counted[-1] - counted[0]
