"""What `/metrics` tells Prometheus. Labels hold no text of a request: routes by their pattern, and nothing of who asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from baywindow.server.outcome import Outcome
    from baywindow.server.prefixes import PrefixStore
    from baywindow.server.service import Service

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One server's, in a registry of its own: two servers in one process do not mix."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("baywindow_requests", "Requests, by route and status.", ("route", "status"), registry=self._registry)
        self._seconds = Histogram(
            "baywindow_request_seconds", "Until the last byte of a response.", ("route",), buckets=SECONDS, registry=self._registry
        )
        self._tokens = Counter("baywindow_tokens", "Tokens of model calls, by direction.", ("direction",), registry=self._registry)
        self._calls = Counter("baywindow_model_calls", "Model calls.", registry=self._registry)
        self._left_out = Counter("baywindow_tokens_left_out", "Tokens of requests that no call read.", registry=self._registry)
        self._gauge("baywindow_requests_under_way", "Requests under way.", lambda: service.work.busy)
        if (engine := service.engine) is not None:
            self._gauge("baywindow_rows_waiting", "Replies waiting for the model.", lambda: engine.waiting)
            self._gauge("baywindow_batches_run", "Batches run so far.", lambda: engine.batches)
            self._of_cache(engine.prefixes)
            self._gauge("baywindow_rows_run", "Replies run so far, in all batches.", lambda: engine.rows)

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def outcome(self, outcome: Outcome) -> None:
        self._tokens.labels("in").inc(outcome.usage.prompt_tokens)
        self._tokens.labels("out").inc(outcome.usage.generated_tokens)
        self._calls.inc(outcome.usage.calls)
        self._left_out.inc(outcome.report()["tokens_left_out"])

    def text(self) -> bytes:
        found: bytes = generate_latest(self._registry)
        return found

    def _of_cache(self, prefixes: PrefixStore | None) -> None:
        if prefixes is None:
            return
        counts = prefixes.counts
        for name, what in (
            ("memory", "Long prompts whose beginning was in memory."),
            ("disk", "Long prompts whose beginning was loaded from disk."),
            ("misses", "Long prompts that were read from their start."),
            ("recomputed", "Beginnings on disk that were quicker to read anew."),
            ("damaged", "Beginnings on disk that were damaged, and removed."),
            ("unwritten", "Beginnings that could not be written to disk."),
            ("tokens", "Tokens of prompts that were not read again."),
        ):
            self._gauge(f"baywindow_cache_{name}", what, partial(counts.__getitem__, name))
        self._gauge("baywindow_cache_memory_bytes", "Beginnings of prompts in memory.", lambda: prefixes.memory.nbytes)
        self._gauge("baywindow_cache_disk_bytes", "Beginnings of prompts on disk.", lambda: prefixes.disk.nbytes)

    def _gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        Gauge(name, what, registry=self._registry).set_function(value)
