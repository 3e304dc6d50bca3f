"""Which prompts are answered in one batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from baywindow.models.transformers import batching


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """24 layers of 2 key/value heads of 64: 12,288 bytes a token in bfloat16. A quarter of 400 MB are for keys and values."""
    monkeypatch.setattr(batching, "free_bytes", lambda device: 400_000_000)
    config = SimpleNamespace(num_key_value_heads=2, num_attention_heads=14, head_dim=64, hidden_size=896, num_hidden_layers=24)
    config.get_text_config = lambda: config
    return SimpleNamespace(config=config, dtype=torch.bfloat16, device=torch.device("cpu"))


def test_prompts_of_like_length_go_together_whatever_is_written(model: Any) -> None:
    assert batching.batches([700, 1000, 690], 8, model) == [[1, 0], [2]]


def test_a_shorter_one_joins_where_the_reply_may_outweigh_the_padding(model: Any) -> None:
    assert batching.batches([300, 1000], 699, model) == [[1], [0]]
    assert batching.batches([300, 1000], 700, model) == [[1, 0]]
    assert batching.batches([300, 1000], 0, model) == [[1], [0]]


def test_no_more_rows_than_memory_holds(model: Any) -> None:
    assert batching.kv_bytes_per_token(model) == 12_288
    # 100 MB hold 8,138 tokens: three rows of 2,000 + 500, not four.
    assert [len(group) for group in batching.batches([2000] * 7, 500, model)] == [3, 3, 1]


def test_every_prompt_is_in_one_batch(model: Any) -> None:
    lengths = [5, 900, 40, 40, 1, 3000, 7, 300, 301, 2, 8, 9, 10, 11]
    groups = batching.batches(lengths, 64, model)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(len(group) <= 16 for group in groups)
