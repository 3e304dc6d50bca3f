"""Many texts at once equal one at a time; the early end sees what a whole forward sees."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow.errors import ConfigError
from baywindow.models.transformers import many, peeking

PAIRS = [
    ("", "back and forth"),
    ("the end of the bank, and the ", "bank"),
    ("the end of the bank, and the ", "other band on the land"),
    ("the end of the bank, and the ", ""),
    ("a much longer prompt about the end and the land and the band and so on; ", "a then"),
    ("", "x"),
    ("ü🙂", "🙂 bäck"),
]


@pytest.mark.parametrize("chat", [True, False])
def test_many_scores_equal_one_at_a_time(load, chat):
    model = load(chat=chat)
    found = model.score_many(PAIRS)
    for (prompt, continuation), score in zip(PAIRS, found, strict=True):
        if not continuation:
            assert score.logprobs.shape == (0,)
            continue
        alone = model.score(prompt, continuation)
        np.testing.assert_allclose(score.logprobs, alone.logprobs, atol=1e-4)
        assert score.tokens == alone.tokens
        assert score.offsets == alone.offsets


def test_offsets_lead_back_to_the_continuation(load):
    score = load(chat=False).score("the bank ", "and the land")
    assert "".join("and the land"[a:b] for a, b in score.offsets) == "and the land"
    assert len(score.offsets) == len(score.logprobs)


def test_what_rows_share_is_read_once(load, monkeypatch):
    model = load(chat=False)
    fed: list[tuple[int, int]] = []
    real = many.forward

    def counting(stock, ids, mask, cache, keep=1):
        fed.append(tuple(ids.shape))
        return real(stock, ids, mask, cache, keep)

    monkeypatch.setattr(many, "forward", counting)
    start = "the end of the bank, and the "
    pairs = [(start, "abcd"), (start, "bcde"), (start, "cdea")]
    found = model.score_many(pairs)
    (shared_rows, shared), (rows, rest) = fed
    assert (shared_rows, rows) == (1, 3)
    assert shared >= 8
    assert shared + rest + 1 == model.count_tokens(start + "abcd")
    for pair, score in zip(pairs, found, strict=True):
        np.testing.assert_allclose(score.logprobs, model.score(*pair).logprobs, atol=1e-4)


def test_last_states_equal_a_forward_of_each_text(load):
    import torch

    model = load(chat=False)
    texts = ["the land", "a band on the land and the bank", "x"]
    found = model.last_states(texts)
    for text, state in zip(texts, found, strict=True):
        with torch.no_grad():
            alone = model.model.model(torch.tensor([model.text_ids(text)])).last_hidden_state[0, -1]
        np.testing.assert_allclose(state, alone, atol=1e-4)


def test_the_scores_of_the_last_token_are_its_query_times_every_key(load, monkeypatch):
    """Oracle: softmax of the scaled scores is the attention that `inspect` reads in a whole forward."""
    model = load(chat=False)
    text = "the end of the bank and the land"
    scores = model.inspect(text, [0, -1], frozenset({"scores"})).scores
    weights = model.inspect(text, [0, -1], frozenset({"attention"})).attention
    for layer in (0, -1):
        scaled = scores[layer] / np.sqrt(64 / 4)  # width over heads
        expected = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
        np.testing.assert_allclose(expected, weights[layer][:, -1], atol=1e-5)
    assert model.model.config._attn_implementation != peeking.NAME
    with pytest.raises(ConfigError, match="forward of their own"):
        model.inspect(text, [0], frozenset({"scores", "hidden"}))


def test_layers_above_the_deepest_one_asked_for_do_not_run(load):
    model = load(chat=False)
    ran: list[int] = []
    hooks = [b.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, b in enumerate(model.model.model.layers)]
    model.inspect("the bank", [0], frozenset({"scores"}))
    for hook in hooks:
        hook.remove()
    assert ran == []
