"""InfLLM: representative keys, the blocks they bring back, and the one distance at which everything far is met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow import recipe
from baywindow.errors import ConfigError, RecipeError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.patterns.infllm import InfLLM, mean_dot, representative

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(8))
SIZES = {"sink_tokens": 2, "local_tokens": 12, "block_tokens": 4, "blocks": 2, "representatives": 2, "piece_tokens": 6}


def text(**changed: int) -> str:
    return "infllm(" + ", ".join(f"{name}={value}" for name, value in {**SIZES, **changed}.items()) + ")"


def test_worked_example() -> None:
    """A block of three keys (1, 0), (0, 1), (2, 2); two queries stand behind each: (1, 0), (3, 0), (0, 2), (0, 4) in all. The scores are
    (1+3)/2 = 2 for the first, (0+2)/2 = 1 for the second, (0+0 + 2·2+2·4)/2 = 6 for the third. The two best are the first and the
    third, and their mean (1.5, 1) stands for the block."""
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])[None, None]
    queries = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0]])[None, None]
    scores = mean_dot(queries, keys, local=2)
    assert scores.flatten().tolist() == [2.0, 1.0, 6.0]
    assert representative(keys, scores, 2).flatten().tolist() == [1.5, 1.0]


class ByHand:
    """The first layer of one sequence, written from the paper: all pairs, and sets of tokens."""

    def __init__(self, model: Any, ids: Any, part: InfLLM, turned: Any) -> None:
        attention, n = model.model.layers[0].self_attn, len(ids)
        x = model.model.layers[0].input_layernorm(model.model.embed_tokens(ids[None]))[0]
        q, self.k, self.v = (proj(x).view(n, -1, 16).transpose(0, 1) for proj in (attention.q_proj, attention.k_proj, attention.v_proj))
        self.out, self.part, at = attention.o_proj, part, torch.arange(n)[None]
        near_q, near_k = turned(q[None], at)[0], turned(self.k[None], at)[0]
        self.far_q = turned(q[None], torch.full_like(at, part.local_tokens - 1))[0]
        self.near = near_q.unflatten(0, (2, 2)) @ near_k[:, None].transpose(2, 3)  # [key head, query of its group, i, j]
        self.far = self.far_q.unflatten(0, (2, 2)) @ self.k[:, None].transpose(2, 3)

    def ready(self, start: int) -> int:
        return max(0, (start - self.part.local_tokens - self.part.sink_tokens) // self.part.block_tokens)

    def block_key(self, i: int, head: int) -> Any:
        """Eq. 4, for the mean query of the heads that share this key head."""
        first, part = self.part.sink_tokens + i * self.part.block_tokens, self.part
        tokens = range(first, first + part.block_tokens)
        scores = {m: float(self.near[head, :, m + 1 : m + 1 + part.local_tokens, m].mean()) for m in tokens}
        return torch.stack([self.k[head, m] for m in sorted(tokens, key=lambda m: -scores[m])[: part.representatives]]).mean(dim=0)

    def chosen(self, start: int, stop: int) -> set[int]:
        """Blocks that the piece of tokens ``start`` to ``stop`` looks up, of those that have left the window before it."""
        scores = []
        for i in range(self.ready(start)):
            keys = [self.block_key(i, head) for head in (0, 1)]
            scores.append(sum(float(self.far_q[h, t] @ keys[h // 2]) for h in range(4) for t in range(start, stop)))
        return set(sorted(range(len(scores)), key=lambda i: -scores[i])[: self.part.blocks])

    def output(self, i: int, start: int, stop: int) -> Any:
        """Of token ``i`` in its piece, and how many tokens it reads."""
        part, blocks = self.part, self.chosen(start, stop)
        filed = part.sink_tokens + self.ready(start) * part.block_tokens
        seen = [j for j in range(i + 1) if j < part.sink_tokens or j >= filed or (j - part.sink_tokens) // part.block_tokens in blocks]
        logits = [(self.near if i - j < part.local_tokens else self.far)[:, :, i, j] / 4.0 for j in seen]
        weights = torch.softmax(torch.stack(logits, dim=-1), dim=-1)
        return self.out((weights @ self.v[:, seen]).flatten()), len(seen)


def first_layer(model: Any) -> tuple[list[Any], Any]:
    outputs: list[Any] = []
    return outputs, model.model.layers[0].self_attn.register_forward_hook(lambda m, a, k, out: outputs.append(out[0]), with_kwargs=True)


@torch.no_grad()
@pytest.mark.parametrize(("seed", "sizes"), [(0, {}), (1, {"sink_tokens": 0, "blocks": 1}), (2, {"representatives": 4, "block_tokens": 5})])
def test_the_first_layer_against_a_loop_written_from_the_paper(
    tiny: Callable[..., Any], turned: Any, seed: int, sizes: dict[str, int]
) -> None:
    model, part = tiny("llama", seed=seed), InfLLM(**{**SIZES, **sizes})
    by_hand = ByHand(model, IDS[0], part, turned)
    outputs, hook = first_layer(model)
    try:
        with attach(model, text(**sizes)) as w:
            cache = w.prefill(IDS[:1, :54], chunk_tokens=54)
            prompt = outputs[-1][0]
            steps = [(model(IDS[:1, i : i + 1], past_key_values=cache), outputs[-1][0, 0])[1] for i in range(54, 60)]
    finally:
        hook.remove()
    for i in (0, 11, 17, 30, 41, 42, 47, 53):
        want, read = by_hand.output(i, i // 6 * 6, i // 6 * 6 + 6)
        torch.testing.assert_close(prompt[i], want, atol=1e-4, rtol=1e-4)
    assert read < 54
    for i in (54, 57, 59):
        torch.testing.assert_close(steps[i - 54], by_hand.output(i, i, i + 1)[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pieces_do_not_depend_on_how_the_prompt_was_fed(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, text()) as w:
        whole, parts = w.prefill(IDS, chunk_tokens=60), w.prefill(IDS, chunk_tokens=18)  # cut at pieces: lookups see whole pieces
        one, two = (model(IDS[:, :1], past_key_values=cache).logits for cache in (whole, parts))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_where_all_blocks_are_looked_up_every_token_is_seen(tiny: Callable[..., Any]) -> None:
    """Within the window that is the stock model; beyond it only distances differ: those of lm_infinite with everything global."""
    model = tiny("llama")
    with attach(model, text(local_tokens=60)) as w:
        got = model(IDS, past_key_values=w.cache()).logits
    torch.testing.assert_close(got, model(IDS).logits, atol=1e-4, rtol=1e-4)
    with attach(model, text(blocks=40)) as w:
        everything = model(IDS, past_key_values=w.cache()).logits
    with attach(model, "lm_infinite(global_tokens=100, local_tokens=12, limit_tokens=11)") as w:
        want = model(IDS, past_key_values=w.cache()).logits
    torch.testing.assert_close(everything, want, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rows_with_padding_keep_their_own_blocks(tiny: Callable[..., Any]) -> None:
    """17 slots of padding: lookups of the batch are cut at its slots, so the row alone is fed in pieces that end where those do."""
    model = tiny("llama")
    mask = torch.ones_like(IDS)
    mask[1, :18] = 0
    with attach(model, text()) as w:
        both, alone = w.cache(), w.cache()
        got = [model(IDS * mask, attention_mask=mask, past_key_values=both).logits[1, 18:]]
        want = [model(IDS[1:, 18:], past_key_values=alone).logits[0]]
        for i in range(6):
            longer = torch.nn.functional.pad(mask, (0, i + 1), value=1)
            got.append(model(IDS[:, i : i + 1], attention_mask=longer, past_key_values=both).logits[1])
            want.append(model(IDS[1:, i : i + 1], past_key_values=alone).logits[0])
    torch.testing.assert_close(torch.cat(got), torch.cat(want), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("other", ["offload(group_tokens=4)", "kivi(group_tokens=4, residual_tokens=64)"])
def test_where_tokens_lie_changes_nothing(tiny: Callable[..., Any], other: str) -> None:
    model = tiny("llama")
    mask = torch.ones_like(IDS)
    mask[1, :18] = 0
    logits = []
    for made in (text(), f"{text()} + {other}"):
        with attach(model, made) as w:
            cache = w.prefill(IDS * mask, mask=mask, chunk_tokens=24)
            longer = torch.nn.functional.pad(mask, (0, 1), value=1)
            logits.append(model(IDS[:, :1], attention_mask=longer, past_key_values=cache).logits)
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_claim_looked_up_blocks_hold_more_attention_than_random_ones(tiny: Callable[..., Any], turned: Any) -> None:
    """Of the attention that full attention would give to what lies beyond the window, the two blocks that are looked up have more than two
    at random, in a model that was never trained."""
    shares = []
    for seed in range(3):
        by_hand = ByHand(tiny("llama", seed=seed), IDS[0], InfLLM(**SIZES), turned)
        for start in (48, 54):
            ready, last = by_hand.ready(start), start + 5
            mass = by_hand.far[:, :, last, 2 : 2 + 4 * ready].div(4.0).softmax(dim=-1).unflatten(-1, (ready, 4)).sum(dim=-1)
            shares.append(float(mass[..., list(by_hand.chosen(start, start + 6))].sum(dim=-1).mean()) / (2 / ready))
    assert sum(shares) / len(shares) > 1.2


def test_what_is_refused() -> None:
    for name in ("local_tokens", "block_tokens", "blocks", "representatives", "piece_tokens"):
        with pytest.raises(ConfigError, match=name):
            InfLLM(**{name: 0})
    with pytest.raises(ConfigError, match="sink_tokens"):
        InfLLM(sink_tokens=-1)
    with pytest.raises(ConfigError, match="representatives"):
        InfLLM(block_tokens=4, representatives=5)
    for other in ("rerope", "snapkv(budget_tokens=80)", "kvzip(budget_tokens=80)"):
        with pytest.raises(RecipeError, match="cannot stand in one recipe"):
            recipe.parse(f"infllm + {other}")


@torch.no_grad()
def test_a_step_reads_what_the_cost_says(tiny: Callable[..., Any], monkeypatch: Any) -> None:
    import baywindow.window.engine.recalling as recalling

    model, read = tiny("llama"), []
    kept = recalling.picked
    monkeypatch.setattr(recalling, "picked", lambda block, index, read_by: (read.append(index.shape[-1]), kept(block, index, read_by))[1])
    with attach(model, text()) as w:
        cache = w.prefill(IDS[:1])
        read.clear()
        model(IDS[:1, :1], past_key_values=cache)
    shape = Shape(layers=1, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=60)
    cost = InfLLM(**SIZES).cost(shape)
    assert len(set(read)) == 1
    assert cost.bytes_read - shape.token_bytes * SIZES["block_tokens"] <= read[0] * shape.token_bytes <= cost.bytes_read
