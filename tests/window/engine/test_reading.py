"""Patterns that choose what is read: the engine shows them rows without holes, and what they did not choose is not looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from baywindow.recipe import Recipe
from baywindow.registry import Card
from baywindow.window import attach
from baywindow.window.base import Cost, Shape
from baywindow.window.blocks import BlockSelection
from baywindow.window.caches.h2o import H2O
from baywindow.window.engine.reading import in_order
from baywindow.window.patterns.base import BlockPattern, Glance, Pattern
from baywindow.window.positions.base import Asked
from baywindow.window.positions.dual_chunk import DualChunk
from baywindow.window.positions.self_extend import SelfExtend
from baywindow.window.positions.yarn import YaRN

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(21))
FREE = Cost(flops=0, bytes_kept=0, bytes_read=0)


@dataclass(frozen=True)
class Ruled(BlockPattern):
    """Key block j stands before query block i of head h where (i + j + h) mod 3 is 0; and every 13th column, of every head."""

    decodes: ClassVar[bool] = True
    card: ClassVar[Any] = Card(name="ruled", room="window/patterns", summary="a rule")
    q_tokens: int = 8
    k_tokens: int = 4
    everything: bool = False

    def select(self, glance: Glance) -> BlockSelection:
        starts = torch.arange(glance.offset, glance.length, self.q_tokens)
        blocks = torch.arange(-(-glance.length // self.k_tokens))
        heads = torch.arange(glance.layer.q_heads)
        mask = (starts[:, None] // self.q_tokens + blocks + heads[:, None, None]) % 3 == 0
        batch = glance.q.shape[0]
        return BlockSelection.of_mask(
            (mask | self.everything).expand(batch, -1, -1, -1),
            q_tokens=self.q_tokens,
            k_tokens=self.k_tokens,
            columns=torch.arange(0, glance.length, 13).expand(batch, len(heads), -1),
        )

    def cost(self, shape: Shape) -> Cost:
        return FREE


@dataclass(frozen=True)
class Masked(Pattern):
    """The same rule as a mask over pairs, which the row-by-row kernel computes in full."""

    card: ClassVar[Any] = Card(name="masked", room="window/patterns", summary="a rule")

    def visible(self, asked: Asked, q_pos: torch.Tensor, k_pos: torch.Tensor) -> torch.Tensor:
        heads = torch.arange(asked.layer.q_heads)[:, None, None]
        start = q_pos // 8
        return ((start + k_pos // 4 + heads) % 3 == 0) | (k_pos % 13 == 0) | (k_pos // 8 == start)

    def cost(self, shape: Shape) -> Cost:
        return FREE


@torch.no_grad()
def run(model: Any, *parts: Any, ids: Any = IDS, mask: Any = None, chunk: int = 60, steps: int = 0) -> Any:
    """Logits of the prompt's last token and of a few steps."""
    with attach(model, Recipe(parts)) as w:
        cache = w.prefill(ids[:, :-4], chunk_tokens=chunk, mask=None if mask is None else mask[:, :-4])
        out = []
        for i in range(ids.shape[1] - 4, ids.shape[1]):
            seen = None if mask is None else mask[:, : i + 1]
            at = None if mask is None else mask[:, :i].sum(dim=1, keepdim=True)
            step = model(ids[:, i : i + 1], attention_mask=seen, position_ids=at, past_key_values=cache)
            out.append(step.logits[:, -1])
    return torch.stack(out, dim=1), cache


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gemma3", "smollm3", "phi3_partial"])
@pytest.mark.parametrize("chunk", [60, 13])
def test_everything_selected_is_the_stock_model(tiny: Callable[..., Any], name: str, chunk: int) -> None:
    model = tiny(name)
    stock, _ = run(model, chunk=chunk)
    ours, _ = run(model, Ruled(everything=True), chunk=chunk)
    torch.testing.assert_close(ours, stock, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_what_is_selected_is_what_a_mask_would_leave(tiny: Callable[..., Any], name: str) -> None:
    """Chunks of 16 keep query blocks where positions put them; single steps have blocks of their own, so only the prompt is compared."""
    model = tiny(name)
    outputs = []
    for part in (Ruled(), Masked()):
        with torch.no_grad(), attach(model, Recipe((part,))) as w:
            cache = w.cache()
            outputs.append(torch.cat([model(piece, past_key_values=cache).logits for piece in IDS.split(16, dim=1)], dim=1))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "position",
    [SelfExtend(group_tokens=2, window_tokens=8), DualChunk(local_tokens=4, chunk_tokens=12), YaRN(factor=2.0)],
    ids=lambda part: part.card.name,
)
def test_every_position_scheme_goes_through(tiny: Callable[..., Any], position: Any) -> None:
    """Several angles a key: the same mask, read and computed in full."""
    model = tiny("llama")
    outputs = []
    for part in (Ruled(), Masked()):
        with torch.no_grad(), attach(model, Recipe((position, part))) as w:
            outputs.append(model(IDS, past_key_values=w.cache()).logits)
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)


def test_a_padded_row_gets_what_it_gets_alone(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    mask = torch.ones_like(IDS)
    mask[1, :17] = 0
    both, _ = run(model, Ruled(), ids=IDS * mask, mask=mask)
    alone, _ = run(model, Ruled(), ids=IDS[1:, 17:])
    first, _ = run(model, Ruled(), ids=IDS[:1])
    torch.testing.assert_close(both[1:], alone, atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(both[:1], first, atol=3e-5, rtol=1e-5)


def test_weights_that_policies_see_are_those_of_what_was_read(tiny: Callable[..., Any]) -> None:
    """h2o adds up attention weights: under the pattern it must add up the masked ones, also in a row with padding."""
    model = tiny("llama")
    mask = torch.ones_like(IDS)
    mask[1, :16] = 0
    h2o = H2O(budget_tokens=24)
    held = []
    for part in (Ruled(), Masked()):
        with torch.no_grad(), attach(model, Recipe((part, h2o))) as w:
            cache = w.cache()
            model(IDS[:, :48], attention_mask=mask[:, :48], past_key_values=cache)
            held.append([store.view().head_positions.sort().values for store in cache.stores])
    assert all(torch.equal(a, b) for a, b in zip(*held, strict=True))


def test_pairs_are_counted(tiny: Callable[..., Any]) -> None:
    """16 queries over 16 keys by blocks of 8: of 8·8 + 8·16 pairs, what head h reads of block 0 before queries 8 … 15."""
    with torch.no_grad(), attach(tiny("llama"), Recipe((Ruled(),))) as w:
        cache = w.cache()
        tiny("llama")(IDS[:1, :16], past_key_values=cache)
    # i = 1: of the blocks j = 0, 1 (4 keys each) head h sees those with (1 + j + h) % 3 == 0: h = 0: none, 1: j = 1, 2: j = 0, 3: none.
    # Column 0 stands for all: one key more for heads 0, 1 and 3 (head 2 has it in its block).
    per_layer = 4 * 8 * 8 + 8 * (4 * 8) + 8 * (0 + 4 + 4 + 0) + 8 * 3
    assert cache.pairs == (3 * per_layer, 3 * 4 * (8 * 8 + 8 * 16))


def test_ranks_must_be_the_order_of_time() -> None:
    assert in_order(torch.tensor([[0, 1, 2, 3]]), torch.tensor([[2, 3]]))
    assert in_order(torch.tensor([[1, 0, 2, 3]]), torch.tensor([[2, 3]]))  # what is past may stand in any order
    assert not in_order(torch.tensor([[0, 5, 2, 3]]), torch.tensor([[2, 3]]))
    assert not in_order(torch.tensor([[0, 1, 3, 2]]), torch.tensor([[2, 3]]))
    assert in_order(torch.tensor([[[0, 2], [1, 2]]]), torch.tensor([[2]]))
