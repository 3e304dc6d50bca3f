"""Offload: keep keys and values in host memory, and fetch each layer's while the layer before it runs.

Paper: none; the technique of offloaded caches in common engines.

Idea: only one layer is read at a time. Everything older than the last ``group_tokens`` lies in pinned host memory; when a layer
starts, the next layer's content is copied back on a stream of its own.

Departs from the paper: nothing known. On a machine without an accelerator host memory is the memory, so nothing moves.

Shapes and units: whatever the other caches of the recipe made of the tokens, unchanged.

Cost: every read copies what is held from the host; no arithmetic.

Errors: ConfigError for ``group_tokens`` below 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Flat
from baywindow.window.caches.base import Mover, Segment


@technique(
    summary="keep keys and values in host memory and fetch them a layer ahead",
    needs=("weights", "kv"),
    claim="Device memory holds the recent tokens of all layers and at most two layers' older ones, with the same answers.",
    slot="move",
)
class Offload(Mover):
    group_tokens: int = 256  # recent tokens that stay on the device until there are so many

    def __post_init__(self) -> None:
        if self.group_tokens < 1:
            raise ConfigError.bad_value("group_tokens", self.group_tokens, "at least 1")

    def put(self, segment: Segment, device: torch.device) -> Segment:
        return segment if isinstance(segment, HostSegment) else HostSegment(segment, device)

    def cost(self, shape: Shape) -> Cost:
        kept = shape.prompt_tokens * shape.token_bytes
        return Cost(flops=0, bytes_kept=kept, bytes_read=kept)


class HostSegment(Segment):
    """Another segment whose tensors lie in host memory. What was fetched ahead is used once and forgotten."""

    def __init__(self, inner: Segment, device: torch.device) -> None:
        self._kind = type(inner)
        self._device = device
        self.counts = inner.counts
        self._host = {name: to_host(t) for name, t in inner.tensors().items()}
        self._ahead: tuple[dict[str, Tensor], torch.cuda.Event] | None = None

    def prefetch(self) -> None:
        if self._device.type != "cuda" or self._ahead is not None:
            return
        stream = side_stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            fetched = {name: t.to(self._device, non_blocking=True) if name != "counts" else t for name, t in self._host.items()}
            event = torch.cuda.Event()
            event.record(stream)
        self._ahead = (fetched, event)

    def flat(self) -> Flat:
        if self._ahead is not None:
            fetched, event = self._ahead
            self._ahead = None
            event.wait(torch.cuda.current_stream(self._device))
            for t in fetched.values():
                if t.is_cuda:
                    t.record_stream(torch.cuda.current_stream(self._device))
        else:
            fetched = {name: t if name == "counts" else t.to(self._device) for name, t in self._host.items()}
        return self._inner(fetched).flat()

    def rows(self, index: Tensor) -> Segment:
        return HostSegment(self._inner(self._host).rows(index.cpu()), self._device)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self._host)

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        raise NotImplementedError("a host segment is saved as the segment inside it")

    def _inner(self, tensors: dict[str, Tensor]) -> Segment:
        return self._kind.restore(tensors)


def to_host(x: Tensor) -> Tensor:
    """A pinned copy in host memory; the tensor itself where it lies there already."""
    if x.device.type == "cpu":
        return x
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=x.device.type == "cuda")
    host.copy_(x)
    return host


_streams: dict[torch.device, torch.cuda.Stream] = {}


def side_stream(device: torch.device) -> torch.cuda.Stream:
    """One copying stream a device, for the life of the process."""
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]
