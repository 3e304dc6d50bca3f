"""Tables of benchmarks/quantised.py from its rows, with what the goal was and whether it was reached."""

from __future__ import annotations

import math
import statistics
from typing import Any

from _report import interval, table
from _window_tables import cell, ratio, ratio_cell, reached

Row = dict[str, Any]
EXPLAINED = """\
Cells are means with a 95 % bootstrap interval and n in brackets; perplexities are compared within a text, by their ratio. A goal is
reached (yes), missed (no), or the interval holds the border (open). Bytes are those of the full-attention layers, everything
counted (codes, ranges, levels, outliers, positions, what is not packed yet), against two bytes a number."""
BYTES, PERPLEXITY = 0.25, 1.02  # the goals for kvquant at 3 bits


def grouped(rows: list[Row], part: str) -> dict[int, dict[str, dict[int, Row]]]:
    """Rows by length, method and sample."""
    found: dict[int, dict[str, dict[int, Row]]] = {}
    for row in rows:
        if row["part"] == part:
            found.setdefault(row["tokens"], {}).setdefault(row["method"], {})[row["sample"]] = row
    return found


def share(rows: dict[int, Row]) -> float:
    return statistics.mean(r["nbytes"] / r["plain"] for r in rows.values())


def perplexity(mine: list[Row]) -> list[str]:
    parts = []
    for tokens, methods in sorted(grouped(mine, "perplexity").items()):
        stock, lines = methods.get("stock", {}), []
        for method, rows in methods.items():
            pairs = [(rows[i], stock[i]) for i in sorted(rows) if i in stock]
            if not pairs:
                continue
            ratios = [math.exp(a["nll"] - b["nll"]) for a, b in pairs]
            goal = reached(ratio(ratios), most=PERPLEXITY) if method == "kvquant, 3 bits" else ""
            fits = ("yes" if share(rows) <= BYTES else "no") if method == "kvquant, 3 bits" else ""
            lines.append(
                [
                    method,
                    f"{share(rows):.3f}",
                    fits,
                    cell([math.exp(r["nll"]) for r in rows.values()]),
                    ratio_cell(ratios, 4),
                    goal,
                ]
            )
        head = ["", "bytes", f"≤ {BYTES}", "perplexity", "÷ stock", f"≤ {PERPLEXITY}"]
        parts += [f"Perplexity of {tokens:,} tokens", table(head, lines)]
        parts += _against(methods, "kvquant, 3 bits", "by token, 3 bits", "nll")
    return parts


def needles(mine: list[Row]) -> list[str]:
    parts = []
    for tokens, methods in sorted(grouped(mine, "needles").items()):
        lines = [
            [method, f"{share(rows):.3f}", cell([r["nll"] for r in rows.values()], 3), cell([float(r["exact"]) for r in rows.values()])]
            for method, rows in methods.items()
        ]
        parts += [f"Needles in {tokens:,} tokens", table(["", "bytes", "answer NLL", "exact"], lines)]
        parts += _against(methods, "xkv, 4 layers", "xkv, 1 layers", "exact") + _against(methods, "xkv, 4 layers", "xkv, 1 layers", "nll")
    return parts


def _against(methods: dict[str, dict[int, Row]], one: str, other: str, what: str) -> list[str]:
    """The difference within a sample, in one line: fewer nats or more right answers are better."""
    ours, theirs = methods.get(one, {}), methods.get(other, {})
    both = [float(ours[i][what]) - float(theirs[i][what]) for i in sorted(ours) if i in theirs]
    if not both:
        return []
    goal = reached(interval(both), least=0.0) if what == "exact" else reached(interval(both), most=0.0)
    named = {"exact": "exact answers", "nll": "nats"}[what]
    return [f"{one} − {other}: {cell(both, 3)} {named}; {'no fewer' if what == 'exact' else 'no more'}: {goal}."]
