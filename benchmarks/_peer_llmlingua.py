"""LLMLingua 0.2.2 in an environment of its own: this file makes the environment, and runs inside it as a worker.

Worker: `python _peer_llmlingua.py MODEL_FOLDER DTYPE` reads one JSON request a line and answers with one JSON line. It imports nothing of
Baywindow. Two things are done for a package of 2024: the tiktoken file that its constructor fetches (only to report token counts) is
replaced by a stub, and `old_folder` writes a model's configuration and tokenizer in the words of the transformers of its day.
"""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path
from typing import Any

from _worker import Worker, made_environment

PINS = ("llmlingua==0.2.2", "transformers==4.40.2", "accelerate==0.30.1", "numpy<2")


class Peer(Worker):
    def __init__(self, python: Path, model: Path, dtype: str) -> None:
        super().__init__(python, __file__, model, dtype)


def environment(root: Path, torch_version: str) -> Path | str:
    """The Python of LLMLingua's environment under ``root``, made on first use; or one line saying why there is none."""
    return made_environment("LLMLingua", root / "llmlingua-0.2.2", PINS, torch_version)


def old_folder(model: Path, target: Path) -> Path:
    """The same weights (linked) under a configuration and a tokenizer that transformers 4.40 reads."""
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters", {})
    config |= {"rope_theta": rope.get("rope_theta", 10000.0), "torch_dtype": config.pop("dtype", "float32")}
    config.pop("layer_types", None)
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    merges = tokenizer["model"].get("merges", [])
    tokenizer["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
    (target / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    known = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    kept = {k: v for k, v in known.items() if k in ("bos_token", "eos_token", "pad_token", "unk_token", "model_max_length")}
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (target / "tokenizer_config.json").write_text(json.dumps(kept | fast), encoding="utf-8")
    for file in model.glob("*.safetensors"):
        link = target / file.name
        if not link.exists():
            link.symlink_to(file)
    return target


def worker(folder: str, dtype: str) -> None:
    import torch

    torch.set_num_threads(1)
    stub = types.ModuleType("tiktoken")
    stub.encoding_for_model = lambda name: types.SimpleNamespace(encode=lambda text: text.split())  # type: ignore[attr-defined]
    sys.modules["tiktoken"] = stub
    from llmlingua import PromptCompressor

    config = {"trust_remote_code": False, "torch_dtype": getattr(torch, dtype)}
    compressor = PromptCompressor(folder, device_map="cpu", model_config=config)
    for line in sys.stdin:
        try:
            answer = measure(compressor, json.loads(line))
        except Exception as error:  # the peer's failure is a result
            answer = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"}
        print(json.dumps(answer), flush=True)


def measure(compressor: Any, request: dict[str, Any]) -> dict[str, Any]:
    """One compression; ``long`` switches on what the README sets for LongLLMLingua, else it is plain LLMLingua."""
    if "probe" in request:
        return {"loss": compressor.get_ppl(request["probe"]).item()}
    options: dict[str, Any] = {}
    if request["long"]:
        options = {
            "condition_in_question": "after_condition",
            "reorder_context": "sort",
            "dynamic_context_compression_ratio": 0.3,
            "condition_compare": True,
            "context_budget": "+100",
            "rank_method": "longllmlingua",
        }
    wall, cpu = time.perf_counter(), time.process_time()
    made = compressor.compress_prompt(
        request["context"], question=request["question"], target_token=request["budget"], concate_question=False, **options
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"text": made["compressed_prompt"], "seconds": wall, "cpu": cpu}


if __name__ == "__main__":
    worker(*sys.argv[1:])
