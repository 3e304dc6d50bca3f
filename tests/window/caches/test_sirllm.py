"""SirLLM: surprisals as the model gives them, the turn and the most surprising older tokens stay, old surprises fade."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import CapabilityError, ConfigError, RecipeError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.base import SURPRISAL
from baywindow.window.caches.kivi import KIVI
from baywindow.window.caches.offload import Offload
from baywindow.window.caches.sirllm import SirLLM
from baywindow.window.engine.parts import Parts

IDS = torch.randint(1, 97, (2, 40), generator=torch.Generator().manual_seed(41))


def choice(cache: SirLLM, surprisal: list[float], turn: int, budget: int) -> list[int]:
    """What stays of tokens 0, 1, 2, … of which the last ``turn`` came just now."""
    n = len(surprisal)
    at = torch.arange(n)[None]
    stay = cache.chosen(at, torch.tensor([surprisal]), at < n - turn, torch.tensor([budget]))
    return stay[0].nonzero().flatten().tolist()


def test_worked_example() -> None:
    """Ten tokens, the last three are the turn, budget 7: the turn and one sink leave room for 3 of tokens 1 to 6: 5.0, 4.0 and 3.0. With
    one kept for recency, the two best and the newest of the others. A turn longer than the budget is chosen from: sinks, then 9, 8, 7."""
    values = [0.0, 4.0, 1.0, 5.0, 0.5, 3.0, 0.1, 9.0, 0.0, 0.0]
    assert choice(SirLLM(sink_tokens=1), values, 3, 7) == [0, 1, 3, 5, 7, 8, 9]
    assert choice(SirLLM(sink_tokens=1, recent_tokens=1), values, 3, 7) == [0, 1, 3, 6, 7, 8, 9]
    assert choice(SirLLM(sink_tokens=1), [1.0, 9.0, 8.0, 7.0, 2.0], 5, 4) == [0, 1, 2, 3]
    assert choice(SirLLM(), values, 3, 10) == list(range(10))


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gemma2", "cohere2", "granite", "gemma3"])
def test_surprisals_are_those_of_the_stock_models_logits(family: str, tiny: Callable[..., Any]) -> None:
    """Oracle: log-softmax of the stock model's own logits, in one forward; here in a prompt, a second piece and single steps. The first
    token gets the largest of its forward."""
    model = tiny(family)
    logs = model(IDS).logits.log_softmax(-1)
    expected = -logs[:, :-1].gather(-1, IDS[:, 1:, None])[..., 0]
    with attach(model, "sirllm(budget_tokens=4096, decay=1)") as w:
        cache = w.cache()
        for start, stop in ((0, 20), (20, 37), (37, 38), (38, 39), (39, 40)):
            model(IDS[:, start:stop], past_key_values=cache, logits_to_keep=1)
        for layer in w.info.full_layers:
            found = cache.store(layer.index).view().tags[SURPRISAL][:, 0]
            torch.testing.assert_close(found[:, 1:], expected, atol=2e-3, rtol=1e-4)
            torch.testing.assert_close(found[:, 0], expected[:, :19].amax(dim=1), atol=2e-3, rtol=1e-4)


@torch.no_grad()
def test_turns_as_the_reference_has_them_and_decay(tiny: Callable[..., Any]) -> None:
    """Oracle: lists. Three turns of 12, 9 and 9 tokens with a budget of 16 and a decay of 0.5."""
    model = tiny("llama")
    held: list[int] = []
    values: dict[int, float] = {}
    with attach(model, "sirllm(budget_tokens=16, sink_tokens=2, decay=0.5)") as w:
        cache = w.cache()
        for start, stop in ((0, 12), (12, 21), (21, 30)):
            before = None if start == 0 else cache.store(0).view().tags[SURPRISAL][0, 0].clone()
            model(IDS[:1, start:stop], past_key_values=cache, logits_to_keep=1)
            block = cache.store(0).view()
            now = dict(zip(block.positions.flatten().tolist(), block.tags[SURPRISAL][0, 0].tolist(), strict=False))
            if before is not None:
                assert before.tolist() == pytest.approx([values[t] for t in held])
            turn = list(range(start, stop))
            if len(held) + len(turn) > 16:
                room = 16 - len(turn) - 2
                best = sorted((t for t in held if t >= 2), key=lambda t: -values[t])[:room]
                held = sorted([0, 1, *best])
            assert sorted(t for t in now if t >= 0) == sorted([*held, *turn])
            for t in held:
                assert now[t] == pytest.approx(values[t] * 0.5)
            held, values = sorted([*held, *turn]), now
        for i in range(3):
            assert cache.store(i).view().positions.tolist() == cache.store(0).view().positions.tolist()


@torch.no_grad()
def test_pieces_of_a_prompt_do_not_matter(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "sirllm(budget_tokens=12)") as w:
        one, many = w.prefill(IDS, chunk_tokens=40), w.prefill(IDS, chunk_tokens=7)
        assert one.store(1).view().positions.tolist() == many.store(1).view().positions.tolist()
        again = w.prefill(IDS[:, :5], one)  # a closed context goes on holding what it held
        assert again.get_seq_length() == 45


@torch.no_grad()
def test_keys_stand_at_their_place_in_the_cache(tiny: Callable[..., Any]) -> None:
    """Oracle: softmax by hand over what is held, keys turned by 0 to 8 and the query by 8."""
    model = tiny("llama")
    seen: list[Any] = []
    with attach(model, "sirllm(budget_tokens=8)") as w:
        cache = w.cache()
        model(IDS[:1], past_key_values=cache)
        assert cache.store(0).view().positions.flatten().tolist() != list(range(8))
        cache.watcher = seen.append
        model(IDS[:1, :1], past_key_values=cache)
        weights, turner = seen[0].weights(0, 1), w.turner(w.info.layers[0])
        assert turner is not None
        q, k = turner.turn(seen[0].queries, torch.tensor([[8]])), turner.turn(seen[0].block.keys, torch.arange(9)[None])
    expected = ((q @ k.repeat_interleave(2, dim=1).transpose(2, 3)) / math.sqrt(16)).softmax(-1)
    torch.testing.assert_close(weights, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_question_kept_out_stays(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "sirllm(budget_tokens=10)") as w:
        cache = w.cache(question_tokens=6)
        model(IDS[:1], past_key_values=cache)
        held = cache.store(0).view().positions.flatten().tolist()
    assert held[-6:] == list(range(34, 40))
    assert len(held) == 16


def test_claim_an_early_surprise_outlives_a_window() -> None:
    """Forty dull tokens in turns of four behind one surprising token: it is still held, where four sinks and a window are not."""
    cache = SirLLM(sink_tokens=4, decay=0.9)
    held = dict.fromkeys(range(8), 0.1)
    held[6] = 12.0
    for start in range(8, 48, 4):
        held |= dict.fromkeys(range(start, start + 4), 0.1)
        at = torch.tensor([sorted(held)])
        old = at < start
        stay = cache.chosen(at, torch.tensor([[held[t] for t in sorted(held)]]), old, torch.tensor([16]))
        held = {t: held[t] * (cache.decay if t < start else 1) for t, s in zip(at[0].tolist(), stay[0].tolist(), strict=True) if s}
    assert len(held) == 16
    assert 6 in held
    assert 6 not in {0, 1, 2, 3, *range(36, 48)}  # what sinks and a window of the same size hold


@torch.no_grad()
def test_what_is_refused(tiny: Callable[..., Any]) -> None:
    for option, value in (("sink_tokens", -1), ("recent_tokens", -1), ("decay", 0.0), ("decay", 1.1)):
        with pytest.raises(ConfigError, match=option):
            SirLLM(**{option: value})
    with pytest.raises(ConfigError, match="budget_tokens"):
        SirLLM(budget_tokens=8, recent_tokens=4)
    for other in (KIVI(), Offload()):
        with pytest.raises(RecipeError, match="a value beside every token"):
            Parts.of(Recipe((SirLLM(), other)))
    model = tiny("llama")
    with attach(model, "sirllm(budget_tokens=8)") as w, pytest.raises(CapabilityError, match="token ids"):
        model(inputs_embeds=model.get_input_embeddings()(IDS), past_key_values=w.cache())


def test_cost_is_turning_what_is_held() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, generated_tokens=3)
    cost = SirLLM(budget_tokens=10).cost(shape)
    assert cost.flops == 3 * 3 * 2 * 2 * 8 * 10
    assert cost.bytes_kept == 10 * shape.token_bytes
