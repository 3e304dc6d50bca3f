"""One row through a linear layer: the same numbers by the other product, and only where it is asked for."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from baywindow.models.transformers.one_row import OneRow, by_row

BF16 = torch.bfloat16


def layer(bias: bool = True, dtype: torch.dtype = BF16) -> OneRow:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(96, 40, bias=bias).to(dtype))
    by_row(made)
    assert isinstance(made[0], OneRow)
    return made[0]


@pytest.mark.parametrize("shape", [(96,), (1, 96), (1, 1, 96)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_row_is_as_exact_as_the_matrix_product(shape: tuple[int, ...], bias: bool) -> None:
    made, row = layer(bias), torch.randn(shape).to(BF16)
    exact = nn.functional.linear(row.float(), made.weight.float(), made.bias.float() if bias else None)
    with torch.no_grad():
        found = made(row)
    assert found.shape == exact.shape
    assert found.dtype == BF16
    torch.testing.assert_close(found.float(), exact, rtol=2**-8, atol=2**-8)  # one rounding to bfloat16


def test_one_row_takes_the_vector_product_and_no_other_does() -> None:
    made = layer()
    with torch.no_grad(), patch("torch.addmv", side_effect=torch.addmv) as product:
        made(torch.randn(1, 1, 96).to(BF16))
        assert product.call_count == 1
        made(torch.randn(1, 2, 96).to(BF16))
        made(torch.randn(0, 96).to(BF16))
        assert product.call_count == 1
    with patch("torch.addmv", side_effect=torch.addmv) as product:
        assert made(torch.randn(1, 96).to(BF16)).requires_grad  # training goes as ever
        with torch.no_grad():
            layer(dtype=torch.float32)(torch.randn(1, 96))
        assert product.call_count == 0


def test_a_model_keeps_its_weights_their_names_and_its_words() -> None:
    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(config).to(BF16).eval()
    names, prompt = list(model.state_dict()), torch.randint(0, 64, (1, 12))
    with torch.no_grad():
        before = model(prompt).logits
        by_row(model)
        full = model(prompt).logits
        cache = model(prompt[:, :-1], use_cache=True).past_key_values
        step = model(prompt[:, -1:], past_key_values=cache).logits
    assert list(model.state_dict()) == names
    assert torch.equal(full, before)
    torch.testing.assert_close(step[:, -1], before[:, -1], rtol=0.05, atol=0.02)
    assert model.lm_head.weight is model.get_input_embeddings().weight or not config.tie_word_embeddings


def test_what_is_more_than_a_linear_layer_is_left_alone() -> None:
    class Adapter(nn.Linear):
        pass

    model = nn.Sequential(Adapter(4, 4))
    by_row(model)
    assert type(model[0]) is Adapter
