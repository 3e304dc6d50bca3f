"""How a context goes in, and how what was read is written to disk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from baywindow.window.base import State
from baywindow.window.caches.base.policy import CachePolicy


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Tokens ``ids`` [B, n] with ``mask`` [B, n] (0: padding, in front) at true ``positions`` [B, n]."""

    ids: Tensor
    mask: Tensor
    positions: Tensor


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A context that is to be read. ``whole`` are its tokens at the positions they would have in order. ``starts`` are the columns at which
    its parts begin, if the caller knows them (what stands before the first is a common prefix).

    ``step(piece)`` reads a piece behind what is held. ``apart(pieces)`` reads each behind what is held now and unseen by the others, and
    then holds them all; rows go on behind the farthest position. ``keep(states)`` puts tensors [B, …] into the policy's state in every
    layer with full attention.
    """

    whole: Piece
    starts: tuple[int, ...]
    step: Callable[[Piece], None]
    apart: Callable[[Sequence[Piece]], None]
    keep: Callable[[State], None]


class Prefill(CachePolicy):
    """Says how the first context of a cache is fed, where the driver would feed it in order and in chunks; and, if it must, how what was
    fed is weighed later."""

    @abstractmethod
    def feed(self, feed: Feed) -> None:
        """Call ``feed.step`` and ``feed.apart`` for all pieces, in the order they should be stored."""

    def weighs(self, state: State) -> bool:
        """Whether `weigh` changes anything for this layer."""
        return False

    def weigh(self, logits: Tensor, k_pos: Tensor, state: State) -> Tensor:
        """Logits [B, Hq, n, L] (−inf where hidden), given the true positions ``k_pos`` [B, 1 or H, L], as they should enter the softmax."""
        return logits


class Codec(CachePolicy):
    """Says how saved tensors are written and read, where plain safetensors would do. Both must be exact about names and shapes."""

    @abstractmethod
    def write(self, folder: Path, tensors: dict[str, Tensor]) -> list[str]:
        """Write all tensors into ``folder``; the names of the files made."""

    @abstractmethod
    def read(self, folder: Path) -> dict[str, Tensor]:
        """What was written, on the CPU."""
