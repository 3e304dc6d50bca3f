"""The tables of results/ruler.md."""

from __future__ import annotations

import statistics
from typing import Any

from _report import table


def ratio(row: dict[str, Any]) -> str:
    """How many times as long the reference takes, median over rounds with its range."""
    each = [theirs / ours for ours, theirs in zip(row["ours"], row["lm_eval"], strict=False)]
    return f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})" if each else "–"


def overall(rows: list[dict[str, Any]]) -> float:
    """All reference seconds over all of ours."""
    done = [row for row in rows if row["lm_eval"]]
    return sum(statistics.median(r["lm_eval"]) for r in done) / sum(statistics.median(r["ours"]) for r in done)


def body(scores: list[dict[str, Any]], speed: list[dict[str, Any]], own: list[dict[str, Any]], notes: list[str]) -> str:
    parts = ["## Scores of the same replies, in per cent, to two places as the official code prints them"]
    shown = [[r["task"], r["n"], r["ours"], dash(r["official"]), dash(r["lm_eval"])] for r in scores]
    parts.append(table(["task", "n", "here", "NVIDIA's functions", "lm-eval 0.4.13"], shown))
    for name, title in (("official", "NVIDIA's functions"), ("lm_eval", "lm-eval")):
        apart = [r["task"] for r in scores if r[name] is not None and r[name] != r["ours"]]
        if any(r[name] is not None for r in scores):
            parts.append(f"Against {title}: " + (f"apart on {', '.join(apart)}." if apart else "the same to the digit on all tasks."))
    if speed:
        parts += ["## Speed of making samples: processor milliseconds a sample, the reference's search for the size left out"]
        cells = [
            [
                r["tokens"], r["task"], f"{1000 * statistics.median(r['ours']):.1f}",
                f"{1000 * statistics.median(r['lm_eval']):.1f}" if r["lm_eval"] else r["error"], ratio(r),
                f"{r['searched']:.2f}" if "searched" in r else "–",
                f"{r['filled']:.3f} / {r['filled_there']:.3f}" if "filled" in r else "–",
            ]
            for r in speed
        ]  # fmt: skip
        head = ["tokens", "task", "here", "lm-eval", "ratio (range over rounds)", "its search, s", "length reached, here / there"]
        parts.append(table(head, cells))
        parts.append(f"All tasks and lengths together: lm-eval takes **{overall(speed):.2f}** times as long as `bay bench`.")
        slower = [
            f"{r['task']} at {r['tokens']}"
            for r in speed
            if r["lm_eval"] and statistics.median(r["lm_eval"]) < statistics.median(r["ours"])
        ]
        parts.append(f"Slower here: {', '.join(slower)}." if slower else "Slower here on no task.")
        parts += ["## Wording of the prompt, names and numbers masked"]
        seen = {r["task"]: r["prompt"] for r in speed if "prompt" in r}
        parts.append(table(["task", "against lm-eval"], list(seen.items())))
    if own:
        parts += ["## NVIDIA's own generators, where they run without their data"]
        head = ["tokens", "task", "here, ms", "NVIDIA's, ms", "ratio", "wording"]
        cells = [
            [r["tokens"], r["task"], f"{1000 * r['ours']:.1f}", f"{1000 * r['theirs']:.1f}", f"{r['theirs'] / r['ours']:.2f}", r["prompt"]]
            for r in own
        ]
        parts.append(table(head, cells))
    return "\n\n".join([*parts, "## Notes", "\n".join(f"- {note}" for note in notes)])


def dash(value: object) -> object:
    return "–" if value is None else value
