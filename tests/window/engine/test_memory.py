"""Memory is really freed, also when heads keep different numbers of tokens: by tensor bytes and by the process's resident memory."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from baywindow.window import attach

MIB = 2**20
TOKEN_BYTES = 2 * 2 * 16 * 128 * 4  # keys and values, layers, heads, dimension, float32


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.fixture(scope="module")
def broad() -> Any:
    """Few weights, large keys: 32 KiB a token."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=16, num_key_value_heads=16,
        head_dim=128, max_position_embeddings=16384, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(8.0)
    return model


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute on an idle core
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="resident memory is read from /proc (Linux)")
@pytest.mark.parametrize("length", [8192, 9216])
@torch.no_grad()
def test_a_ragged_cache_frees_what_it_drops(broad: Any, length: int) -> None:
    ids = torch.randint(3, 64, (1, length), generator=torch.Generator().manual_seed(length))
    with attach(broad) as w:
        w.prefill(ids[:, :64])  # warm up what is allocated once
        before = resident()
        stock = w.prefill(ids, chunk_tokens=1024)
        stock_grew, stock_bytes = resident() - before, stock.nbytes()
        del stock
    assert stock_bytes >= length * TOKEN_BYTES
    for budget in (512, 2048):
        with attach(broad, f"ada_kv + snapkv(budget_tokens={budget})") as w:
            before = resident()
            cache = w.prefill(ids, chunk_tokens=1024, each_chunk=(length, budget) != (8192, 2048))
            grew, held = resident() - before, cache.held()
        counts = torch.stack(held)
        assert int(counts.min()) < budget < int(counts.max())  # heads differ
        assert int(counts.sum()) == budget * 2 * 16
        tensors = cache.nbytes()
        assert tensors <= 1.02 * budget * TOKEN_BYTES + counts.sum() * 8  # positions, and nothing of the dropped tokens
        assert stock_bytes - tensors >= 100 * MIB
        assert stock_grew - grew >= 100 * MIB, (stock_grew / MIB, grew / MIB)
        del cache


@torch.no_grad()
def test_ragged_heads_hold_only_their_own_tokens(broad: Any) -> None:
    """The same at 300 tokens, by storage."""
    ids = torch.randint(3, 64, (2, 300), generator=torch.Generator().manual_seed(1))
    with attach(broad, "ada_kv + snapkv(budget_tokens=64, window_tokens=8)") as w:
        cache = w.prefill(ids)
    for store in cache.stores:
        held = store.held()
        assert int(held.min()) < int(held.max())
        keys = sum(s.tensors()["keys"].untyped_storage().nbytes() for s in store.segments) + store.tail.keys.untyped_storage().nbytes()
        assert keys == int(held.sum()) * 128 * 4
