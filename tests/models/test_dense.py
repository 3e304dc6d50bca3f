"""The packed layer gives what the plain one gives, and steps back where it cannot."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from baywindow.models.transformers import dense  # noqa: E402
from baywindow.models.transformers.dense import Dense  # noqa: E402


def made(tokens: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(tokens, 24).to(dtype), torch.randn(40, 24).to(dtype), torch.randn(40).to(dtype)


@pytest.mark.parametrize("tokens", [1, 2, 16, 300])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_product_and_its_gelu_are_those_of_the_formula(tokens: int, dtype: torch.dtype) -> None:
    """Oracle: the sums and the error function in float64, off by at most the rounding of the result."""
    x, weight, bias = made(tokens, dtype)
    exact = x.double() @ weight.double().T + bias.double()
    gelu = exact * (1 + torch.erf(exact / math.sqrt(2))) / 2
    layer = Dense(weight, bias)
    step = 2**-7 if dtype == torch.bfloat16 else 2**-18  # plain: the product is rounded, then its GELU
    for found, expected in ((layer(x), exact), (layer.gelu(x), gelu)):
        assert (found.shape, found.dtype) == ((tokens, 40), dtype)
        torch.testing.assert_close(found.double(), expected, rtol=step, atol=step)


def test_where_packing_is_refused_it_computes_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = made(5, torch.bfloat16)
    monkeypatch.setattr(dense, "packed", lambda weight: None)
    plain = Dense(weight, bias)
    assert torch.equal(plain(x), torch.nn.functional.linear(x, weight, bias))
    assert torch.equal(plain.gelu(x), torch.nn.functional.gelu(torch.nn.functional.linear(x, weight, bias)))


def test_only_bfloat16_on_a_cpu_with_onednn_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = made(1, torch.bfloat16)[1]
    assert dense.packed(weight.float()) is None
    assert dense.packed(weight.to("meta")) is None
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert dense.packed(weight) is None


def test_weights_are_held_once() -> None:
    weight = made(1, torch.bfloat16)[1]
    layer = Dense(weight, made(1, torch.bfloat16)[2])
    assert (layer._packed is None) == (layer._weight.numel() == weight.numel())
