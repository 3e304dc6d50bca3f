"""A second question about one long context: all keys, or those that `squeezed_attention` looks up.

    python benchmarks/second_question.py [--hours 0.4] [--tokens 8192] [--samples 5] [--fresh]

The context (natural text with two 7-digit numbers) is read once by the stock model and its last 128 tokens once for each recipe; all of
these recipes attend to everything while a prompt is read. A first question is asked of a copy, then the second one, which is timed: its
tokens in one forward, then the answer's, known beforehand, one by one. Recipes take turns, in an order that is turned around each time.
Processor seconds of one thread; the answer's negative log-likelihood, and whether its tokens are the likeliest. Resumable: rows are kept
as they come, and so are the keys and values of a context until its rows are there. Needs the converted Qwen2.5-Coder-0.5B.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from _report import table
from _rows import ROWS, Rows, shown, write
from decode import STOCK, filled
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging as transformers_logging

from baywindow.window import attach
from window import folders, sample

THIRD = "squeezed_attention(budget_fraction=0.33)"
RECIPES = ("stock", THIRD, "squeezed_attention(budget_fraction=0.33, levels=2)")
ROUNDS = 3  # timings of one sample, taken in turns
LAST, PIECE = 128, 1024  # tokens read by each recipe for itself; tokens of one forward


@torch.no_grad()
def asked(model: Any, cache: Any, request: dict[str, Any]) -> dict[str, Any]:
    """One question of a copy of what was read."""
    mine, k = copy.deepcopy(cache), request["answer_tokens"]
    ids, answer = torch.tensor([request["after"][:-k]]), torch.tensor([request["after"][-k:]])
    before = time.process_time()
    logits = [model(input_ids=ids, past_key_values=mine, logits_to_keep=1).logits[0]]
    logits += [model(input_ids=answer[:, i : i + 1], past_key_values=mine).logits[0] for i in range(k - 1)]
    cpu = time.process_time() - before
    logp = torch.log_softmax(torch.cat(logits).float(), dim=-1)
    nll = -float(logp.gather(1, answer[0, :, None]).mean())
    return {"cpu": cpu, "nll": nll, "exact": bool((logp.argmax(dim=-1) == answer[0]).all())}


@torch.no_grad()
def read(model: Any, ids: torch.Tensor, kept: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of every layer for all but the last tokens, by the stock model; ``kept`` in a file once they are read."""
    if not kept.exists():
        cache = DynamicCache(config=model.config)
        for piece in torch.split(ids[:, :-LAST], PIECE, dim=1):
            model.model(input_ids=piece, past_key_values=cache)
        tensors = {f"{name}{i}": getattr(layer, name) for i, layer in enumerate(cache.layers) for name in ("keys", "values")}
        save_file({name: t.contiguous() for name, t in tensors.items()}, kept)
    found = load_file(kept)
    return [(found[f"keys{i}"], found[f"values{i}"]) for i in range(len(found) // 2)]


def measured(models: dict[str, tuple[Any, Any]], request: dict[str, Any], base: dict[str, Any], kept: Path) -> list[dict[str, Any]]:
    """One sample through all recipes; the first question of each is not timed."""
    ids, caches = torch.tensor([request["context"]]), {}
    prompt = read(models[STOCK][0], ids, kept)
    for recipe in RECIPES:
        model, w = models[recipe]
        with torch.no_grad():
            caches[recipe] = filled(w, prompt, ids[:, -LAST:])
        asked(model, caches[recipe], request)
    found: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in RECIPES}
    for turn in range(ROUNDS):
        for recipe in RECIPES if turn % 2 else RECIPES[::-1]:
            found[recipe].append(asked(models[recipe][0], caches[recipe], request))
    kept.unlink()
    return [{**base, "recipe": r, **ones[0], "cpu": statistics.median(o["cpu"] for o in ones)} for r, ones in found.items()]


def opened() -> tuple[dict[str, tuple[Any, Any]], Any]:
    """The model with each recipe in place (its weights are mapped from one file, so all share them), and the tokenizer."""
    if not (found := folders(["qwen"])):
        raise SystemExit(1)
    made: dict[str, tuple[Any, Any]] = {STOCK: (AutoModelForCausalLM.from_pretrained(found["qwen"], dtype="bfloat16").eval(), None)}
    for recipe in RECIPES:
        model = AutoModelForCausalLM.from_pretrained(found["qwen"], dtype="bfloat16").eval()
        made[recipe] = (model, attach(model, recipe))
    return made, AutoTokenizer.from_pretrained(found["qwen"])


def report(rows: Rows, command: str) -> None:
    lines, data = [], {}
    full = {r["sample"]: r for r in rows.rows if r["recipe"] == RECIPES[0]}
    for recipe in RECIPES:
        mine = [r for r in rows.rows if r["recipe"] == recipe and r["sample"] in full]
        if not mine:
            continue
        ratio = [r["cpu"] / full[r["sample"]]["cpu"] for r in mine]
        cells = [shown(ratio), shown([r["nll"] for r in mine]), shown([float(r["exact"]) for r in mine])]
        same = sum(r["exact"] == full[r["sample"]]["exact"] for r in mine)
        lines.append([f"`{recipe}`", *cells, f"{same} of {len(mine)}"])
        data[recipe] = cells
    head = ["recipe", "processor time ÷ all keys", "answer NLL", "answer's tokens likeliest", "as with all keys"]
    write("second_question", "A second question about one long context", table(head, lines), {"cells": data}, command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.4, help="no new sample is begun after this time")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    path = ROWS / f"second-question-{options.tokens}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, key=lambda r: (r["sample"], r["recipe"]))
    end = time.monotonic() + options.hours * 3600
    models: dict[str, tuple[Any, Any]] = {}
    for i in range(options.samples):
        if rows.has({"sample": i, "recipe": RECIPES[0]}) or time.monotonic() > end:
            continue
        if not models:
            models, tokenizer = opened()
        base, kept = {"sample": i, "tokens": options.tokens}, path.with_suffix(f".{i}")
        for row in measured(models, sample(i, tokenizer, options.tokens), base, kept):
            rows.add(row)
            print(row, flush=True)
    report(rows, f"python benchmarks/second_question.py --tokens {options.tokens} --hours {options.hours:g}")


if __name__ == "__main__":
    main()
