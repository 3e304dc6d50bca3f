"""Memory is really freed, also when heads keep different numbers of tokens: by tensor bytes and by the process's resident memory.

Resident memory is measured in a fresh process for each recipe: what an earlier run gave back to the allocator would hide the difference.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
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


@torch.no_grad()
def measure(recipe: str, length: int, each_chunk: bool) -> dict[str, Any]:
    """How much this process grew by a prefill of ``length`` tokens, and what the cache says it holds."""
    torch.set_num_threads(1)
    ids = torch.randint(3, 64, (1, length), generator=torch.Generator().manual_seed(length))
    with attach(broad(), recipe) as w:
        w.prefill(ids[:, :64])  # what is allocated once
        before = resident()
        cache = w.prefill(ids, chunk_tokens=1024, each_chunk=each_chunk)
        grew = resident() - before
        counts = torch.stack(cache.held())
    return {"grew": grew, "tensors": cache.nbytes(), "least": int(counts.min()), "most": int(counts.max()), "all": int(counts.sum())}


def in_a_fresh_process(recipe: str, length: int, *, each_chunk: bool) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, recipe, str(length), str(int(each_chunk))], check=True, capture_output=True, text=True, timeout=1200
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute or two on an idle core
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="resident memory is read from /proc (Linux)")
@pytest.mark.parametrize("length", [8192, 10240])
def test_a_ragged_cache_frees_what_it_drops(length: int) -> None:
    stock = in_a_fresh_process("stock", length, each_chunk=False)
    assert stock["tensors"] >= length * TOKEN_BYTES
    for budget in (512, 2048):
        ours = in_a_fresh_process(f"ada_kv + snapkv(budget_tokens={budget})", length, each_chunk=True)
        assert ours["least"] < budget < ours["most"]  # heads differ
        assert ours["all"] == budget * 2 * 16
        assert ours["tensors"] <= 1.02 * budget * TOKEN_BYTES + ours["all"] * 8  # positions, and nothing of the dropped tokens
        assert stock["tensors"] - ours["tensors"] >= 100 * MIB
        assert stock["grew"] - ours["grew"] >= 100 * MIB, (stock, ours)


@torch.no_grad()
def test_ragged_heads_hold_only_their_own_tokens() -> None:
    """The same at 300 tokens, by storage."""
    ids = torch.randint(3, 64, (2, 300), generator=torch.Generator().manual_seed(1))
    with attach(broad(), "ada_kv + snapkv(budget_tokens=64, window_tokens=8)") as w:
        cache = w.prefill(ids)
    for store in cache.stores:
        held = store.held()
        assert int(held.min()) < int(held.max())
        keys = sum(s.tensors()["keys"].untyped_storage().nbytes() for s in store.segments) + store.tail.keys.untyped_storage().nbytes()
        assert keys == int(held.sum()) * 128 * 4


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")) + "\n")
