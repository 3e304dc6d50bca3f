"""Offload: keep keys and values in host memory, and fetch each layer's while the layer before it runs.

Paper: none; what engines with offloaded caches do.

Idea: only one layer is read at a time. Everything older than the last ``group_tokens`` lies in pinned host memory; when a layer
starts, the next layer's content is copied back on a stream of its own, and what was fetched is let go once it is read.

Departs from the paper: nothing known. On a machine without an accelerator host memory is the memory, so nothing is copied. Accelerators
other than CUDA are fetched from without a second stream: right, but not ahead of time.

Shapes and units: whatever the other caches of the recipe made of the tokens, unchanged. The bytes a report names are those held, on
whichever side.

Cost: every read copies what is held from the host; no arithmetic.

Errors: ConfigError for ``group_tokens`` below 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from baywindow.errors import CapabilityError, ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Flat
from baywindow.window.caches.base import Mover, Segment

STAYS = "counts"  # segments keep their counts in host memory by contract


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
        self._kind = inner.kind
        self._device = device
        self._boundary = boundary_of(device)
        self.counts = inner.counts
        self._host = {name: t if name == STAYS else self._boundary.down(t) for name, t in inner.tensors().items()}
        self._ahead: Fetch | None = None

    @property
    def kind(self) -> type[Segment]:
        return self._kind

    def prefetch(self) -> None:
        if self._boundary.ahead and self._ahead is None:
            self._ahead = self._fetch()

    def flat(self) -> Flat:
        fetch, self._ahead = self._ahead or self._fetch(), None
        fetch.wait()
        return self._kind.restore({**fetch.tensors, STAYS: self.counts}).flat()

    def rows(self, index: Tensor) -> Segment:
        return HostSegment(self._kind.restore(self._host).rows(index.cpu()), self._device)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self._host)

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        raise CapabilityError("a segment in host memory is read as the kind it holds", hint="call restore of its kind")

    def _fetch(self) -> Fetch:
        return self._boundary.up({name: t for name, t in self._host.items() if name != STAYS}, self._device)


@dataclass(frozen=True)
class Fetch:
    """Tensors on their way to the device; usable after ``wait``."""

    tensors: dict[str, Tensor]
    wait: Callable[[], None] = lambda: None


class Boundary(ABC):
    """Between a device and the host. ``ahead``: copying up goes on beside the device's own work, so it pays to start early."""

    ahead: bool = False

    @abstractmethod
    def down(self, tensor: Tensor) -> Tensor:
        """A copy in host memory; the tensor itself where it lies there already."""

    @abstractmethod
    def up(self, tensors: Mapping[str, Tensor], device: torch.device) -> Fetch:
        """Start copying to the device."""


class Plain(Boundary):
    """Copies when asked. On a CPU neither direction copies anything."""

    def down(self, tensor: Tensor) -> Tensor:
        return tensor.cpu()

    def up(self, tensors: Mapping[str, Tensor], device: torch.device) -> Fetch:
        return Fetch({name: t.to(device) for name, t in tensors.items()})


class Pinned(Boundary):
    """CUDA: pinned host memory, and a copying stream beside the computing one."""

    ahead = True

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def down(self, tensor: Tensor) -> Tensor:
        if tensor.device.type == "cpu":
            return tensor
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor)

    def up(self, tensors: Mapping[str, Tensor], device: torch.device) -> Fetch:
        computing = torch.cuda.current_stream(device)
        with torch.cuda.stream(self._stream):
            found = {name: t.to(device, non_blocking=True) for name, t in tensors.items()}
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._stream)

        def wait() -> None:
            arrived.wait(computing)
            for t in found.values():
                t.record_stream(computing)  # its memory is the other stream's: not to be reused while this one reads

        return Fetch(found, wait)


_boundaries: dict[torch.device, Boundary] = {}


def boundary_of(device: torch.device) -> Boundary:
    """The boundary of a device, one for the life of the process: streams are few and costly to make."""
    if device not in _boundaries:
        _boundaries[device] = Pinned(device) if device.type == "cuda" else Plain()
    return _boundaries[device]
