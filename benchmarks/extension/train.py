"""Train the test-bed's model: a small Llama with a window of 256 tokens. ``python -m benchmarks.extension.train``

Three layers of width 128, four query heads of 32 on two key-value heads, RoPE base 10,000, one word a token. Texts grow from 64 to
256 tokens while training (retrieval heads form far sooner on short texts); positions always start at 0, so that nothing beyond 255
is ever seen. Everything is drawn from the step number and one seed. Training can be stopped and resumed: weights and optimiser
state are kept as safetensors in ``--work``; the finished model goes to ``benchmarks/extension/model`` in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.extension import text
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
SEED = 7
WINDOW = 256
# (share of all steps, tokens a text, texts a batch, facts that wait for their question at a time)
STAGES = ((0.10, 64, 48, 6), (0.20, 96, 32, 12), (0.25, 160, 20, 24), (0.45, WINDOW, 12, 24))
PEAK, WARM_STEPS = {"muon": 5e-3, "adam": 2e-3}, 40
WEIGHTS = (0.05, 0.3, 1.0)  # in the loss: tokens that cannot be foretold, filler, answers


def config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(text.WORDS),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=text.BOS,
        eos_token_id=text.STOP,
        pad_token_id=text.ID["<pad>"],
        initializer_range=0.05,  # at transformers' 0.02 retrieval heads of this width form late
    )


def stage(step: int, steps: int) -> tuple[int, int, int]:
    """(tokens a text, texts a batch, waiting facts) at this step. A tenth of later batches come from earlier stages."""
    done, here = step / steps, 0
    for i, (share, *_) in enumerate(STAGES):
        here = i
        if done < share:
            break
        done -= share
    if here and step % 10 == 0:
        here = (step // 10) % here
    return STAGES[here][1:]


def batch(step: int, steps: int) -> tuple[Tensor, Tensor]:
    """Ids and kinds of one step, both (text, token)."""
    length, count, rivals = stage(step, steps)
    rng = np.random.default_rng((SEED, step))
    made = [text.training_text(rng, length, rivals) for _ in range(count)]
    return torch.from_numpy(np.stack([m[0] for m in made])), torch.from_numpy(np.stack([m[1] for m in made]))


def rate(step: int, steps: int) -> float:
    """Learning rate as a share of its peak: linear warm-up, level to half of the steps, then linearly down to a hundredth."""
    return min(1.0, (step + 1) / WARM_STEPS, max(0.01, 2 * (1 - step / steps)))


def optimisers(model: LlamaForCausalLM) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices, Adam for embedding and norms: retrieval heads form in a fraction of the steps Adam alone takes."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    held = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in held]
    return {
        "muon": torch.optim.Muon(matrices, lr=PEAK["muon"], weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        "adam": torch.optim.AdamW(others, lr=PEAK["adam"], betas=(0.9, 0.98), weight_decay=0.0),
    }


def loss_of(model: LlamaForCausalLM, ids: Tensor, kinds: Tensor) -> tuple[Tensor, float, float]:
    """Weighted loss, and over answers alone the mean loss (nats) and the accuracy."""
    logits = model(input_ids=ids[:, :-1]).logits
    targets, kinds = ids[:, 1:], kinds[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    weights = torch.tensor(WEIGHTS)[kinds]
    answers = kinds == text.ANSWER
    right = (logits.argmax(-1) == targets)[answers].float().mean().item()
    return (losses * weights).sum() / weights.sum(), losses[answers].mean().item(), right


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, length: int, task: text.Task, count: int = 100) -> tuple[float, float]:
    """Exact match of whole answers (teacher-forced) and their mean loss per token in nats, on ``count`` fresh questions."""
    rng = np.random.default_rng((SEED + 1, length, len(task)))
    right, loss = 0, 0.0
    for _ in range(count):
        q = text.question(rng, length, task)
        logits = model(input_ids=torch.from_numpy(q.ids)[None, :-1]).logits[0, q.start - 1 :].log_softmax(-1)
        gold = torch.from_numpy(q.answer)
        right += bool((logits.argmax(-1) == gold).all())
        loss -= logits.gather(1, gold[:, None]).mean().item()
    return right / count, loss / count


def save_state(folder: Path, model: LlamaForCausalLM, optims: dict[str, torch.optim.Optimizer], meta: dict[str, Any]) -> None:
    """Weights, optimiser state and the place reached, replaced in one move so that a stop never leaves half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weight.{n}": p.detach().clone() for n, p in model.named_parameters()}
    for n, p in model.named_parameters():
        for kind, optim in optims.items():
            tensors |= {f"{kind}.{key}.{n}": value.clone() for key, value in optim.state.get(p, {}).items() if isinstance(value, Tensor)}
    save_file(tensors, folder / "state.tmp", metadata={"meta": json.dumps(meta)})
    (folder / "state.tmp").replace(folder / "state.safetensors")


def load_state(folder: Path, model: LlamaForCausalLM, optims: dict[str, torch.optim.Optimizer]) -> dict[str, Any]:
    path = folder / "state.safetensors"
    if not path.exists():
        return {"step": 0, "seconds": 0.0, "log": []}
    with safe_open(path, "pt") as opened:
        meta: dict[str, Any] = json.loads(opened.metadata()["meta"])
    named = dict(model.named_parameters())
    for name, tensor in load_file(path).items():
        kind, _, rest = name.partition(".")
        if kind == "weight":
            named[rest].data.copy_(tensor)
        else:
            key, _, n = rest.partition(".")
            optims[kind].state[named[n]][key] = tensor
    return meta


def train(steps: int, minutes: float, work: Path) -> bool:
    """Train to ``steps`` or for ``minutes`` of processor time in all (the machine may be shared); True once finished."""
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config())
    optims = optimisers(model)
    meta = load_state(work, model, optims)
    last = time.process_time()
    while meta["step"] < steps:
        step = meta["step"]
        ids, kinds = batch(step, steps)
        loss, answer_loss, right = loss_of(model, ids, kinds)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for kind, optim in optims.items():
            for group in optim.param_groups:
                group["lr"] = PEAK[kind] * rate(step, steps)
            optim.step()
            optim.zero_grad()
        now = time.process_time()
        meta["seconds"], last, meta["step"] = meta["seconds"] + now - last, now, step + 1
        if meta["step"] % 50 == 0 or meta["step"] == steps:
            row = {"step": meta["step"], "tokens": ids.shape[1], "loss": round(loss.item(), 4), "answer_loss": round(answer_loss, 4)}
            meta["log"].append(row | {"answer_accuracy": round(right, 4), "seconds": round(meta["seconds"])})
            print(json.dumps(meta["log"][-1]), flush=True)
        if meta["step"] % 250 == 0 or meta["step"] == steps:
            save_state(work, model, optims, meta)
        if meta["seconds"] > minutes * 60 and meta["step"] < steps:
            save_state(work, model, optims, meta)
            print(f"stopped after {minutes} minutes at step {meta['step']} of {steps}; run again to go on")
            return False
    finish(model, meta)
    return True


def finish(model: LlamaForCausalLM, meta: dict[str, Any]) -> None:
    """Write the model in bfloat16 and, for what was written, the accuracy within and beyond the window."""
    folder = HERE / "model"
    model.to(torch.bfloat16).save_pretrained(folder)
    text.save_tokenizer(folder)
    print(json.dumps(meta["log"][-1:]))
    kept = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    table = []
    for task in ("kv", "copy"):
        for length in (WINDOW // 2, WINDOW, 2 * WINDOW, 4 * WINDOW):
            right, loss = accuracy(kept, length, task)
            table.append({"task": task, "tokens": length, "accuracy": right, "loss": round(loss, 4), "n": 100})
            print(json.dumps(table[-1]), flush=True)
    record = {"seed": SEED, "steps": meta["step"], "seconds": round(meta["seconds"]), "log": meta["log"], "accuracy": table}
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="train the length-extension test-bed's model")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--minutes", type=float, default=40.0, help="limit of processor time over all runs together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("build/extension"), help="where the resumable state is kept")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    raise SystemExit(0 if train(args.steps, args.minutes, args.work) else 3)


if __name__ == "__main__":
    main()
