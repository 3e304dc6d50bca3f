"""A context on disk: cachegen at every quality against plain files and plain quantisation, with the answers it gives afterwards.

    python benchmarks/codec.py [--hours 0.3] [--models qwen] [--first 0] [--fresh]

The prompts are those of ``window.py``: two 7-digit numbers in natural text, the context read alone, saved, read back from disk, and
then one number is asked for. Bytes are those of the whole folder, positions and manifest included, and stand against the keys and
values of the same tokens in 16 bits. ``kivi`` saved plainly is what quantisation alone gives.

Resumable: each row is kept as it comes. ``--first`` shifts the samples: settings were chosen on samples from 90,000 on, the table is
measured on those from 0 on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _report import table
from _rows import ROWS, Rows, write
from _window_tables import cell
from transformers.utils import logging as transformers_logging

from baywindow.errors import BayError
from baywindow.window import attach
from baywindow.window.engine import saving
from window import CONTEXT_TOKENS, DTYPE, FILES, Loaded, folders, sample

RECIPES = {
    "plain files": "stock",
    **{f"cachegen, quality {q}": f"cachegen(quality={q})" for q in (4, 3, 2, 1)},
    "kivi, 4 bits": "kivi(bits=4, residual_tokens=32)",
    "kivi, 2 bits": "kivi(bits=2, residual_tokens=32)",
}
CHOOSING = 90_000  # samples from here on are for choosing settings: printed, never written as results
GOAL = 3.5  # times smaller than 16 bits with the same answers


@torch.no_grad()
def measured(model: Any, request: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Read, save, read back, ask."""
    context, after = (torch.tensor([request[name]]) for name in ("context", "after"))
    with tempfile.TemporaryDirectory() as where, attach(model, recipe) as w:
        folder = Path(where) / "context"
        cache = w.cache()
        model.model(input_ids=context, past_key_values=cache)
        cache.close()
        start = time.process_time()
        saving.save(cache, folder, {})
        saved = time.process_time()
        back = saving.load(w, folder, saving.read_manifest(folder, {}))
        loaded = time.process_time()
        nbytes = sum(path.stat().st_size for path in folder.iterdir())
        logits = model(input_ids=after, past_key_values=back).logits[0].float()
        half = sum(2 * context.shape[1] * layer.kv_heads * (layer.head_dim + layer.value_dim) for layer in w.info.layers)
    k = request["answer_tokens"]
    logp, target = torch.log_softmax(logits[-k - 1 : -1], dim=-1), after[0, -k:]
    return {
        "nll": -float(logp.gather(1, target[:, None]).mean()),
        "exact": bool((logp.argmax(dim=-1) == target).all()),
        "nbytes": nbytes,
        "half": half,
        "save": saved - start,
        "load": loaded - saved,
        "tokens": context.shape[1],
    }


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    path = ROWS / "codec.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, key=lambda r: (r["model"], r["sample"], r["method"]))
    end = time.monotonic() + options.hours * 3600
    loaded = {name: Loaded(folder, end) for name, folder in folders(options.models.split(",")).items()} if options.hours > 0 else {}
    for i in range(options.first, options.first + options.samples):
        for name, one in loaded.items():
            request = sample(i, one.tokenizer, CONTEXT_TOKENS[name])
            for method, recipe in RECIPES.items():
                key = {"model": name, "sample": i, "method": method}
                if not rows.has(key) and not one.late():
                    rows.add({**key, **measured(one.model, request, recipe)})
                    print(rows.rows[-1], flush=True)
    report([r for r in rows.rows if options.first <= r["sample"] < options.first + options.samples], options)


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    body = []
    for name in sorted({r["model"] for r in rows}):
        mine = {(r["method"], r["sample"]): r for r in rows if r["model"] == name}
        lines = [_line(method, mine) for method in RECIPES if any(m == method for m, _ in mine)]
        head = [
            "on disk",
            "16-bit bytes ÷ bytes",
            "answer NLL",
            "exact",
            "exact, lost against plain files",
            "s to save",
            "s to load",
            "goal",
        ]
        tokens = [r["tokens"] for r in mine.values()]
        body.append(f"## {FILES[name]}\n\n{DTYPE}, contexts of {sum(tokens) / len(tokens):.0f} tokens on average\n\n{table(head, lines)}")
    text = (
        f"Means with a 95 % bootstrap interval and n in brackets; seconds are processor seconds of one thread. Goal: {GOAL} times fewer "
        "bytes with the same answers (no answer lost that plain files give).\n\n" + "\n\n".join(body)
    )
    command = f"python benchmarks/codec.py --hours {options.hours:g}"
    if options.first >= CHOOSING:
        print(text)
        return
    write("codec", "A context on disk", text, {"rows": rows}, command)


def _line(method: str, mine: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    found = {i: r for (m, i), r in mine.items() if m == method}
    ratios = [r["half"] / r["nbytes"] for r in found.values()]
    pairs = [(mine["plain files", i], r) for i, r in found.items() if ("plain files", i) in mine]
    lost = sum(a["exact"] and not b["exact"] for a, b in pairs)
    goal = "yes" if min(ratios) >= GOAL and not lost else "no"
    columns = [cell([float(r[what]) for r in found.values()], 3 if what == "nll" else 2) for what in ("nll", "exact", "save", "load")]
    return [method, cell(ratios), *columns[:2], f"{lost} of {len(pairs)}", *columns[2:], goal if "cachegen" in method else ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.3, help="stop after this time and report what there is (0: only report)")
    parser.add_argument("--models", default="qwen")
    parser.add_argument("--first", type=int, default=0, help="the first sample")
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    try:
        run(parser.parse_args())
    except BayError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
