"""KVzip: the context is said once more, and what is looked at meanwhile stays, over all layers and heads together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import CapabilityError, ConfigError
from baywindow.window import attach
from baywindow.window.base import ModelInfo, Shape
from baywindow.window.block import Block
from baywindow.window.caches.base import Seen, Whole
from baywindow.window.caches.kvzip import FIRST, LATER, KVzip, right_aligned
from baywindow.window.caches.snapkv import SnapKV

IDS = torch.randint(1, 97, (1, 30), generator=torch.Generator().manual_seed(21))


class FakeTokenizer:
    """Three instructions' worth of words as single ids; a chat template that says what comes before and after."""

    chat_template = "yes"
    known = {FIRST: [71], LATER: [72, 73], "<end><answer>": [74, 75]}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return self.known[text]

    def apply_chat_template(self, messages: Any, add_generation_prompt: bool, tokenize: bool) -> str:
        assert add_generation_prompt
        assert not tokenize
        return f"<user>{messages[0]['content']}<end><answer>"


def whole_of(
    weights: list[Any], layer_of: Callable[..., Any], *, tokens: int, protect_from: int | None = None, tokenizer: Any = None
) -> tuple[Whole, list[Any], dict[int, Any]]:
    """A cache of one row whose forwards see ``weights[layer]`` [1, Hq, m, tokens + m]; what was fed and what was kept."""
    fed: list[Any] = []
    kept: dict[int, Any] = {}
    H = 1
    layers = tuple(layer_of(index=i, q_heads=w.shape[1], kv_heads=H) for i, w in enumerate(weights))
    block = Block(keys=torch.zeros(1, H, tokens, 2), values=torch.zeros(1, H, tokens, 2), positions=torch.arange(tokens)[None])

    def forward(ids: Any, watch: Any) -> None:
        fed.append(ids)
        m = ids.shape[1]
        for layer, full in zip(layers, weights, strict=True):
            w = full[:, :, :m, : tokens + m]
            new = Block(keys=torch.zeros(1, H, m, 2), values=torch.zeros(1, H, m, 2), positions=tokens + torch.arange(m)[None])
            seen = Seen(
                layer=layer, phase="prefill", queries=torch.zeros(1, w.shape[1], m, 2), q_pos=new.positions,
                block=Block.join([block, new]), weights=lambda a, b, w=w: w[:, :, a:b], state={}, tags={},
            )  # fmt: skip
            watch(seen)

    made = Whole(
        info=ModelInfo(name="x", layers=layers, trained_tokens=64, vocabulary=97), ids=torch.arange(1, tokens + 1)[None], layers=layers,
        seen=torch.tensor([tokens if protect_from is None else protect_from]),
        protect_from=None if protect_from is None else torch.tensor([protect_from]),
        block=lambda i: block, forward=forward, keep=lambda i, mask: kept.__setitem__(i, mask), tokenizer=tokenizer,
    )  # fmt: skip
    return made, fed, kept


def test_worked_example(layer_of: Callable[..., Any]) -> None:
    """Two layers, one head with two query heads, four tokens said again. Largest weights by token: layer 0 0.6, 0.1, 0.2, 0.1, layer 1
    0.3, 0.5, 0.1, 0.05. Budget 2 a head and layer is 4 in all: 0.6, 0.5, 0.3, 0.2 stay: tokens 0 and 2, and 0 and 1."""
    rest = torch.zeros(1, 2, 4, 4)  # what the repetition gives itself
    a = torch.tensor([[[0.6, 0.1, 0.1, 0.1]] * 4, [[0.1, 0.05, 0.2, 0.05]] * 4])[None]
    b = torch.tensor([[[0.3, 0.1, 0.1, 0.05]] * 4, [[0.05, 0.5, 0.1, 0.05]] * 4])[None]
    rest = [torch.cat([1 - w.sum(dim=-1, keepdim=True), torch.zeros(1, 2, 4, 3)], dim=-1) for w in (a, b)]
    made, fed, kept = whole_of([torch.cat([a, rest[0]], dim=-1), torch.cat([b, rest[1]], dim=-1)], layer_of, tokens=4)
    KVzip(budget_tokens=2, sink_tokens=0).finish(made)
    assert [ids.tolist() for ids in fed] == [[[1, 2, 3, 4]]]
    assert kept[0].tolist() == [[[True, False, True, False]]]
    assert kept[1].tolist() == [[[True, True, False, False]]]


def test_weights_are_taken_among_first_tokens_chunk_and_repetition_only(layer_of: Callable[..., Any]) -> None:
    """Chunks of two over four tokens, one sink. In the second chunk token 1 is neither sink, chunk nor new: with half of the weight on
    it, what is left, 0.1 to token 2 and 0.2 to token 3, counts twice. In the first chunk tokens 2 and 3 are hidden the same way:
    token 1 gets 0.5 of 0.7."""
    weights = torch.tensor([[[[0.1, 0.5, 0.1, 0.2, 0.1, 0.0], [0.1, 0.5, 0.1, 0.2, 0.0, 0.1]]]])
    made, _, _ = whole_of([weights], layer_of, tokens=4)
    scores: dict[int, Any] = {}
    cache = KVzip(budget_tokens=3, sink_tokens=1, chunk_tokens=2)
    for start in (0, 2):
        made.forward(torch.zeros(1, 2, dtype=torch.long), lambda seen, a=start: cache._look(seen, scores, a, a + 2))
    torch.testing.assert_close(scores[0], torch.tensor([[[0.1 / 0.7, 0.5 / 0.7, 0.2, 0.4]]]))


def test_what_is_said_to_the_model(layer_of: Callable[..., Any]) -> None:
    """The instruction, the end of the previous chunk, the answer's turn, the chunk; without a tokenizer the chunk alone."""
    weights = torch.rand(1, 1, 9, 14, generator=torch.Generator().manual_seed(0))
    cache = KVzip(budget_tokens=3, sink_tokens=0, chunk_tokens=3, overlap_tokens=2)
    made, fed, _ = whole_of([weights], layer_of, tokens=5, tokenizer=FakeTokenizer())
    cache.finish(made)
    assert [ids[0].tolist() for ids in fed] == [[71, 74, 75, 1, 2, 3], [72, 73, 2, 3, 74, 75, 4, 5]]
    made, fed, _ = whole_of([weights], layer_of, tokens=5)
    cache.finish(made)
    assert [ids[0].tolist() for ids in fed] == [[1, 2, 3], [4, 5]]


def test_rows_of_different_lengths_end_together() -> None:
    assert right_aligned([torch.tensor([5, 6, 7]), torch.tensor([8])]).tolist() == [[5, 6, 7], [-1, -1, 8]]


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("length", "chunk", "budget"), [(12, 100, 5), (30, 13, 9), (30, 30, 29)])
def test_in_a_model_against_stock_attention_of_the_text_said_twice(
    seed: int, length: int, chunk: int, budget: int, tiny: Callable[..., Any]
) -> None:
    """Slow oracle: the stock model's own attention maps over context + chunk, maxima in loops, one sorted list over all layers."""
    model = tiny("llama", "float32", seed)
    ids = IDS[:, :length]
    model.set_attn_implementation("eager")
    best = torch.zeros(3, 2, length)
    for start in range(0, length, chunk):
        part = ids[:, start : start + chunk]
        maps = model(torch.cat([ids, part], dim=1), output_attentions=True).attentions
        among = [t for t in range(length + part.shape[1]) if t < 2 or start <= t < start + chunk or t >= length]
        for layer in range(3):
            for head in range(4):
                for row in range(length, length + part.shape[1]):
                    weights = maps[layer][0, head, row]
                    total = float(weights[among].sum())
                    for t in range(start, min(start + chunk, length)):
                        best[layer, head // 2, t] = max(float(best[layer, head // 2, t]), float(weights[t]) / total)
    model.set_attn_implementation("sdpa")
    best[:, :, :2] = torch.inf
    ranked = sorted(((float(best[a, b, t]), a, b, t) for a in range(3) for b in range(2) for t in range(length)), key=lambda x: -x[0])
    expected: list[list[list[int]]] = [[[], []] for _ in range(3)]
    for _, a, b, t in ranked[: budget * 6]:
        expected[a][b].append(t)
    with attach(model, f"kvzip(budget_tokens={budget}, chunk_tokens={chunk}, sink_tokens=2)") as w:
        cache = w.cache()
        model(ids, past_key_values=cache)
    for layer in range(3):
        held = cache.store(layer).view().head_positions[0]
        assert [sorted(row[row >= 0].tolist()) for row in held] == [sorted(row) for row in expected[layer]]


@torch.no_grad()
def test_the_second_pass_leaves_nothing_behind(tiny: Callable[..., Any]) -> None:
    """Also on layers with a sliding window, whose past must come back as it was: what is held afterwards is, bit for bit, what a run
    without the pass holds at the same positions."""
    model = tiny("gemma3")
    with attach(model, "kvzip(budget_tokens=64)") as w:  # nothing is dropped, so nothing is said twice
        plain = w.cache()
        model(IDS, past_key_values=plain)
    with attach(model, "kvzip(budget_tokens=29, sink_tokens=0)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        assert cache.get_seq_length() == 30
        assert cache.row_tokens.tolist() == [30]
    for i in (0, 2):
        block = cache.store(i).view()
        assert block.positions.tolist() == [list(range(23, 30))]
        assert torch.equal(block.keys, plain.store(i).view().keys)
        assert block.keys.untyped_storage().nbytes() <= 2 * (7 * 1.25 + 32) * 16 * 4  # no room left over from the pass
    full, whole = cache.store(1).view(), plain.store(1).view()
    assert int(full.held.sum()) == 58
    for head in range(2):
        held = full.head_positions[0, head] >= 0
        assert torch.equal(full.keys[0, head][held], whole.keys[0, head][full.head_positions[0, head][held]])


@torch.no_grad()
def test_rows_with_padding_and_chunks_of_their_own_get_what_they_get_alone(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    both = IDS.repeat(2, 1)
    both[1, :11] = 0
    mask = torch.ones_like(both)
    mask[1, :11] = 0
    with attach(model, "kvzip(budget_tokens=8, chunk_tokens=10)") as w:
        cache, alone = w.cache(), w.cache()
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # as `generate` counts them
        model(both, attention_mask=mask, position_ids=positions, past_key_values=cache)
        model(IDS[:, 11:], past_key_values=alone)
    for i in range(3):
        mine, single = (c.store(i).view().head_positions[row] for c, row in ((cache, 1), (alone, 0)))
        assert [r[r >= 0].tolist() for r in mine] == [r[r >= 0].tolist() for r in single]


@torch.no_grad()
def test_heads_and_layers_hold_different_numbers_and_the_rest_is_freed(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "kvzip(budget_tokens=10)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        cache.close()
        held = torch.cat(cache.held())
        parts = [t for store in cache.stores for s in store.segments for name, t in s.tensors().items() if name in ("keys", "values")]
        parts += [t for store in cache.stores if store.tail is not None for t in (store.tail.keys, store.tail.values)]
    assert len({int(n) for n in held.flatten()}) > 1
    assert int(held.sum()) == 60
    assert sum(t.untyped_storage().nbytes() for t in parts) == 60 * 2 * 16 * 4


@torch.no_grad()
def test_a_question_kept_out_is_neither_said_again_nor_dropped(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "kvzip(budget_tokens=8)") as w:
        cache = w.cache(question_tokens=5)
        model(IDS, past_key_values=cache)
    for i in range(3):
        for row in cache.store(i).view().head_positions[0]:
            assert set(range(25, 30)) <= set(row.tolist())
    assert int(torch.cat(cache.held()).sum()) == 6 * (8 + 5)


@torch.no_grad()
def test_full_budget_and_smallest_budget(next_logits: Callable[..., Any]) -> None:
    assert torch.equal(next_logits(IDS, "kvzip(budget_tokens=30)"), next_logits(IDS, "stock"))
    assert torch.isfinite(next_logits(IDS, "kvzip(budget_tokens=1, sink_tokens=0)")).all()
    assert torch.isfinite(next_logits(IDS, "kvzip(budget_fraction=0.01)")).all()


def test_claim_what_no_late_query_looks_at_survives_where_snapkv_loses_it(
    layer_of: Callable[..., Any], make_moment: Callable[..., Any]
) -> None:
    """Token 7 is looked at when it is said again and by nothing else; the prompt's last queries look elsewhere."""
    noise = 0.01 * torch.rand(1, 1, 40, 80, generator=torch.Generator().manual_seed(1))
    noise[0, 0, 6, 7] = 0.9
    made, _, kept = whole_of([noise], layer_of, tokens=40)
    KVzip(budget_tokens=8, sink_tokens=0).finish(made)
    assert bool(kept[0][0, 0, 7])
    assert int(kept[0].sum()) == 8
    late = torch.full((1, 1, 4, 40), 0.02)
    late[..., 7] = 0.0
    moment, block = make_moment(weights=late)
    assert 7 not in SnapKV(budget_tokens=8, window_tokens=4, kernel_tokens=1).reduce(moment, block, None).positions[0].tolist()


@torch.no_grad()
def test_what_is_refused(tiny: Callable[..., Any]) -> None:
    for option, value in (("chunk_tokens", 0), ("overlap_tokens", -1), ("sink_tokens", -1)):
        with pytest.raises(ConfigError, match=option):
            KVzip(**{option: value})
    with pytest.raises(ConfigError, match="budget_tokens"):
        KVzip(budget_tokens=4)
    model = tiny("llama")
    embeds = model.get_input_embeddings()(IDS)
    with attach(model, "kvzip(budget_tokens=8)") as w, pytest.raises(CapabilityError, match="token ids"):
        model(inputs_embeds=embeds, past_key_values=w.cache())


def test_cost_is_another_pass_over_the_context() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, element_bytes=4)
    cost = KVzip(budget_tokens=10, chunk_tokens=40).cost(shape)
    assert cost.flops == 4 * 2 * 4 * 8 * 100 * 140  # every repeated token meets the context and the repetition of its chunk
    assert cost.bytes_kept == 10 * 2 * 2 * 2 * 8 * 4
