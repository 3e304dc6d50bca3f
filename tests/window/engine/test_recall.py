"""Recall: a query reads the looked-up tokens and nothing else, whatever the batch, the angles and the form in which they are held."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from baywindow.errors import RecipeError
from baywindow.recipe import Recipe, make
from baywindow.registry import technique
from baywindow.window import attach
from baywindow.window.base import Cost, Shape
from baywindow.window.block import rows_of_heads
from baywindow.window.caches.base import CachePolicy
from baywindow.window.engine.parts import Parts
from baywindow.window.engine.recalling import pieces
from baywindow.window.patterns.base import Pattern
from baywindow.window.positions.base import Asked
from baywindow.window.recall import Held, Lookup, Recaller

IDS = torch.randint(1, 97, (2, 40), generator=torch.Generator().manual_seed(3))


@technique(summary="every third token and the new ones, one set for all heads or one a head", room="window/caches", slot="recall")
class Thirds(CachePolicy, Recaller):
    """Reads the true positions that a multiple of 3 is, and the queries' own tokens."""

    everything: bool = False
    by_head: bool = False
    hole: bool = False
    asks: bool = False  # questions look up too
    marked: bool = False  # says the same as bool; then heads differ: every other one reads all
    together: int = 0  # queries of a prompt that share a lookup
    learned: ClassVar[list[int]] = []

    def lookup_queries(self, phase: str, n: int) -> int:
        if self.asks and phase == "decode":
            return n
        return 1 if n == 1 and phase == "decode" else self.together

    def learn(self, held: Held) -> None:
        self.learned.append(held.past)
        held.state["past"] = torch.full((held.block.keys.shape[0], 1), held.past)

    def recall(self, asked: Lookup) -> Tensor | None:
        B, H, L = asked.block.keys.shape[:3]
        n = asked.queries.shape[2]
        assert asked.past + n == L
        if self.everything:
            chosen = torch.arange(L).expand(B, 1, L)
        else:
            third = asked.block.positions[:, None, :] % 3 == 0
            third[..., -n:] = True
            if self.marked:
                third = third.repeat(1, H, 1)
                third[:, 1::2] = True
                return third
            chosen = torch.where(third, torch.arange(L), -1)
            chosen = chosen.sort(dim=-1).values if self.hole else chosen[:, :, third[0, 0]]
        return chosen.expand(-1, H, -1) if self.by_head else chosen

    def cost(self, shape: Shape) -> Cost:
        return Cost(flops=0, bytes_kept=0, bytes_read=0)


@technique(summary="the same by a mask", room="window/patterns")
class ThirdsMask(Pattern):
    from_token: int = 0
    heads: bool = False  # only for query heads of even key/value heads

    def visible(self, asked: Asked, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        seen = (k_pos % 3 == 0) | (k_pos == q_pos) | (q_pos < self.from_token)
        free = torch.arange(asked.layer.q_heads).div(asked.layer.group, rounding_mode="floor") % 2 == 1
        return seen | free[:, None, None] if self.heads else seen

    def cost(self, shape: Shape) -> Cost:
        return Cost(flops=0, bytes_kept=0, bytes_read=0)


def logits(model: Any, parts: tuple[Any, ...], ids: Any = IDS, mask: Any = None, prompt: int = 36) -> Any:
    """Of a prompt of 36 and of the steps behind it: [B, 5, V]."""
    mask = torch.ones_like(ids) if mask is None else mask
    with torch.no_grad(), attach(model, Recipe(parts)) as w:
        cache = w.cache()
        out = []
        at = (mask.cumsum(dim=1) - 1).clamp(min=0)
        for start, stop in [(0, prompt), *((i, i + 1) for i in range(prompt, ids.shape[1]))]:
            part = slice(start, stop)
            said = model(ids[:, part], attention_mask=mask[:, :stop], position_ids=at[:, part], past_key_values=cache)
            out.append(said.logits[:, -1])
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gemma3", "llama_yarn"])
@pytest.mark.parametrize("options", [{}, {"by_head": True}, {"together": 7}])
def test_everything_recalled_is_full_attention(tiny: Callable[..., Any], kind: str, options: dict[str, Any]) -> None:
    model = tiny(kind)
    ours = logits(model, (Thirds(everything=True, **options),))
    torch.testing.assert_close(ours, logits(model, ()), atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"by_head": True}, {"hole": True}, {"by_head": True, "hole": True}])
@pytest.mark.parametrize("beside", [(), ("self_extend",), ("yarn",)])
def test_recall_equals_the_same_choice_by_a_mask(tiny: Callable[..., Any], options: dict[str, Any], beside: tuple[str, ...]) -> None:
    others = tuple(make(name, {}) for name in beside)
    ours = logits(tiny("llama"), (*others, Thirds(**options)))
    masked = logits(tiny("llama"), (*others, ThirdsMask(from_token=36)))
    torch.testing.assert_close(ours, masked, atol=3e-5, rtol=1e-4)
    assert not torch.allclose(ours, logits(tiny("llama"), others), atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "beside"), [("llama", ()), ("qwen3", ()), ("gemma2", ()), ("llama_yarn", ()), ("llama", ("self_extend",))]
)
def test_heads_that_read_unequal_numbers(tiny: Callable[..., Any], kind: str, beside: tuple[str, ...]) -> None:
    """The even heads read thirds and the odd ones everything, as a mask for each head says: head by head for one sequence, with holes for
    a batch, where angles change, and where logits are capped."""
    others = tuple(make(name, {}) for name in beside)
    for ids in (IDS[:1], IDS):
        want = logits(tiny(kind), (*others, ThirdsMask(from_token=36, heads=True)), ids)
        torch.testing.assert_close(logits(tiny(kind), (*others, Thirds(marked=True)), ids), want, atol=5e-5, rtol=1e-4)


@torch.no_grad()
def test_a_question_read_head_by_head_sees_no_later_token(tiny: Callable[..., Any]) -> None:
    """Five tokens share a lookup behind a closed prompt: alone (head by head) as in a batch of two (with holes and a mask)."""
    model, out = tiny("llama"), []
    with attach(model, Recipe((Thirds(marked=True, asks=True),))) as w:
        for ids in (IDS[:1], IDS):
            cache = w.prefill(ids[:, :35])
            out.append(model(ids[:, 35:], past_key_values=cache).logits[0])
    torch.testing.assert_close(out[0], out[1], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("together", [1, 7, 100])
def test_a_prompt_looked_up_in_pieces(tiny: Callable[..., Any], together: int) -> None:
    """Own tokens of a piece are all looked up and the future is masked: piece by piece the oracle is a mask, here of pieces of one."""
    ours = logits(tiny("llama"), (Thirds(together=together),))
    if together == 1:
        torch.testing.assert_close(ours, logits(tiny("llama"), (ThirdsMask(),)), atol=3e-5, rtol=1e-4)
    elif together == 100:  # one piece of the whole prompt reads all of it: only the steps differ from full attention
        torch.testing.assert_close(ours, logits(tiny("llama"), (ThirdsMask(from_token=36),)), atol=3e-5, rtol=1e-4)
    else:
        assert torch.isfinite(ours).all()


def test_pieces_do_not_depend_on_how_a_prompt_was_cut() -> None:
    assert list(pieces(0, 10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(pieces(6, 4, 4)) == [(0, 4)]  # all at once: a question that shares one lookup
    assert list(pieces(6, 5, 4)) == [(0, 2), (2, 5)]  # 6, 7 | 8, 9, 10
    assert list(pieces(5, 1, 1)) == [(0, 1)]


@pytest.mark.parametrize(
    "options", [{"hole": True}, {"hole": True, "by_head": True}, {"everything": True, "together": 7}, {"marked": True}]
)
def test_a_left_padded_row_recalls_what_it_recalls_alone(tiny: Callable[..., Any], options: dict[str, Any]) -> None:
    mask = torch.ones_like(IDS)
    mask[1, :12] = 0
    both = logits(tiny("llama"), (Thirds(**options),), IDS * mask, mask)
    alone = logits(tiny("llama"), (Thirds(**options),), IDS[1:, 12:], prompt=24)
    torch.testing.assert_close(both[1:], alone, atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("beside", ["snapkv(budget_tokens=20, window_tokens=4)", "kivi(bits=8, group_tokens=4, residual_tokens=8)",
                                    "offload(group_tokens=8)", "random(budget_tokens=20)"])  # fmt: skip
def test_recalling_everything_of_what_another_cache_keeps_is_that_cache(tiny: Callable[..., Any], beside: str) -> None:
    from baywindow.recipe import parse

    others = parse(beside).inside
    ours = logits(tiny("llama"), (*others, Thirds(everything=True)))
    torch.testing.assert_close(ours, logits(tiny("llama"), others), atol=3e-5, rtol=1e-4)


@torch.no_grad()
def test_a_prompt_is_learned_once_and_what_is_known_travels_with_the_sequence(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    Thirds.learned.clear()
    with attach(model, Recipe((Thirds(),))) as w:
        cache = w.prefill(IDS[:, :36])
        assert Thirds.learned == [36, 36, 36]  # once a layer, when the prompt was closed
        twin = copy.deepcopy(cache)
        a = model(IDS[:, 36:37], past_key_values=cache).logits
        twin.reorder_cache(torch.tensor([1, 0]))
        b = model(IDS[:, 36:37].flip(0), past_key_values=twin).logits
        assert Thirds.learned == [36, 36, 36]
        assert twin.store(0).states["test_recall"]["past"].shape == (2, 1)
        torch.testing.assert_close(a.flip(0), b, atol=1e-5, rtol=1e-5)
        twin.store(0).moved = True  # as when something puts tokens elsewhere: layer 0 learns anew, before its next lookup
        model(IDS[:, 37:38], past_key_values=twin)
        assert Thirds.learned == [36, 36, 36, 37]


@torch.no_grad()
def test_plain_generate_learns_before_the_first_step(tiny: Callable[..., Any]) -> None:
    Thirds.learned.clear()
    logits(tiny("llama"), (Thirds(),), IDS[:, :38])
    assert Thirds.learned == [36, 36, 36]


def test_a_cache_that_drops_at_every_step_is_refused() -> None:
    with pytest.raises(RecipeError, match="drops tokens at every step"):
        Parts.of(Recipe((make("h2o", {}), Thirds())))


def test_rows_are_gathered_from_any_layout() -> None:
    whole = torch.arange(2 * 3 * 9 * 4, dtype=torch.float32).view(2, 3, 9, 4)
    index = torch.tensor([[[0, 3], [1, 1], [4, 2]], [[4, 0], [2, 3], [0, 0]]])
    for x in (whole[:, :, 2:7], whole[:, :, :5].contiguous(), whole.transpose(2, 3).repeat(1, 1, 2, 1), whole[:1].expand(2, -1, -1, -1)):
        expected = torch.stack([torch.stack([x[b, h, index[b, h]] for h in range(3)]) for b in range(2)])
        assert torch.equal(rows_of_heads(x, index.clamp(max=x.shape[2] - 1)), expected)
    assert rows_of_heads(whole[:, :, :0], index[..., :0]).shape == (2, 3, 0, 4)
