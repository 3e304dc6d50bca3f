"""How the next token is chosen."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

import torch

from baywindow.errors import ConfigError
from baywindow.models.base import Sampling
from baywindow.models.transformers.choosing import Chooser, nucleus

LOGITS = torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]])


def test_without_temperature_the_most_likely_is_chosen():
    assert Chooser(Sampling(), 2)(LOGITS) == [2, 0]


def test_nucleus_worked_example():
    # 0.5 + 0.3 reaches 0.7, so the third goes; a tie with the border keeps what is needed to reach it.
    kept = nucleus(torch.tensor([[0.2, 0.5, 0.3]]), 0.7)
    assert kept.tolist() == [[0.0, 0.5, pytest.approx(0.3)]]
    assert nucleus(torch.tensor([[0.2, 0.5, 0.3]]), 0.5).count_nonzero() == 1
    assert torch.equal(nucleus(LOGITS, 1.0), LOGITS)


def test_the_same_seed_gives_the_same_draws_alone_and_in_a_batch():
    sampling = Sampling(temperature=1.0, seed=7)
    row = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    alone, batch = Chooser(sampling, 1), Chooser(sampling, 3)
    draws = [alone(row)[0] for _ in range(8)]
    assert [batch(row.repeat(3, 1)) for _ in range(8)] == [[d] * 3 for d in draws]
    other = Chooser(Sampling(temperature=1.0, seed=8), 1)
    assert [other(row)[0] for _ in range(8)] != draws


def test_draws_follow_the_probabilities():
    chooser = Chooser(Sampling(temperature=1.0, seed=1), 1)
    row = torch.log(torch.tensor([[0.75, 0.25]]))
    share = sum(chooser(row)[0] == 0 for _ in range(2000)) / 2000
    assert share == pytest.approx(0.75, abs=0.04)  # four standard errors


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_values_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Chooser(Sampling(**bad), 1)
