"""Ms-PoE: awareness of each head, ratios by rank, positions by ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.positions.ms_poe import MsPoE, awareness, ratios


def test_worked_example():
    # Heads score 0.1, 0.4, 0.2: the second is most aware and gets 1.2, the third 1.5, the first 1.8.
    assert ratios(torch.tensor([[0.1, 0.4, 0.2]]), 1.2, 1.8).tolist()[0] == pytest.approx([1.8, 1.2, 1.5])


def slow_awareness(asked, outlier):
    """Share of keys above ``outlier`` times the mean weight of the last query, head by head."""
    out = []
    for h in range(asked.layer.q_heads):
        logits = [float(asked.q[0, h, -1] @ k) * asked.layer.scaling for k in asked.k[0, h // asked.layer.group]]
        total = sum(math.exp(x) for x in logits)
        weights = [math.exp(x) / total for x in logits]
        out.append(sum(w > outlier * sum(weights) / len(weights) for w in weights) / len(weights))
    return out


@pytest.mark.parametrize(("n", "seed"), [(5, 0), (17, 1), (40, 2)])
def test_awareness_by_loops(ask, n, seed):
    asked = ask(n, heads=4, kv=2, seed=seed)
    np.testing.assert_allclose(awareness(asked, 1.5)[0].numpy(), slow_awareness(asked, 1.5), atol=1e-6)


def test_holes_count_for_nothing(ask):
    asked = ask(6, heads=2)
    kept = awareness(asked, 1.5)
    padded = type(asked)(
        **{
            **vars(asked),
            "k_pos": torch.cat([torch.full((1, 3), -1), asked.k_pos], dim=1),
            "k": torch.cat([torch.full((1, 1, 3, 8), 9.0), asked.k], dim=2),
        }
    )
    torch.testing.assert_close(awareness(padded, 1.5), kept)


@pytest.mark.parametrize(("n", "seed"), [(9, 0), (17, 1), (26, 2)])
def test_same_as_the_paper(ask, engine, slow, same, n, seed):
    asked = ask(n, seed=seed, heads=4, kv=2, layer=2)
    order = sorted(range(4), key=lambda h: -slow_awareness(asked, 3.0)[h])
    by = {h: 1.2 + 0.6 * rank / 3 for rank, h in enumerate(order)}
    same(engine(MsPoE(), asked), slow(asked, lambda h, i, j, f: (i - j) / by[h] * asked.inv_freq[f].item()), asked)


def test_first_layers_are_stock(ask, engine, slow, same):
    asked = ask(9, layer=1)
    same(engine(MsPoE(), asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_ratios_stay_those_of_the_first_prefill(ask):
    state: dict[str, torch.Tensor] = {}
    MsPoE().branches(ask(12, heads=4, kv=2, layer=2, state=state))
    first = state["ratios"].clone()
    MsPoE().branches(ask(1, 13, heads=4, kv=2, layer=2, seed=9, state=state))
    torch.testing.assert_close(state["ratios"], first)
    assert first.shape == (1, 4)


def test_ratio_one_is_stock_through_the_seam(tiny):
    model = tiny("llama")
    ids = torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(ids).logits
        with attach(model, "ms_poe(ratio_min=1.0, ratio_max=1.0, first_layer=0)"):
            torch.testing.assert_close(model(ids).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_head_wise_ratios_go_beyond_the_window_further_than_plain_rope(testbed):
    # The paper's claim is about answers in the middle of a text inside the window, which this model finds without help. What can be
    # seen here is its cause: squeezed positions keep far answers in reach when the text outgrows the window.
    _, stock = testbed.answers("stock", 1024)
    _, scaled = testbed.answers("ms_poe(first_layer=0)", 1024)
    assert scaled < 0.5
    assert stock > 1.0


@pytest.mark.parametrize(
    "options", [{"ratio_min": 0.9}, {"ratio_max": 1.1}, {"first_layer": -1}, {"outlier": -1.0}]
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        MsPoE(**options)


def test_cost_rotates_keys_for_every_query_head():
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=5)
    assert MsPoE().cost(shape).flops == 5 * 4 * 8 * 3 * 2
