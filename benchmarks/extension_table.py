"""Every position scheme on the extension test-bed at 1, 2, 4 and 8 times the window: ``python benchmarks/extension_table.py --hours 0.5``

The committed model (`extension/train.py`) retrieves within 256 tokens. Each scheme is given the same fresh questions: twelve notes in
filler and one question about one of them, where only the filler grows. Options are each paper's rule applied to this window
(`RECIPES` says how), nothing is tuned. Columns at 2, 4 and 8 times the window use the setting for that length; the column at 1 uses
the setting for 8: what being prepared for long texts costs on a short one. Stopped runs go on; each cell is kept when finished.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import RESULTS, Parts, interval, progress, table
from extension import text
from transformers import AutoModelForCausalLM

from baywindow.recipe import parse
from baywindow.window import attach
from baywindow.window.base import Calibrated, InsideTechnique
from baywindow.window.engine.calibrated import arrays_path
from baywindow.window.engine.fingerprint import fingerprint
from baywindow.window.engine.prepare import prepare

MODEL = Path(__file__).parent / "extension" / "model"
WINDOW = 256
TIMES = (1, 2, 4, 8)
SEED = 2026  # the training's and the calibration's are others
MOST, LEAST = 200, 24  # questions a cell
BATCH_TOKENS = 4096


def group_for(times: int) -> int:
    """Self-Extend's G: the smallest power of two whose reach (L − W) · G + W covers the length, with W = L / 4."""
    group = 1
    while (WINDOW - WINDOW // 4) * group + WINDOW // 4 < times * WINDOW:
        group *= 2
    return group


# name -> (recipe for a target of so many windows, where its numbers come from)
RECIPES: dict[str, tuple[Callable[[int], str], str]] = {
    "stock": (lambda s: "stock", "plain RoPE"),
    "lm_infinite": (lambda s: "lm_infinite", "defaults: 10 first tokens, the trained window"),
    "linear": (lambda s: f"linear(factor={s}.0)", "factor = length / window"),
    "ntk": (lambda s: f"ntk(factor={s}.0)", "factor = length / window"),
    "yarn": (lambda s: f"yarn(factor={s}.0)", "factor = length / window; β 32 and 1"),
    "longllada": (lambda s: f"longllada(factor={s}.0)", "factor = length / window"),
    "giraffe": (lambda s: "giraffe", "defaults: T = window"),
    "entropy_abf": (lambda s: "entropy_abf(unscaled_layers=0)", "base 500,000; the paper's 2 first of 32 layers are 0 of 3"),
    "rotary_distribution": (lambda s: f"rotary_distribution(factor={s}.0)", "factor = length / window; 360 bins"),
    "self_extend": (lambda s: f"self_extend(group_tokens={group_for(s)})", "W = window / 4; G the smallest power of two that reaches"),
    "rerope": (lambda s: "rerope", "defaults: w = window / 8, logits scaled by ln"),
    "rerope leaky": (lambda s: f"rerope(leak={2.0 * s})", "w = window / 8; leak twice length / window, the released 16 for 8"),
    "dual_chunk": (lambda s: "dual_chunk", "defaults: Qwen2.5-1M's 31 / 32 and 1 / 32 of the window"),
    "ms_poe": (lambda s: "ms_poe(first_layer=0)", "ratios 1.2 to 1.8; the paper's 2 first of 32 layers are 0 of 3"),
    "longrope": (
        lambda s: f"longrope(factor={s}.0, population=16, parents=8, mutations=4, crossovers=4, rounds=10, samples=2)",
        "factor = length / window; population and rounds a quarter of the paper's 64 and 40, 2 texts for its 5: time",
    ),
    "dpe": (lambda s: f"dpe(factor={s}.0, samples=3, answer_tokens=1)", "8 groups, 48 of 64 pairs; probed on 3 questions at the length"),
}


class Bed:
    """The model, and its fresh questions."""

    def __init__(self) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()

    def questions(self, times: int, count: int, seed: int = SEED) -> list[text.Question]:
        rng = np.random.default_rng((seed, times))
        return [text.question(rng, times * WINDOW) for _ in range(count)]

    def prepared(self, part: InsideTechnique, times: int) -> dict[str, Any]:
        """Calibrate on other questions of the target length, joined; the arrays found, for the record."""
        from safetensors.numpy import load_file

        path = arrays_path(fingerprint(self.model), part)
        if not path.is_file():
            progress(f"preparing {part.card.name} for {times} windows")
            ids = np.concatenate([q.ids for q in self.questions(times, 3, SEED + 1)])
            prepare(self.model, part, torch.from_numpy(ids)[None])
        return {name: np.round(a.astype(float), 3).tolist() for name, a in load_file(path).items() if a.size <= 64}

    @torch.no_grad()
    def measure(self, recipe: str, times: int, target: int, count: int) -> dict[str, Any]:
        """Exact match and mean loss (nats a token, teacher-forced) of each answer."""
        found = {p.card.name: self.prepared(p, target) for p in parse(recipe).inside if isinstance(p, Calibrated)}
        asked = self.questions(times, count)
        right: list[int] = []
        losses: list[float] = []
        started = time.perf_counter()
        with attach(self.model, recipe):
            size = max(1, BATCH_TOKENS // (times * WINDOW))
            for at in range(0, count, size):
                batch = asked[at : at + size]
                ids = torch.from_numpy(np.stack([q.ids for q in batch]))
                answer = len(batch[0].answer)
                logits = self.model(ids[:, :-1], use_cache=False, logits_to_keep=answer).logits.log_softmax(-1)
                gold = ids[:, -answer:]
                right += (logits.argmax(-1) == gold).all(-1).int().tolist()
                losses += (-logits.gather(2, gold[..., None])[..., 0].mean(-1)).tolist()
        seconds = time.perf_counter() - started
        rounded = [round(x, 4) for x in losses]
        return {"recipe": recipe, "n": count, "right": right, "loss": rounded, "seconds": round(seconds, 1), "found": found}


def sizes(bed: Bed, hours: float, rows: int) -> dict[str, int]:
    """Questions a cell for each length, so that all cells fit the hours: from one forward of the slowest kind of scheme."""
    costs = {times: bed.measure("rerope", times, times, 2)["seconds"] / 2 for times in TIMES}
    each = hours * 3600 / len(TIMES) / rows
    return {str(times): int(np.clip(each / cost, LEAST, MOST)) for times, cost in costs.items()}


def write(parts: Parts) -> str:
    """The two tables: accuracy with its interval, perplexity of the answer."""
    rows_right, rows_loss = [], []
    for name in RECIPES:
        cells = [parts.get(f"{name} {times}x") for times in TIMES]
        rows_right.append([name, *(shown_right(c) for c in cells)])
        rows_loss.append([name, *("" if c is None else f"{math.exp(min(30.0, float(np.mean(c['loss'])))):.4g}" for c in cells)])
    head = ["", *(f"{times}× ({times * WINDOW})" for times in TIMES)]
    return f"{table(head, rows_right)}\n\nPerplexity of the answer:\n\n{table(head, rows_loss)}\n"


def shown_right(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    mean, low, high = interval(cell["right"])
    if low == high:  # all right or all wrong: the rule of three instead of an interval of no width
        low, high = max(0.0, mean - 3 / cell["n"]), min(1.0, mean + 3 / cell["n"])
    return f"{100 * mean:.0f} % [{100 * low:.0f}, {100 * high:.0f}] n={cell['n']}"


def report(parts: Parts) -> str:
    first = next(iter(parts.table.values()))["machine"]
    where = f"{first['cpu']}, {first['cores']} shared cores, Python {first['python']}, torch {first['versions']['torch']}"
    rules = table(["", "recipe at 4×", "where its numbers come from"], [[n, f"`{make(4)}`", why] for n, (make, why) in RECIPES.items()])
    return f"""# Length extension on the test-bed

Made by `python benchmarks/extension_table.py`; each cell resumable, {where}. The model: `benchmarks/extension/model`, window 256.
Settings are those for the column's length; the column 1× uses the setting for 8×. In brackets 95 % intervals (bootstrap over
questions; rule of three where all or none are right). No scheme was tuned on these questions.

## Key-value retrieval: one note among twelve, exact match

{write(parts)}
## Settings

{rules}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="position schemes at 1, 2, 4 and 8 times the window of the test-bed")
    parser.add_argument("--hours", type=float, default=0.5, help="chooses the number of questions a cell")
    parser.add_argument("--only", nargs="*", default=[], help="schemes to run (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bed, parts = Bed(), Parts("extension")
    parts.run("questions", lambda: sizes(bed, args.hours, len(RECIPES)))
    counts = parts.get("questions")
    assert counts is not None
    for name, (make, _) in RECIPES.items():
        if args.only and name not in args.only:
            continue
        for times in TIMES:
            target = 8 if times == 1 else times
            parts.run(f"{name} {times}x", partial(bed.measure, make(target), times, target, counts[str(times)]))
            (RESULTS / "extension.md").write_text(report(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
