"""CacheGen: write a saved context as a small bitstream: deltas to anchor tokens, coarser levels in deeper layers, arithmetic coding.

Paper: Liu and others, 2024, "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving", arXiv 2310.07240;
reference code read: UChi-JCL/CacheGen (whose released codec has no deltas).

Idea: neighbouring tokens have similar keys, so every tenth token is an anchor, kept in 8 bits, and the nine behind it are stored as
differences to it; deeper layers matter less, so they get fewer quantisation levels; symbols of one channel of one layer are distributed
alike, so each channel has its own probability table for arithmetic coding. A context is cut into chunks that are files of their own;
`choice` says for each whether fetching it, and at which quality, beats computing it anew.

Departs from the paper: probability tables are counted in each chunk and stored in it, as the released code does, not profiled once per
model. A tensor is stored without deltas where they are not clearly smaller than it is itself. Anchors are scaled by channel.

Shapes and units: the tensors of `engine.saving`; a piece is one row's tokens by channels [T, C], heads side by side. What is packed
already, and everything that is no key or value, is kept exactly beside the chunks. Sizes in bytes, rates in bytes and tokens a second.

Cost: only when a context is saved or loaded; nothing while it is used.

Errors: ConfigError for an unknown quality or empty groups; SourceError for a damaged folder; MissingExtraError without `constriction`.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.caches.base import Codec
from baywindow.window.caches.cachegen import files, pieces
from baywindow.window.caches.cachegen.levels import QUALITIES


@technique(
    summary="save a context as deltas to anchor tokens, quantised by depth and arithmetically coded",
    paper="arXiv:2310.07240",
    year=2024,
    needs=("weights", "kv"),
    claim="Layer-graded levels and a probability table per channel need clearly fewer bytes than plain quantisation of equal error.",
    departures=(
        "probability tables are counted in each chunk and stored with it, as in the released code; the paper profiles them once a model",
        "deltas are used for a tensor only where their mean square is at most half of its own: values of small models show no locality",
        "anchors are scaled by channel, not by token: a few large channels would take all 8 bits from the others",
        "anchors of a tensor share one probability table: one token in ten is too few to count by channel",
        "decoding on a GPU is left out",
    ),
    slot="save",
)
class CacheGen(Codec):
    quality: int = 3  # 1 smallest to 4 best; 1 to 3 are the released code's, 4 doubles the bins of 3
    group_tokens: int = 10  # an anchor and those behind it
    chunk_tokens: int = 1500  # a file of its own

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise ConfigError.bad_value("quality", self.quality, "from 1 to 4")
        for name in ("group_tokens", "chunk_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")

    def write(self, folder: Path, tensors: dict[str, Tensor]) -> list[str]:
        coded, exact = pieces.sort(tensors)
        return files.write(folder, coded, exact, (self.quality, self.group_tokens, self.chunk_tokens))

    def read(self, folder: Path) -> dict[str, Tensor]:
        return files.read(folder)

    def cost(self, shape: Shape) -> Cost:
        """Writing quantises and codes each element once: a difference, a scale, a rounding, a look-up in a table and a range."""
        kept = shape.prompt_tokens * shape.token_bytes
        return Cost(flops=5 * kept // shape.element_bytes, bytes_kept=kept, bytes_read=kept)
