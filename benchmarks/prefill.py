"""Prefill of a long prompt with patterns that read a share of it, against the stock model's dense prefill.

    python benchmarks/prefill.py [--hours 0.5] [--tokens 8192] [--models qwen] [--fresh]

A prompt with two 7-digit numbers and the question for one of them goes in at once; the stock model and every recipe take turns, in an order
that is turned around each time. Per run: processor seconds of one thread, the share of query-key blocks that was computed, the negative
log-likelihood of the answer and whether its tokens are the likeliest. Resumable: each row is kept as it comes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from _rows import ROWS, Rows, write
from _window_tables import cell, ratio_cell
from transformers import DynamicCache
from transformers.utils import logging as transformers_logging

from baywindow.recipe import parse
from baywindow.window import attach
from window import Loaded, folders, sample

RECIPES = (
    "vertical_slash(budget_fraction=0.12)",
    "vertical_slash(budget_fraction=0.06)",
    "hip",
    "hip(budget_tokens=384, dense_layers=0)",  # its defaults read all in three layers: more than the 15 % that were asked for
    "hip(budget_tokens=384, q_tokens=128, k_tokens=8, dense_layers=0)",
    "dhsa(budget_tokens=512)",
)
STOCK = "stock model"


@torch.no_grad()
def one(model: Any, recipe: str, request: dict[str, Any]) -> dict[str, Any]:
    """Context and question in one forward; the answer's tokens, known beforehand, in a second."""
    k = request["answer_tokens"]
    ids = torch.tensor([request["context"] + request["after"][:-k]])
    answer = torch.tensor([request["after"][-k:]])
    if recipe == STOCK:
        return measured(model, ids, answer, DynamicCache(config=model.config))
    with attach(model, recipe) as w:
        cache = w.cache()
        found = measured(model, ids, answer, cache)
        # A layer that reads everything by a part's own rule counts whole.
        whole = max((getattr(part, "dense_layers", 0) for part in parse(recipe).inside), default=0) / model.config.num_hidden_layers
        return {**found, "share": whole + (1 - whole) * cache.pairs[0] / max(1, cache.pairs[1])}


def measured(model: Any, ids: torch.Tensor, answer: torch.Tensor, cache: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    first = model(input_ids=ids, past_key_values=cache, logits_to_keep=1).logits[0].float()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rest = [model(input_ids=answer[:, i : i + 1], past_key_values=cache).logits[0].float() for i in range(answer.shape[1] - 1)]
    logp = torch.log_softmax(torch.cat([first, *rest]), dim=-1)
    nll = -float(logp.gather(1, answer[0, :, None]).mean())
    return {"nll": nll, "exact": bool((logp.argmax(dim=-1) == answer[0]).all()), "seconds": wall, "cpu": cpu, "tokens": ids.shape[1]}


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    path = ROWS / "prefill.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, key=lambda r: tuple(r.get(k) for k in ("model", "length", "sample", "method")))
    end = time.monotonic() + options.hours * 3600
    for name, folder in (folders(options.models.split(",")) if options.hours > 0 else {}).items():
        loaded = Loaded(folder, end)
        for i in range(1000):
            request = sample(i, loaded.tokenizer, options.tokens)
            for method in (STOCK, *RECIPES) if i % 2 == 0 else (*RECIPES[::-1], STOCK):
                key = {"model": name, "length": options.tokens, "sample": i, "method": method}
                if not rows.has(key) and not loaded.late():
                    rows.add({**key, **one(loaded.model, method, request)})
                    print(rows.rows[-1], flush=True)
            if loaded.late():
                break
    report(rows.rows, options.hours)


def report(found: list[dict[str, Any]], hours: float) -> None:
    """A Markdown table of each model and length: how many times as fast as the stock model, what was read, what became of the answers."""
    lines = []
    for name, length in sorted({(r["model"], r["length"]) for r in found}):
        mine = [r for r in found if (r["model"], r["length"]) == (name, length)]
        stock = {r["sample"]: r for r in mine if r["method"] == STOCK}
        lines += [f"## {name}, {length:,} tokens", "", "| method | processor s | times as fast | share of blocks | answer NLL | answers |"]
        lines.append("|---" * 6 + "|")
        for method in (STOCK, *RECIPES):
            of = [r for r in mine if r["method"] == method]
            faster = [stock[r["sample"]]["cpu"] / r["cpu"] for r in of if r["sample"] in stock]
            values = [cell([r["cpu"] for r in of], 1), ratio_cell(faster), cell([r.get("share", 1.0) for r in of], 3)]
            cells = [f"`{method}`", *values, cell([r["nll"] for r in of]), f"{sum(r['exact'] for r in of)} of {len(of)}"]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    write(
        "prefill",
        "Sparse prefill against dense prefill",
        "\n".join(lines),
        {"rows": found},
        f"python benchmarks/prefill.py --hours {hours:g}",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--models", default="qwen")
    parser.add_argument("--fresh", action="store_true")
    run(parser.parse_args())
