"""LongHeads: which chunks a head reads, at which positions, and what that costs nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow import recipe
from baywindow.errors import CapabilityError, ConfigError, RecipeError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.patterns.base import Glance
from baywindow.window.patterns.longheads import LongHeads, chosen, chunk_keys

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(3))
SMALL = "longheads(chunk_tokens=4, attention_tokens=16)"


def glance_of(layer: Any, info: Any, turned: Any, row: tuple[Any, Any, Any], state: dict[str, Any]) -> Glance:
    q, k, v = row
    at, length = torch.arange(k.shape[2]), k.shape[2]
    return Glance(
        info=info, layer=layer, q=q, k=k, v=v, raw_q=q, raw_k=k, q_pos=at[None, length - q.shape[2] :], k_pos=at[None],
        logits=lambda a, b: torch.empty(0), turn=turned, state=state,
    )  # fmt: skip


def content(n: int, seed: int, heads: int = 2, kv: int = 1, dim: int = 8) -> tuple[Any, Any, Any]:
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(1, heads, n, dim, generator=draw),
        torch.randn(1, kv, n, dim, generator=draw),
        torch.randn(1, kv, n, dim, generator=draw),
    )


def test_worked_example() -> None:
    """Chunks of two tokens, four chunks a query. Token 11 stands in chunk 5: it reads chunks 0, 4 and 5 and the best of 1, 2, 3. Its query
    is (1, 0); the chunks' keys have 1, 3, 2 there, so it takes chunk 2. Token 5 stands in chunk 2 and reads what there is: 0, 1, 2."""
    keys = torch.tensor([9.0, 1.0, 3.0, 2.0, -9.0, 0.0])[:, None, None] * torch.tensor([1.0, 0.0])
    q = torch.tensor([1.0, 0.0]).expand(1, 7, 2)
    ids = chosen(q, keys, total=12, size=2, most=4)
    assert ids[0, -1].tolist() == [0, 2, 4, 5]
    assert ids[0, 0].tolist() == [0, 1, 2, -1]


def softmax_over(logits: list[float], vectors: list[Any]) -> Any:
    weights = torch.softmax(torch.tensor(logits, dtype=torch.float64), dim=0).float()
    return sum(w * v for w, v in zip(weights, vectors, strict=True))


def chunk_key_by_hand(q: Any, k: Any, v: Any, product: Any) -> Any:
    """q, k, v [C, D] of one head, from the paper: attend both ways, average, and let the average ask the (rotated) keys."""
    C, scale = len(q), q.shape[-1] ** -0.5
    seen = [softmax_over([product(q[i], k[j], i - j) * scale for j in range(C)], list(v)) for i in range(C)]
    mean = sum(seen) / C
    rotated = [rotated_to(k[j], j) for j in range(C)]
    return softmax_over([float(mean @ r) * scale for r in rotated], rotated)


def rotated_to(x: Any, at: int) -> Any:
    half = len(x) // 2
    angle = at * 10000.0 ** (-torch.arange(half) / half)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([x[:half] * cos - x[half:] * sin, x[half:] * cos + x[:half] * sin])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("n", "C", "most"), [(19, 3, 3), (24, 4, 4), (14, 2, 5)])
def test_against_a_loop_written_from_the_paper(
    layer_of: Any, info_of: Any, turned: Any, distance_product: Any, seed: int, n: int, C: int, most: int
) -> None:
    layer = layer_of(heads=2, kv=1)
    q, k, v = content(n, seed)
    part = LongHeads(chunk_tokens=C, attention_tokens=C * most)
    got = part.attend(glance_of(layer, info_of(layer), turned, (q, k, v), {}))[0]
    for head in range(2):
        chunks = [slice(c * C, c * C + C) for c in range(n // C)]
        keys = [chunk_key_by_hand(q[0, head, s], k[0, 0, s], v[0, 0, s], distance_product) for s in chunks]
        for i in range(0, n, 5):
            own = i // C
            picked = {0, max(0, own - 1), own}
            others = sorted((c for c in range(own) if c not in picked), key=lambda c: -float(q[0, head, i] @ keys[c]))
            picked |= set(others[: most - len(picked)]) if own + 1 > most else set(others)
            logits, seen = [], []
            for rank, chunk in enumerate(sorted(picked)):
                for j in range(chunk * C, min(chunk * C + C, i + 1)):
                    distance = (len(picked) - 1) * C + i % C - (rank * C + j % C)
                    logits.append(distance_product(q[0, head, i], k[0, 0, j], distance) * layer.scaling)
                    seen.append(v[0, 0, j])
            torch.testing.assert_close(got[head, i], softmax_over(logits, seen), atol=1e-5, rtol=1e-5)


def test_a_text_in_pieces_gives_what_it_gives_whole(layer_of: Any, info_of: Any, turned: Any) -> None:
    layer = layer_of(heads=4, kv=2)
    q, k, v = content(30, 5, heads=4, kv=2)
    part = LongHeads(chunk_tokens=4, attention_tokens=12)
    whole = part.attend(glance_of(layer, info_of(layer), turned, (q, k, v), {}))
    state: dict[str, Any] = {}
    outs = []
    for start, stop in ((0, 7), (7, 8), (8, 21), (21, 22), (22, 30)):
        row = q[:, :, start:stop], k[:, :, :stop], v[:, :, :stop]
        outs.append(part.attend(glance_of(layer, info_of(layer), turned, row, state)))
    torch.testing.assert_close(torch.cat(outs, dim=2), whole)
    assert state["chunk_keys"].shape == (1, 7, 4, 8)


def test_many_queries_go_in_blocks_of_rows(layer_of: Any, info_of: Any, turned: Any, monkeypatch: Any) -> None:
    layer = layer_of(softcap=3.0)
    row, part = content(23, 1), LongHeads(chunk_tokens=4, attention_tokens=12)
    whole = part.attend(glance_of(layer, info_of(layer), turned, row, {}))
    monkeypatch.setattr("baywindow.window.patterns.longheads.LOGITS", 2 * 3 * 4 * 5)  # five rows at a time
    torch.testing.assert_close(part.attend(glance_of(layer, info_of(layer), turned, row, {})), whole)


@torch.no_grad()
def test_where_all_chunks_fit_it_is_the_stock_model(tiny: Callable[..., Any]) -> None:
    for name in ("llama", "smollm3", "phi3_partial"):
        model = tiny(name)
        expected = model(IDS).logits
        with attach(model, "longheads(chunk_tokens=4, attention_tokens=60)") as w:
            got = model(IDS, past_key_values=w.cache()).logits
            fed = w.prefill(IDS[:, :50], chunk_tokens=17)
            later = model(IDS[:, 50:], past_key_values=fed).logits
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(later, expected[:, 50:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_padded_row_steps_and_beams(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    mask = torch.ones_like(IDS)
    mask[1, :17] = 0
    with attach(model, SMALL) as w:
        options = {"max_new_tokens": 9, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        both = model.generate(IDS * mask, attention_mask=mask, past_key_values=w.cache(), **options)
        alone = model.generate(IDS[1:, 17:], past_key_values=w.cache(), **options)
    torch.testing.assert_close(torch.stack(both.logits)[:, 1:], torch.stack(alone.logits), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_claim_a_far_chunk_is_found_by_the_heads_that_match_it(layer_of: Any, info_of: Any, turned: Any) -> None:
    """Far chunks are in sight of the head whose query matches them, and only of that head; the same budget spent on the last tokens alone
    misses them, and all distances stay inside the trained window."""
    layer = layer_of(heads=2, kv=1, dim=16)
    n, C = 256, 8
    draw = torch.Generator().manual_seed(0)
    k, v = 0.1 * torch.randn(1, 1, n, 16, generator=draw), torch.zeros(1, 1, n, 16)
    q = 0.1 * torch.randn(1, 2, n, 16, generator=draw)
    for head, (at, channel) in enumerate(((40, 7), (96, 6))):  # slow channels: rotation inside a chunk does not turn them away
        k[..., at : at + C, :] = 0
        k[..., at : at + C, channel] = 6.0
        v[..., at : at + C, head] = 1.0
        q[:, head, -1] = 0
        q[:, head, -1, channel] = 6.0
    out = LongHeads(chunk_tokens=C, attention_tokens=32).attend(glance_of(layer, info_of(layer), turned, (q, k, v), {}))[0, :, -1]
    assert float(out[0, 0]) > 0.9
    assert float(out[1, 1]) > 0.9
    assert float(out[0, 1]) < 0.05  # what the other head found
    recent = torch.softmax(q[0, :, -1] @ k[0, 0, -32:].T * layer.scaling, dim=-1) @ v[0, 0, -32:]
    assert float(recent.abs().max()) == 0.0


def test_chunk_keys_are_made_in_one_go_as_one_by_one(layer_of: Any, turned: Any) -> None:
    layer = layer_of(heads=4, kv=2)
    q, k, v = (x.unflatten(2, (3, 4))[0].transpose(0, 1) for x in content(12, 2, heads=4, kv=2))
    together = chunk_keys(q, k, v, layer, turned)
    for i in range(3):
        torch.testing.assert_close(chunk_keys(q[i : i + 1], k[i : i + 1], v[i : i + 1], layer, turned)[0], together[i])


def test_what_is_refused(layer_of: Any, info_of: Any) -> None:
    with pytest.raises(ConfigError, match="chunk_tokens"):
        LongHeads(chunk_tokens=0)
    for bad in (512, 1000):
        with pytest.raises(ConfigError, match="attention_tokens"):
            LongHeads(chunk_tokens=256, attention_tokens=bad)
    with pytest.raises(CapabilityError, match="3 chunks"):
        LongHeads(chunk_tokens=32).check_model(info_of(layer_of()))
    for other in ("rerope", "snapkv(budget_tokens=80)", "kvzip(budget_tokens=80)"):
        with pytest.raises(RecipeError, match="cannot stand in one recipe"):
            recipe.parse(f"longheads + {other}")


def test_sizes_follow_the_trained_window() -> None:
    assert LongHeads().sizes(4096) == (256, 16)
    assert LongHeads().sizes(64) == (4, 16)
    assert LongHeads(attention_tokens=8192).sizes(4096) == (256, 32)


def test_cost_is_what_is_read() -> None:
    """8 layers' worth of nothing else: 32 of 100 tokens a step, two key/value heads of 16 in bfloat16."""
    shape = Shape(layers=1, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=100)
    cost = LongHeads(chunk_tokens=8, attention_tokens=32).cost(shape)
    assert cost.bytes_read == 32 * 2 * 2 * 16 * 2
    assert cost.bytes_kept == 100 * 2 * 2 * 16 * 2
