"""Most of the cache gone before the question is known: answers, bytes really held and time, here and in kvpress.

    python benchmarks/evicted.py [--hours 1] [--samples 100] [--first 0] [--only a,b] [--fresh]

Two 7-digit numbers stand in some 420 tokens of natural text (the samples of ``window.py``: Python's own documentation); the context is
read and compressed alone, then one number is asked for. Judged by the mean NLL of the answer and whether every token of it is the
likeliest (teacher-forced). Float32, as the goals were stated. Bytes are those held when the answer has been given, the question's keys
included; for kvpress, whose cache keeps them as they are, its bytes behind the context and the question's keys.

Goal 75 %: an NLL no worse than kvpress's expected attention at a quarter, which frees bytes, holding at most 3.9 MiB of 12.87.
Goal 90 %: an NLL below that of kvpress's KVzip at a tenth (which masks and holds everything), holding at most 2.2 MiB, with less than
twice the prefill of the stock model. Compared in pairs, on the same prompts, one after the other.

Settings were chosen on samples from 90,000 on (``--first 90000``) and are measured on those from 0 on. Resumable: each row is kept.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from _report import interval, table
from _rows import ROWS, Rows, write
from _window_tables import cell, ratio_cell, reached
from transformers.utils import logging as transformers_logging

from baywindow.errors import BayError
from baywindow.window import attach
from window import CONTEXT_TOKENS, FILES, Loaded, folders, sample

DTYPE = "float32"
CHOOSING = 90_000  # samples from here on are for choosing settings: printed, never written as results
MODEL = "qwen"
MIB = 2**20
FULL = "full"
HERE = {
    FULL: "stock",
    "goal 75 %": "expected_attention(budget_fraction=0.7) + kivi(bits=8, residual_tokens=0)",
    "goal 90 %": "expected_attention(budget_fraction=0.5) + kivi(bits=4, residual_tokens=0)",
    "expected_attention, a quarter": "expected_attention(budget_fraction=0.25)",
    "kvzip, a tenth": "kvzip(budget_fraction=0.1)",
    "kvzip, a quarter, packed": "kvzip(budget_fraction=0.25) + kivi(bits=4, residual_tokens=0)",
    "random, a quarter": "random(budget_fraction=0.25)",
}
TRIED = {  # while settings were chosen
    "ea 0.75, 4 bits": "expected_attention(budget_fraction=0.75) + kivi(bits=4, residual_tokens=0)",
    "ea 0.6, 4 bits": "expected_attention(budget_fraction=0.6) + kivi(bits=4, residual_tokens=0)",
    "ea 0.4, 4 bits": "expected_attention(budget_fraction=0.4) + kivi(bits=4, residual_tokens=0)",
    "ea 0.5, 4 bits, groups of 16": "expected_attention(budget_fraction=0.5) + kivi(bits=4, group_tokens=16, residual_tokens=0)",
    "all, 2 bits": "kivi(bits=2, residual_tokens=0)",
    "all, 4 bits": "kivi(bits=4, residual_tokens=0)",
}
THERE = {"expected_attention, a quarter": ("expected_attention", 0.25), "kvzip, a tenth": ("kvzip", 0.1)}
GOALS = {"goal 75 %": ("expected_attention, a quarter", 3.9, None), "goal 90 %": ("kvzip, a tenth", 2.2, 2.0)}  # rival, MiB, × prefill


JUDGED = ("goal", "NLL, here − rival's", "no worse", "exact, here − rival's", "MiB held", "within", "prefill ÷ stock's", "within")


@torch.no_grad()
def ours(loaded: Loaded, request: dict[str, Any], recipe: str) -> dict[str, Any]:
    context, after = (torch.tensor([request[name]]) for name in ("context", "after"))
    with attach(loaded.model, recipe, tokenizer=loaded.tokenizer) as w:
        cache = w.cache()
        start = time.process_time()
        loaded.model.model(input_ids=context, past_key_values=cache)
        cache.close()
        prefill = time.process_time() - start
        logits = loaded.model(input_ids=after, past_key_values=cache).logits[0].float()
        nbytes = cache.nbytes()
    k = request["answer_tokens"]
    logp, target = torch.log_softmax(logits[-k - 1 : -1], dim=-1), after[0, -k:]
    exact = bool((logp.argmax(dim=-1) == target).all())
    return {"nll": -float(logp.gather(1, target[:, None]).mean()), "exact": exact, "nbytes": nbytes, "prefill": prefill}


def theirs(loaded: Loaded, request: dict[str, Any], method: str, kept: float) -> dict[str, Any]:
    found = loaded.peer({**request, "method": method, "kept": kept})
    if "error" in found:
        return found
    config = loaded.model.config
    width = 2 * config.num_hidden_layers * config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
    return {**{k: found[k] for k in ("nll", "exact")}, "nbytes": found["nbytes"] + 4 * width * len(request["after"]), "total": found["cpu"]}


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    path = ROWS / "evicted.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, key=lambda r: (r["sample"], r["method"], r["side"], r.get("recipe", "")))
    end = time.monotonic() + options.hours * 3600
    here = folders([MODEL]) if options.hours > 0 else {}
    loaded = Loaded(here[MODEL], end, DTYPE) if here else None
    for i in range(options.first, options.first + options.samples) if loaded else ():
        one_sample(loaded, i, rows, wanted(options))
    if loaded:
        loaded.close()
    measured = [r for r in rows.rows if options.first <= r["sample"] < options.first + options.samples]
    report(measured, options)


def wanted(options: argparse.Namespace) -> list[tuple[str, str]]:
    """What is asked of each sample: (method, side)."""
    jobs = [(m, "here") for m in HERE] + [(m, "kvpress") for m in THERE]
    if not options.only:
        return jobs
    names = options.only.split(";")
    known = [*jobs, *((m, "here") for m in TRIED)]
    return [(m, side) for m, side in known if f"{m} @ {side}" in names or (m in names and (side == "here" or options.rivals))]


def one_sample(loaded: Loaded, i: int, rows: Rows, jobs: list[tuple[str, str]]) -> None:
    """All methods on one prompt, in an order that turns from sample to sample."""
    request = sample(i, loaded.tokenizer, CONTEXT_TOKENS[MODEL])
    turn = i % len(jobs)
    for method, side in jobs[turn:] + jobs[:turn]:
        recipe = {**HERE, **TRIED}[method] if side == "here" else ""
        key = {"sample": i, "method": method, "side": side, "recipe": recipe}
        if rows.has(key) or loaded.late():
            continue
        found = ours(loaded, request, recipe) if side == "here" else theirs(loaded, request, *THERE[method])
        row = {**key, "tokens": len(request["context"]), **found}
        print(row, flush=True)
        if "error" not in row:
            rows.add(row)


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    recipes = {**HERE, **TRIED}
    by = {(r["method"], r["side"], r["sample"]): r for r in rows if r["side"] == "kvpress" or r["recipe"] == recipes.get(r["method"])}
    named = [*((m, "here") for m in recipes), *((m, "kvpress") for m in THERE)]
    lines = [_line(by, m, side, recipes) for m, side in named if any(k[:2] == (m, side) for k in by)]
    head = ["method", "where", "answer NLL", "exact", "MiB held", "prefill ÷ stock's", "recipe"]
    judged = [_judge(by, goal) for goal in GOALS]
    tokens = [r["tokens"] for r in by.values()] or [0]
    text = (
        f"{FILES[MODEL]}, {DTYPE}, contexts of {sum(tokens) / len(tokens):.0f} tokens on average, question unseen. Means with a 95 % "
        "bootstrap interval and n in brackets; prefill is in processor seconds of one thread, as the geometric mean of ratios on the "
        f"same prompt.\n\n{table(head, lines)}\n\nThe goals, in pairs with the rival on the same prompts\n\n"
        + table(
            ["goal", "NLL, here − rival's", "no worse", "exact, here − rival's", "MiB held", "within", "prefill ÷ stock's", "within"],
            judged,
        )
    )
    command = f"python benchmarks/evicted.py --hours {options.hours:g} --samples {options.samples}"
    if options.first >= CHOOSING:
        print(text)
        return
    write("evicted", "Most of the cache gone before the question is known", text, {"rows": rows}, command)


def _line(by: dict[tuple[str, str, int], dict[str, Any]], method: str, side: str, recipes: dict[str, str]) -> list[str]:
    mine = {i: r for (m, s, i), r in by.items() if (m, s) == (method, side)}
    nll, exact = ([float(r[what]) for r in mine.values()] for what in ("nll", "exact"))
    held = cell([r["nbytes"] / MIB for r in mine.values()])
    times = _times(by, method) if side == "here" else []
    return [method, side, cell(nll, 3), cell(exact), held, ratio_cell(times), f"`{recipes[method]}`" if side == "here" else ""]


def _times(by: dict[tuple[str, str, int], dict[str, Any]], method: str) -> list[float]:
    """Prefill against that of the stock model, on each prompt that has both."""
    mine = {i: r for (m, s, i), r in by.items() if (m, s) == (method, "here")}
    return [r["prefill"] / by[FULL, "here", i]["prefill"] for i, r in mine.items() if (FULL, "here", i) in by]


def _judge(by: dict[tuple[str, str, int], dict[str, Any]], goal: str) -> list[str]:
    rival, most_mib, most_time = GOALS[goal]
    pairs = [(r, by[rival, "kvpress", i]) for (m, s, i), r in by.items() if (m, s) == (goal, "here") and (rival, "kvpress", i) in by]
    times = _times(by, goal)
    if not pairs:
        return [goal, *["–"] * 7]
    nll = [a["nll"] - b["nll"] for a, b in pairs]
    exact = [float(a["exact"]) - float(b["exact"]) for a, b in pairs]
    held = [a["nbytes"] / MIB for a, _ in pairs]
    on_time = "" if most_time is None else reached(interval(times), most=most_time) if times else "–"
    within = "yes" if max(held) <= most_mib else "no"
    return [
        goal,
        cell(nll, 4),
        reached(interval(nll), most=0.0),
        cell(exact),
        f"at most {max(held):.2f}",
        within,
        ratio_cell(times),
        on_time,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="stop after this time and report what there is (0: only report)")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first sample")
    parser.add_argument(
        "--only", default="", help="only these methods, separated by ';' (those that were tried too); `… @ kvpress`: only there"
    )
    parser.add_argument("--no-rivals", dest="rivals", action="store_false", help="with --only: not in kvpress")
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    try:
        run(parser.parse_args())
    except BayError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
