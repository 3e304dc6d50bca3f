"""Decoding with caches that recall or merge, against full attention: the attention part of a step, and the whole step.

    python benchmarks/decode.py [--hours 0.3] [--tokens 8192,32768] [--recipes "stock;clusterkv(budget_tokens=1024)"] [--fresh]

The model is Qwen2.5-Coder-0.5B where it was converted. Seeded random keys and values stand in for the prompt: what a step costs does
not depend on what they say. "stock" is the seam with folded query heads and full attention; "stock model" is transformers without
the seam; "stock model, one token" holds one token, so the rest of the model is what it costs: with its linear layers no cache can be
faster. "as loaded" is the model as Baywindow loads it (models/transformers/one_row.py) with transformers' own cache; the rows with a
recipe stand on that. All take turns step by step; times are processor milliseconds of one thread. The attention part is all that happens
behind the seam: storing, choosing, gathering, attending, settling. Resumable: rows are kept as they come.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _rows import ROWS, Rows, write
from _window_tables import ratio_cell
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from baywindow.models import gguf
from baywindow.models.transformers.one_row import by_row
from baywindow.window import attach
from baywindow.window.engine import driver

NAME = "qwen2.5-coder-0.5b-instruct-q4_k_m"
STOCK, FLOOR, LOADED = "stock model", "stock model, one token", "as loaded"
RECIPES = f"{STOCK};{FLOOR};{LOADED};stock;clusterkv(budget_tokens=1024);chelsea(budget_tokens=1024)"
STEPS = 8  # a row


def random_prompt(model: Any, tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values [1, H, tokens, D] of every layer, the same in every run."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (1, config.num_key_value_heads, tokens, dim)
    return [tuple(torch.randn(shape, generator=generator).to(model.dtype) for _ in range(2)) for _ in range(config.num_hidden_layers)]


def filled(w: Any, prompt: list[tuple[torch.Tensor, torch.Tensor]], last: torch.Tensor | None = None) -> Any:
    """A cache that holds the prompt's keys and values as if it had just been read and closed; its ``last`` tokens [1, n] go through the
    model, so that policies see queries, act and learn as they would."""
    cache, tokens = w.cache(), prompt[0][0].shape[2]
    for store, (keys, values) in zip(cache.stores, prompt, strict=True):
        store.append(keys, values, torch.arange(tokens)[None], (0,), padded=False)
        store.is_initialized = True
    cache.row_tokens = torch.tensor([tokens])
    driver.prefill(w, cache, torch.arange(1, 129)[None] if last is None else last)
    return cache


def ways(folder: Any, recipes: list[str], tokens: int) -> dict[str, tuple[Any, Any]]:
    """A model with a filled cache for each recipe. Weights are mapped from one file, so all share them."""
    made: dict[str, tuple[Any, Any]] = {}
    for recipe in recipes:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16").eval()
        prompt = random_prompt(model, tokens)
        if recipe not in (STOCK, FLOOR):
            by_row(model)
        if recipe in (STOCK, FLOOR, LOADED):
            cache = DynamicCache(config=model.config)
            for i, (keys, values) in enumerate(prompt):
                held = 1 if recipe == FLOOR else tokens
                cache.update(keys[:, :, :held], values[:, :, :held], i)
        else:
            w = attach(model, recipe)
            cache = filled(w, prompt)
            ALL_ATTENTION_FUNCTIONS.register(w.name, timed(w._attention))
        made[recipe] = (model, cache)
    return made


SPENT = [0.0]  # processor seconds behind the seam so far


def timed(attention: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        out = attention(*args, **kwargs)
        SPENT[0] += time.process_time() - start
        return out

    return call


def step(model: Any, cache: Any) -> dict[str, float]:
    """Processor seconds of one step, and of its part behind the seam."""
    before, start = SPENT[0], time.process_time()
    model(torch.tensor([[7]]), past_key_values=cache, logits_to_keep=1)
    return {"whole": time.process_time() - start, "attention": SPENT[0] - before}


def report(rows: Rows, hours: float) -> None:
    head = ("tokens", "recipe", "whole step, ms", "× stock model", "attention part, ms", "× stock's", "rows")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for tokens in sorted({r["tokens"] for r in rows.rows}):
        of = {(r["recipe"], r["sample"]): r for r in rows.rows if r["tokens"] == tokens}
        for recipe in dict.fromkeys(recipe for recipe, _ in of):
            mine = {i: r for (name, i), r in of.items() if name == recipe}
            faster = [of[STOCK, i]["whole"] / r["whole"] for i, r in mine.items() if (STOCK, i) in of]
            parts = [of["stock", i]["attention"] / r["attention"] for i, r in mine.items() if ("stock", i) in of and r["attention"]]
            ms = [statistics.median(r[k] for r in mine.values()) * 1e3 for k in ("whole", "attention")]
            cells = [f"{ms[0]:.1f}", ratio_cell(faster), f"{ms[1]:.1f}" if ms[1] else "–", ratio_cell(parts) if parts else "–"]
            lines.append(f"| {tokens} | `{recipe}` | " + " | ".join(cells) + f" | {len(mine)} |")
    body = "Medians of rows; each row is the median of its steps. Ratios are of rows that took turns.\n\n" + "\n".join(lines)
    write("decode", "Decoding with recalled and merged caches", body, {"rows": rows.rows}, f"python benchmarks/decode.py --hours {hours:g}")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.3, help="stop after this time and report what there is (0: only report)")
    parser.add_argument("--tokens", default="8192,32768")
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--rows", type=int, default=8, help="rows for each recipe and length")
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = ROWS / "decode.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, key=lambda r: (r["tokens"], r["recipe"], r["sample"]))
    end = time.monotonic() + options.hours * 3600
    folder = next((f for f, manifest in gguf.all_converted() if manifest.get("name") == NAME), None)
    if folder is None and options.hours > 0:
        raise SystemExit(f"no converted {NAME}: `bay ask --model` converts it")
    for tokens in map(int, options.tokens.split(",")):
        recipes = [r.strip() for r in options.recipes.split(";")]
        wanted = [i for i in range(options.rows) if not all(rows.has({"tokens": tokens, "recipe": r, "sample": i}) for r in recipes)]
        if not wanted or time.monotonic() > end:
            continue
        models = ways(folder, recipes, tokens)
        for i in wanted:
            if time.monotonic() > end:
                break
            found: dict[str, list[dict[str, float]]] = {r: [] for r in recipes}
            for s in range(STEPS):
                for recipe in recipes if (i + s) % 2 else recipes[::-1]:
                    found[recipe].append(step(*models[recipe]))
            for recipe, steps in found.items():
                medians = {k: statistics.median(x[k] for x in steps) for k in ("whole", "attention")}
                rows.add({"tokens": tokens, "recipe": recipe, "sample": i, **medians})
    report(rows, options.hours)


if __name__ == "__main__":
    main()
