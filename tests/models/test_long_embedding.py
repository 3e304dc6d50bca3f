"""Embedders beyond their window: positions and frequencies by hand, grouped attention against a slow loop, stock where nothing is far."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")

from baywindow.errors import CapabilityError  # noqa: E402
from baywindow.models.embedders import Modules  # noqa: E402
from baywindow.models.transformers.far_attention import Far, far_scores, turned  # noqa: E402
from baywindow.models.transformers.long_embedding import LongEmbedder, enlarged, slower  # noqa: E402

WINDOW = 16
LONG = "the band and the bank stand at the end of the land"


class Mean(torch.nn.Module):
    def forward(self, features):
        return {"sentence_embedding": features["token_embeddings"].mean(dim=1)}


def bert():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, max_position_embeddings=WINDOW
    )
    return BertModel(config).eval()


def rotary():
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        initializer_range=0.3,
    )
    return Qwen2Model(config).eval()


@pytest.fixture
def inner(byte_tokenizer):
    """A short embedder around a network: mean of the last states."""
    tokenizer = byte_tokenizer(chat=False)

    def make(network, window=WINDOW):
        def embed(texts, kind="passage"):
            found = []
            for text in texts:
                ids = torch.tensor([tokenizer(text).input_ids[:window]])
                with torch.no_grad():
                    found.append(network(input_ids=ids).last_hidden_state.mean(dim=1)[0].numpy())
            rows = np.array(found, dtype=np.float32).reshape(-1, 32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        return SimpleNamespace(
            name="tiny", dim=32, max_tokens=window, embed=embed, modules=lambda: Modules(tokenizer, network, (Mean(),)), tokenizer=tokenizer
        )

    return make


def test_positions_worked_example(inner) -> None:
    made = inner(bert(), 4)
    assert LongEmbedder(made, "group", 4)._positions(10).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert LongEmbedder(made, "recurrent", 4)._positions(10).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_an_enlarged_table_keeps_the_old_rows_and_draws_lines_between_them() -> None:
    table = torch.nn.Embedding.from_pretrained(torch.tensor([[9.0], [0.0], [2.0], [4.0]]))
    assert enlarged(table, 1, 2).weight[:, 0].tolist() == [9, 0, 1, 2, 3, 4, 4]


def test_slower_frequencies_are_those_of_the_larger_base() -> None:
    dim, base, factor = 16, 10_000.0, 8
    inv_freq = base ** (-torch.arange(0, dim, 2).double() / dim)
    larger = base * factor ** (dim / (dim - 2))
    torch.testing.assert_close(slower(inv_freq, factor), larger ** (-torch.arange(0, dim, 2).double() / dim))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_far_scores_equal_a_slow_loop_over_distances(seed: int) -> None:
    torch.manual_seed(seed)
    length, near, group = 14, 4, 3
    inv_freq = 100.0 ** (-torch.arange(0, 8, 2).float() / 8)
    query, key = torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 8)
    at = torch.arange(length)
    found = far_scores(turned(query, at, inv_freq), turned(key, at, inv_freq), Far(inv_freq, near, group))
    shift = near - near // group
    for i in range(length):
        for j in range(length):
            distance = i - j
            if abs(distance) >= near:
                distance = i // group + shift - j // group if distance > 0 else i // group - (j // group + shift)
            expected = (turned(query[:, :, [i]], torch.tensor([distance]), inv_freq) * key[:, :, [j]]).sum(-1)[..., 0]
            torch.testing.assert_close(found[:, :, i, j], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["windows", "group", "recurrent", "interpolate"])
def test_short_texts_come_out_as_ever(inner, method) -> None:
    made = inner(bert())
    np.testing.assert_allclose(LongEmbedder(made, method, 4).embed(["the land"]), made.embed(["the land"]), atol=1e-5)


@pytest.mark.parametrize("method", ["group", "recurrent", "interpolate"])
def test_long_texts_are_read_to_their_end(inner, method) -> None:
    made = inner(bert())
    long = LongEmbedder(made, method, 4)
    one, other = long.embed([LONG, f"{LONG[:-4]}bank"])
    assert 1 - float(one @ other) > 1e-6
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(made.embed([LONG]), made.embed([f"{LONG[:-4]}bank"]))  # the short one sees no difference


def test_recurrent_positions_equal_a_forward_with_these_positions(inner) -> None:
    network = bert()
    made = inner(network)
    ids = torch.tensor([made.tokenizer(LONG).input_ids])
    with torch.no_grad():
        states = network(input_ids=ids, position_ids=torch.arange(ids.shape[1])[None] % WINDOW).last_hidden_state.mean(dim=1)[0]
    np.testing.assert_allclose(LongEmbedder(made, "recurrent", 4).embed([LONG])[0], states / states.norm(), atol=1e-5)


def test_windows_are_the_mean_of_parts(inner) -> None:
    made = inner(bert())
    spans = made.tokenizer(LONG, return_offsets_mapping=True).offset_mapping
    size = WINDOW - 2
    assert 2 * size < len(spans) < 4 * size
    assert len(spans) % size  # the last part begins in the one before it: all are of a length
    whole = [LONG[spans[a][0] : spans[a + size - 1][1]] for a in range(0, len(spans) - size, size)]
    last = LONG[spans[-size][0] :]
    mean = made.embed([*whole, last]).mean(axis=0)
    np.testing.assert_allclose(LongEmbedder(made, "windows", 4).embed([LONG])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_grouped_attention_equals_stock_where_nothing_is_far(inner) -> None:
    """A rotary network with room for all distances: near covers the whole text, so grouped attention is the stock one."""
    network = rotary()
    made = inner(network, 200)
    long = LongEmbedder(made, "selfextend", 2)
    ids = made.tokenizer(LONG).input_ids
    assert len(ids) < 100
    stock = made.embed([LONG])[0]
    vector = long._encoded(ids)
    np.testing.assert_allclose(vector / np.linalg.norm(vector), stock, atol=1e-4)
    assert network.config._attn_implementation != "baywindow_far"


def test_rotary_methods_change_what_is_far_on_a_copy_only(inner) -> None:
    network = rotary()
    made = inner(network)
    ids = torch.tensor([made.tokenizer(LONG).input_ids])
    with torch.no_grad():
        stock = network(input_ids=ids).last_hidden_state.mean(dim=1)[0].numpy()
    stock /= np.linalg.norm(stock)
    before = network.rotary_emb.inv_freq.clone()
    for method in ("ntk", "selfextend"):
        vector = LongEmbedder(made, method, 4).embed([LONG])[0]
        assert 1e-6 < 1 - float(vector @ stock) < 1
    torch.testing.assert_close(network.rotary_emb.inv_freq, before)


def test_a_method_for_other_positions_is_refused(inner) -> None:
    with pytest.raises(CapabilityError, match="no rotary positions"):
        LongEmbedder(inner(bert()), "ntk", 2)
    with pytest.raises(CapabilityError, match="no table of positions"):
        LongEmbedder(inner(rotary()), "group", 2)
