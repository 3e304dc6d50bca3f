"""What every technique inside the model must do, whatever it is. Parametrised over the registry, so a new file is tested at once."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from baywindow import registry
from baywindow.errors import RecipeError
from baywindow.recipe import Recipe, make, parse
from baywindow.window import attach
from baywindow.window.base import Calibrated, Cost, ModelInfo, Shape
from baywindow.window.caches.base import Finisher, Quantiser, Reducer

_spec = importlib.util.spec_from_file_location("window_conftest", Path(__file__).parents[1] / "window" / "conftest.py")
_models = importlib.util.module_from_spec(_spec)  # type: ignore[arg-type]
_spec.loader.exec_module(_models)  # type: ignore[union-attr]
tiny: Callable[..., Any] = _models.tiny_model

CACHES = [card.name for card in registry.cards("window/caches")]
PATTERNS = [card.name for card in registry.cards("window/patterns")]
POSITIONS = [card.name for card in registry.cards("window/positions")]
ALL = [*POSITIONS, *PATTERNS, *CACHES]
IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(4))
SMALL = {  # options that make a technique act on 60 tokens
    "budget_tokens": 20,
    "window_tokens": 4,
    "residual_tokens": 8,
    "group_tokens": 4,
    "calibrated": False,
}
torch.set_num_threads(1)


def build(name: str, **options: Any) -> Any:
    """The technique with small settings."""
    fields = {field.name for field in dataclasses.fields(registry.get(name))}  # type: ignore[arg-type]
    return make(name, {k: v for k, v in {**SMALL, **options}.items() if k in fields})


def recipe(name: str, **options: Any) -> Recipe:
    """The technique alone; an allocator shares out the budget of a selector."""
    part = build(name, **options)
    if part.card.slot == "allocate":
        return Recipe((part, build("snapkv", **options)))
    return Recipe((part,))


def usable(name: str) -> bool:
    """Whether it runs without having been prepared."""
    part = build(name)
    return not isinstance(part, Calibrated) or part.ready(ModelInfo(name="x", layers=(), trained_tokens=64, vocabulary=97))


USABLE = [name for name in ALL if usable(name)]
FULL = {"budget_tokens": 4096, "residual_tokens": 4096}


def generate(model: Any, made: Recipe, ids: Any, mask: Any = None, **options: Any) -> tuple[Any, Any]:
    """Logits of five steps [steps, B, V], and the cache."""
    with torch.no_grad(), attach(model, made) as w:
        cache = w.cache(**options)
        mask = torch.ones_like(ids) if mask is None else mask
        out = model.generate(
            ids, attention_mask=mask, past_key_values=cache, max_new_tokens=5, do_sample=False, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        w.report(cache)
    return torch.stack(out.logits), cache


@pytest.mark.parametrize("name", ALL)
def test_the_card_is_complete_and_the_cost_is_a_closed_form(name: str) -> None:
    card = registry.card(name)
    assert card.summary
    assert card.claim
    assert "weights" in card.needs
    shape = Shape(layers=3, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=60, generated_tokens=5)
    cost = build(name).cost(shape)
    assert isinstance(cost, Cost)
    assert min(cost.flops, cost.bytes_kept, cost.bytes_read) >= 0
    assert cost == build(name).cost(shape)


@pytest.mark.parametrize("name", ALL)
def test_options_survive_the_round_trip_and_unknown_ones_are_refused(name: str) -> None:
    made = recipe(name)
    assert parse(str(made)) == made
    assert parse(json.loads(json.dumps(made.to_table()))) == made
    with pytest.raises(RecipeError, match="has no option"):
        make(name, {"no_such_option": 1})


@pytest.mark.parametrize("name", [n for n in CACHES if not issubclass(registry.get(n), Quantiser)])
def test_at_full_budget_a_cache_equals_stock(name: str) -> None:
    model = tiny("llama")
    stock, _ = generate(model, Recipe(), IDS)
    ours, _ = generate(model, recipe(name, **FULL), IDS)
    torch.testing.assert_close(ours, stock, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", USABLE)
def test_a_left_padded_row_gets_what_it_gets_alone(name: str) -> None:
    model = tiny("llama")
    short = IDS[1:, 17:]
    mask = torch.ones_like(IDS)
    mask[1, :17] = 0
    both, cache = generate(model, recipe(name), IDS * mask, mask)
    alone, single = generate(model, recipe(name), short)
    first, _ = generate(model, recipe(name), IDS[:1])
    torch.testing.assert_close(both[:, 1:], alone, atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(both[:, :1], first, atol=3e-5, rtol=1e-5)
    assert [held[1].tolist() for held in cache.held()] == [held[0].tolist() for held in single.held()]


@pytest.mark.parametrize(
    "name", [n for n in CACHES if issubclass(registry.get(n), (Reducer, Finisher)) or registry.card(n).slot == "allocate"]
)
def test_a_small_budget_holds_what_it_states(name: str) -> None:
    model = tiny("llama")
    with torch.no_grad(), attach(model, recipe(name)) as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        per_layer = torch.stack([held.float() for held in cache.held()])  # [layer, B, H]
    total = 20 * per_layer.shape[0] * per_layer.shape[2]
    assert (per_layer.sum(dim=(0, 2)) <= total).all()
    assert (per_layer.sum(dim=(0, 2)) >= total - per_layer.shape[0] * per_layer.shape[2]).all()  # rounding only
    assert cache.get_seq_length() == 60  # logical, not physical
    kept = sum(s.tail.keys.untyped_storage().nbytes() if s.tail is not None else 0 for s in cache.stores)
    kept += sum(t.untyped_storage().nbytes() for s in cache.stores for g in s.segments for n, t in g.tensors().items() if n == "keys")
    assert kept == int(per_layer.sum()) * 16 * 4  # head_dim × float32: nothing else is alive


@pytest.mark.parametrize("name", USABLE)
def test_sliding_layers_are_left_as_they_are(name: str) -> None:
    model = tiny("gemma3")
    _, stock = generate(model, Recipe(), IDS)
    _, ours = generate(model, recipe(name), IDS)
    for i in (0, 2):
        assert ours.held()[i].tolist() == stock.held()[i].tolist()
        assert ours.store(i).tail.block.positions.tolist() == stock.store(i).tail.block.positions.tolist()


@pytest.mark.parametrize("name", USABLE)
def test_half_precision_is_finite_and_runs_repeat(name: str) -> None:
    model = tiny("llama", "bfloat16")
    one, _ = generate(model, recipe(name), IDS)
    two, _ = generate(model, recipe(name), IDS)
    assert torch.isfinite(one).all()
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", USABLE)
def test_two_interleaved_sequences_do_not_mix(name: str) -> None:
    model = tiny("llama")
    with torch.no_grad(), attach(model, recipe(name)) as w:
        a, b, alone = w.cache(), w.cache(), w.cache()
        model(IDS[:1], past_key_values=a)
        model(IDS[1:], past_key_values=b)
        mixed = [model(IDS[:1, i : i + 1], past_key_values=a).logits for i in range(3) if model(IDS[1:, :1], past_key_values=b) is not None]
        model(IDS[:1], past_key_values=alone)
        expected = [model(IDS[:1, i : i + 1], past_key_values=alone).logits for i in range(3)]
    assert torch.equal(torch.stack(mixed), torch.stack(expected))


@pytest.mark.parametrize("name", USABLE)
def test_beams_are_reordered_with_everything_a_technique_keeps(name: str) -> None:
    """Swapping the rows of the cache is the same as having had the rows swapped."""
    model = tiny("llama")
    with torch.no_grad(), attach(model, recipe(name)) as w:
        swapped, expected = w.cache(), w.cache()
        model(IDS, past_key_values=swapped)
        swapped.reorder_cache(torch.tensor([1, 0]))
        model(IDS.flip(0), past_key_values=expected)
        for i in range(3):
            got = model(IDS[:, i : i + 1], past_key_values=swapped).logits
            want = model(IDS[:, i : i + 1], past_key_values=expected).logits
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
