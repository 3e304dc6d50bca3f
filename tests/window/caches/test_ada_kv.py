"""Ada-KV: heads share the layer's budget by what their scores are worth; what goes is really freed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import parse
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.ada_kv import AdaKV
from baywindow.window.engine.parts import Parts

IDS = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(9))


def test_worked_example() -> None:
    """Two heads, five tokens, budget 2 a head. The four best scores of both are 0.9, 0.8, 0.7 (head 0) and 0.6 (head 1): 3 and 1.
    With α = 0.5 the shares are 0.5·3 + 0.5·2 = 2.5 and 0.5·1 + 0.5·2 = 1.5; rounded down 2 and 1; the one left over goes to the best
    score not chosen yet, 0.7 of head 0. With α = 0 it is 3 and 1 as well; with α = 1, 2 and 2."""
    scores = torch.tensor([[[0.9, 0.1, 0.8, 0.7, 0.0], [0.2, 0.6, 0.3, 0.1, 0.05]]])
    counted, budget = torch.ones(1, 2, 5, dtype=torch.bool), torch.tensor([2])

    def kept(alpha: float) -> list[list[int]]:
        chosen = AdaKV(floor_fraction=alpha).allocate(scores, counted, budget)[0]
        return [row.nonzero().flatten().tolist() for row in chosen]

    assert kept(0.5) == [[0, 2, 3], [1]]
    assert kept(0.0) == [[0, 2, 3], [1]]
    assert kept(1.0) == [[0, 2], [1, 2]]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("budget", [1, 6, 19])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.7, 1.0])
def test_against_a_loop_written_from_the_paper(seed: int, budget: int, alpha: float) -> None:
    """Algorithm 1 counts the layer's best scores by head; the safeguard mixes in the equal share. Within one token of rounding."""
    heads, length = 3, 20
    scores = torch.rand(1, heads, length, generator=torch.Generator().manual_seed(seed)) ** torch.tensor([1.0, 3.0, 9.0])[:, None]
    chosen = AdaKV(floor_fraction=alpha).allocate(scores, torch.ones(1, heads, length, dtype=torch.bool), torch.tensor([budget]))[0]
    pool = sorted(((float(scores[0, h, t]), h) for h in range(heads) for t in range(length)), reverse=True)[: heads * budget]
    for head in range(heads):
        share = (1 - alpha) * sum(1 for _, h in pool if h == head) + alpha * budget
        kept = chosen[head].nonzero().flatten().tolist()
        assert abs(len(kept) - share) < heads  # rounding moves less than one token a head
        assert kept == sorted(sorted(range(length), key=lambda t: -float(scores[0, head, t]))[: len(kept)])
    assert int(chosen.sum()) == heads * budget


def test_rows_do_not_share_and_holes_are_never_chosen() -> None:
    scores = torch.rand(2, 2, 8, generator=torch.Generator().manual_seed(4))
    counted = torch.ones(2, 2, 8, dtype=torch.bool)
    counted[1, :, :5] = False  # a row with three tokens
    chosen = AdaKV().allocate(scores, counted, torch.tensor([4, 2]))
    assert chosen.sum(dim=(1, 2)).tolist() == [8, 4]
    assert not bool((chosen & ~counted).any())
    assert torch.equal(chosen[:1], AdaKV().allocate(scores[:1], counted[:1], torch.tensor([4])))


def test_what_a_selector_always_keeps_comes_out_of_each_heads_own_share() -> None:
    """Budget 3, one token at +inf in each head: 2 a head are shared, and no head loses its certain one."""
    scores = torch.tensor([[[0.9, 0.8, 0.7, 0.6, torch.inf], [0.1, 0.1, 0.1, 0.1, torch.inf]]])
    chosen = AdaKV(floor_fraction=0.0).allocate(scores, torch.ones(1, 2, 5, dtype=torch.bool), torch.tensor([3]))[0]
    assert chosen.tolist() == [[True] * 5, [False, False, False, False, True]]


@torch.no_grad()
def test_heads_hold_different_numbers_and_the_rest_is_freed(tiny: Callable[..., Any]) -> None:
    """Ragged in a model: the bytes alive are those of the tokens held, and generation goes on."""
    model = tiny("llama")
    with attach(model, "ada_kv + snapkv(budget_tokens=20, window_tokens=4)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        cache.close()
        held = cache.held()
        alive = sum(
            t.untyped_storage().nbytes()
            for s in cache.stores
            for g in s.segments
            for n, t in g.tensors().items()
            if n in ("keys", "values")
        )
        alive += sum(t.untyped_storage().nbytes() for s in cache.stores if s.tail is not None for t in (s.tail.keys, s.tail.values))
        out = model(IDS[:, :2], past_key_values=cache).logits
    assert any(int(h.min()) != int(h.max()) for h in held)
    assert [int(h.sum()) for h in held] == [40, 40, 40]
    assert alive == 120 * 2 * 16 * 4  # tokens of all heads and layers, keys and values, dimension, float32
    assert torch.isfinite(out).all()


@torch.no_grad()
def test_ragged_heads_attend_to_exactly_what_they_hold(tiny: Callable[..., Any]) -> None:
    """One layer deep, the next token's logits equal those of the stock model whose attention hides the dropped tokens head by head."""
    model = tiny("llama")
    seen: list[Any] = []
    with attach(model, "ada_kv(floor_fraction=0.0) + snapkv(budget_tokens=12, window_tokens=4)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        kept = [[set(p[p >= 0].tolist()) for p in cache.store(i).view().head_positions[0]] for i in range(3)]
        ours = model(IDS[:, 5:6], past_key_values=cache).logits

    def hide(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float = 1.0, **kwargs: Any) -> tuple[Any, None]:
        allowed = torch.tensor([[t in heads or t == 60 for t in range(key.shape[2])] for heads in kept[module.layer_idx]])
        allowed = allowed.repeat_interleave(2, dim=0)[None, :, None]
        k, v = key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1)
        weights = torch.softmax((query @ k.transpose(2, 3) * scaling).masked_fill(~allowed, -torch.inf), dim=-1)
        seen.append(weights)
        return (weights @ v).transpose(1, 2).contiguous(), None

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    stock = model(IDS, use_cache=True).past_key_values
    ALL_ATTENTION_FUNCTIONS.register("hide-in-test", hide)
    try:
        model.set_attn_implementation("hide-in-test")
        expected = model(IDS[:, 5:6], past_key_values=stock).logits
    finally:
        model.set_attn_implementation("sdpa")
    assert len(seen) == 3
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_full_budget_changes_nothing_bit_for_bit(next_logits: Callable[..., Any]) -> None:
    assert torch.equal(next_logits(IDS, "ada_kv + keydiff(budget_tokens=60)"), next_logits(IDS, "stock"))


def test_claim_more_attention_mass_at_the_same_total() -> None:
    """Head 0 spreads its attention, head 1 looks at one place: sharing keeps more mass than equal halves."""
    spread = torch.full((20,), 0.05)
    narrow = torch.full((20,), 0.05 / 19)
    narrow[3] = 0.95
    scores = torch.stack([spread, narrow])[None]
    chosen = AdaKV(floor_fraction=0.2).allocate(scores, torch.ones(1, 2, 20, dtype=torch.bool), torch.tensor([5]))
    equal = sum(float(s.sort(descending=True).values[:5].sum()) for s in (spread, narrow))
    assert float(scores[chosen].sum()) > equal + 0.1


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="floor_fraction"):
        AdaKV(floor_fraction=-0.1)
    with pytest.raises(RecipeError, match="shares out the budget of another"):
        Parts.of(parse("ada_kv"))
    with pytest.raises(RecipeError, match="ada_kv"):
        Parts.of(parse("ada_kv + streaming_llm"))


def test_cost_has_no_arithmetic() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100)
    assert AdaKV().cost(shape).flops == 0
