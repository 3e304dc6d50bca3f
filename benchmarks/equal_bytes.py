"""Accuracy at equal bytes: every cache at a quarter of the bytes of all keys and values, its rivals in kvpress, and chance.

    python benchmarks/equal_bytes.py [--hours 1] [--samples 10] [--fresh]

The tasks are those of the reference run (`bay bench`), at 1,024 tokens: instruction and text are read and compressed before the question is
known, then question and gold answer follow in one forward. Judged by the answer's mean NLL, and by whether each of its tokens is the
likeliest. Here and in kvpress the same token ids, one after the other. Bfloat16.

Caches that drop nothing but read a quarter of it stand in a table of their own. Resumable: every row is kept as it comes, samples of all
methods in turn, so that a run stopped early is balanced.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from _report import interval, table
from _rows import ROWS, Rows, write
from _window_tables import cell
from evicted import ours, theirs
from quantised import calibrate
from transformers.utils import logging as transformers_logging

from baywindow.bench import find
from baywindow.bench.base import Sample
from baywindow.bench.counting import TokenCounter
from baywindow.bench.measure import answer_text
from baywindow.bench.plan import LEAST_SAMPLES, depth_of
from baywindow.bench.samples import Maker, hay
from baywindow.errors import BayError
from baywindow.recipe import parse
from window import FILES, Loaded, folders, turn_marks

TASKS = ("ruler.niah_single_2", "ruler.niah_multikey_2", "ruler.vt", "ruler.qa_1", "needlebench.single")
TOKENS, MODEL, DTYPE = 1024, "qwen", "bfloat16"
SHARE = 0.25
FULL, CHANCE = "stock", f"random(budget_fraction={SHARE})"
BUDGETED = (
    "snapkv", "ada_kv + snapkv", "pyramidkv", "tova", "keydiff", "kvzip", "expected_attention", "h2o", "streaming_llm", "windowkv",
    "sirllm", "chelsea",
)  # fmt: skip
PACKED = (
    "kivi(bits=4, residual_tokens=0)",
    "kvquant(bits=4)",
    "xkv(key_rank=0.25, value_rank=0.25)",
    "think(pruned_fraction=0.5) + snapkv(budget_fraction=0.33)",
    "expected_attention(budget_fraction=0.8) + kivi(bits=4, residual_tokens=0)",
)
READING = tuple(f"{name}(budget_fraction={SHARE})" for name in ("clusterkv", "squeezed_attention"))
HERE = (FULL, CHANCE, *(f"{name}(budget_fraction={SHARE})" for name in BUDGETED), *PACKED, *READING)
THERE = ("random", "snapkv", "expected_attention", "kvzip")  # of kvpress; the last masks what it drops and holds everything


def request_of(made: Sample, tokenizer: Any) -> dict[str, Any]:
    """Context, question with answer, and how many tokens the answer has, as token ids: the same for everybody."""
    before, between = turn_marks(tokenizer)
    [turn] = made.asked
    text = "\n".join(part for part in (made.instruction, made.context) if part)

    def ids(part: str) -> list[int]:
        return list(tokenizer.encode(part, add_special_tokens=False))

    answer = ids(answer_text(turn))
    asked = ids(f"\n{turn.question}{between}{turn.answer_prefix}")
    return {"context": ids(before + text), "after": asked + answer, "answer_tokens": len(answer)}


def samples(tokenizer: Any) -> Callable[[str, int], Sample]:
    """The bench's own samples for this tokenizer, by task and number."""
    counter = TokenCounter(lambda text: len(tokenizer.encode(text, add_special_tokens=False)), f"{FILES[MODEL]}, bare")
    maker = Maker(counter, hay(""))

    def made(task: str, number: int) -> Sample:
        [found] = find.tasks(task)
        return maker.sample(found, TOKENS, number, depth=depth_of(number))

    return made


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    rows = Rows(ROWS / "equal_bytes.jsonl", key=lambda r: (r["task"], r["sample"], r["method"], r["side"]))
    if options.fresh:
        rows.path.unlink(missing_ok=True)
        rows = Rows(rows.path, rows._key)
    end = time.monotonic() + options.hours * 3600
    here = folders([MODEL]) if options.hours > 0 else {}
    if here:
        loaded = Loaded(here[MODEL], end, DTYPE)
        for recipe in HERE:
            calibrate(loaded, parse(recipe))
        made = samples(loaded.tokenizer)
        for number in range(options.samples):
            for task in TASKS:
                one_sample(loaded, rows, {"task": task, "sample": number}, request_of(made(task, number), loaded.tokenizer))
        loaded.close()
    report(rows.rows, options)


def one_sample(loaded: Loaded, rows: Rows, which: dict[str, Any], request: dict[str, Any]) -> None:
    for method, side in [*((m, "here") for m in HERE), *((m, "kvpress") for m in THERE)]:
        key = {**which, "method": method, "side": side}
        if rows.has(key) or loaded.late():
            continue
        try:
            found = ours(loaded, request, method) if side == "here" else theirs(loaded, request, method, SHARE)
        except BayError as error:
            found = {"error": str(error)}
        print(key, found, flush=True)
        if "error" not in found:
            rows.add({**key, "tokens": len(request["context"]), **found})


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    by: dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by[row["method"], row["side"]][row["task"], row["sample"]] = row
    dropping = [key for key in by if key[0] not in READING]
    reading = [key for key in by if key[0] in READING or key == (FULL, "here")]
    head = ["method", "where", "bytes ÷ all", "answer NLL", "NLL over stock's, paired", "every token the likeliest", "better than chance"]
    parts = [
        f"{FILES[MODEL]}, {DTYPE}, {', '.join(TASKS)} at {TOKENS:,} tokens, question unseen while the cache is made. Means with a 95 % "
        "bootstrap interval and n in brackets; best first. Chance is `random` at the same size, on the same samples.",
        table(head, _lines(by, dropping)),
        "Nothing dropped, a quarter read",
        table(head, _lines(by, reading)),
    ]
    command = f"python benchmarks/equal_bytes.py --hours {options.hours:g} --samples {options.samples}"
    write("equal_bytes", "Accuracy at equal bytes", "\n\n".join(parts), {"rows": rows}, command)


def _lines(by: dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]], methods: list[tuple[str, str]]) -> list[list[str]]:
    return [line for _, line in sorted((_line(by, method, side) for method, side in methods), key=lambda found: found[0])]


def _line(by: dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]], method: str, side: str) -> tuple[float, list[str]]:
    mine, full, chance = by[method, side], by[FULL, "here"], by[CHANCE, "here"]
    held = [r["nbytes"] / full[k]["nbytes"] for k, r in mine.items() if k in full]
    over = [r["nll"] - full[k]["nll"] for k, r in mine.items() if k in full]
    less = [r["nll"] - chance[k]["nll"] for k, r in mine.items() if k in chance]
    mean = sum(over) / len(over) if over else float("inf")
    better = "–"
    if len(less) >= LEAST_SAMPLES and (method, side) not in ((FULL, "here"), (CHANCE, "here")):
        _, low, high = interval(less)
        better = "yes" if high < 0 else "no: worse" if low > 0 else "no difference"
    nll, exact = [r["nll"] for r in mine.values()], [float(r["exact"]) for r in mine.values()]
    return mean, [f"`{method}`", side, cell(held), cell(nll, 3), cell(over, 3), cell(exact), better]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="stop after this time and report what there is (0: only report)")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    try:
        run(parser.parse_args())
    except BayError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
