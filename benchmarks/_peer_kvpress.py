"""kvpress in an environment of its own: this file makes the environment, and runs inside it as a worker.

Worker: `python _peer_kvpress.py MODEL_FOLDER DTYPE` reads one JSON request a line and answers with one JSON line. It imports nothing
of Baywindow, so that it can run beside another version of transformers.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from _worker import Worker, made_environment

PINS = ("kvpress==0.5.5", "transformers==5.2.0")  # 0.5.5 refuses transformers 5.3 and later


class Peer(Worker):
    def __init__(self, python: Path, model: Path, dtype: str) -> None:
        super().__init__(python, __file__, model, dtype)


def environment(root: Path, torch_version: str) -> Path | str:
    """The Python of kvpress's environment under ``root``, made on first use; or one line saying why there is none."""
    return made_environment("kvpress", root / "kvpress-0.5.5", PINS, torch_version)


def worker(folder: str, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with torch.no_grad():
                answer = measure(model, request)
        except Exception as error:  # the peer's failure is a result
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"}
        for layer in model.model.layers:
            layer.self_attn.masked_key_indices = None
        print(json.dumps(answer), flush=True)


def press_of(method: str, evicted: float) -> Any:
    import kvpress

    if method == "full":
        return None
    if method == "random":
        return kvpress.RandomPress(compression_ratio=evicted)
    if method == "snapkv":
        return kvpress.SnapKVPress(compression_ratio=evicted, window_size=32, kernel_size=5)
    if method == "expected_attention":
        return kvpress.ExpectedAttentionPress(compression_ratio=evicted, epsilon=1e-2)
    if method == "kvzip":
        return kvpress.KVzipPress(compression_ratio=evicted)
    raise ValueError(method)


def measure(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Prefill and compress the context, then one forward over question and answer."""
    import contextlib

    import torch
    from transformers import DynamicCache

    context, after = (torch.tensor([request[name]]) for name in ("context", "after"))
    press = press_of(request["method"], 1 - request["kept"])
    cache = DynamicCache()
    wall, cpu = time.perf_counter(), time.process_time()
    with press(model) if press is not None else contextlib.nullcontext():
        model.model(input_ids=context, past_key_values=cache)
    nbytes = sum(t.untyped_storage().nbytes() for layer in cache.layers for t in (layer.keys, layer.values))
    n = context.shape[1]
    positions = torch.arange(n, n + after.shape[1])[None]
    logits = model(input_ids=after, past_key_values=cache, position_ids=positions).logits[0].float()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    k = request["answer_tokens"]
    target = after[0, -k:]
    logp = torch.log_softmax(logits[-k - 1 : -1], dim=-1)
    return {
        "nll": -float(logp.gather(1, target[:, None]).mean()),
        "exact": bool((logp.argmax(dim=-1) == target).all()),
        "nbytes": nbytes,
        "seconds": wall,
        "cpu": cpu,
    }


if __name__ == "__main__":
    worker(*sys.argv[1:])
