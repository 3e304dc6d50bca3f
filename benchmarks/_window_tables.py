"""Tables of benchmarks/window.py from its rows, with what the goal was and whether it was reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from _report import interval, table

Row = dict[str, Any]
METHODS = ("full", "snapkv", "expected_attention", "kvzip", "random")
EXPLAINED = """\
Cells are means with a 95 % bootstrap interval and n in brackets; ratios are geometric means of ratios within a pair, which was run one
after the other (for speed: a piece of 512 tokens, or a step). Times are processor seconds of one thread, because the machine was
shared: memory bandwidth was shared too, so single times differ by up to a factor of two. A goal is reached (yes), missed (no), or the
interval holds the border (open)."""


UNSUPPORTED = """\
No pairs: kvpress does not support this model. Two methods refuse it (above); where it runs, it also cuts the layers with a sliding window,
which are left as they are here, so neither bytes nor answers compare."""


def cell(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.{digits}f} (1)"
    mean, low, high = interval(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] ({len(values)})"


def ratio(values: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of ratios, with its interval."""
    mean, low, high = (math.exp(x) for x in interval([math.log(v) for v in values]))
    return mean, low, high


def ratio_cell(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return "–"
    mean, low, high = ratio(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] ({len(values)})"


def reached(bounds: tuple[float, float, float], *, least: float = -math.inf, most: float = math.inf) -> str:
    """Whether mean, low and high lie from ``least`` to ``most``."""
    _, low, high = bounds
    if least <= low and high <= most:
        return "yes"
    return "no" if high < least or low > most else "open"


def speed(mine: list[Row], dtype: str, tokens: int) -> list[str]:
    by = {(r["sample"], r["method"]): r for r in mine if r["part"] == "speed"}
    lines = []
    for how, what, least in (
        ("seam", "prefill", 0.97),
        ("seam", "step", 0.97),
        ("seam, folded", "prefill", 0.97),
        ("seam, folded", "step", 1.5),
    ):
        pairs = [(by[i, "stock model"], r) for (i, m), r in by.items() if m == how and (i, "stock model") in by]
        if not pairs:
            continue
        found = [a / b for stock, ours in pairs for a, b in zip(stock[what], ours[what], strict=True)]
        stock_seconds = cell([(sum if what == "prefill" else statistics.mean)(stock[what]) for stock, _ in pairs])
        goal = "0.97 or more" if least < 1 else "1.5 or more"
        name = "prefill" if what == "prefill" else "a step of decoding"
        lines.append([how, name, stock_seconds, ratio_cell(found, 3), goal, reached(ratio(found), least=least)])
    if not lines:
        return []
    title = f"Speed, {dtype}, {tokens:,} tokens: how many times as fast as the stock model (1.00 is equal)"
    return [title, table(["", "what", "seconds, stock", "times as fast", "goal", "reached"], lines)]


def caches(mine: list[Row], dtype: str) -> list[str]:
    found: dict[tuple[str, float, str], dict[int, Row]] = {}
    for r in mine:
        if r["part"] == "caches":
            found.setdefault((r["method"], r["kept"], r["side"]), {})[r["sample"]] = r
    if not found:
        return []
    keys = sorted({(m, k) for m, k, _ in found}, key=lambda key: (-key[1], METHODS.index(key[0])))
    tokens = statistics.mean(r["tokens"] for r in mine if r["part"] == "caches")
    head = f"Caches, {dtype}, contexts of {tokens:.0f} tokens on average; the cache does not know the question"
    lines = [line for key in keys for side in ("here", "kvpress") if (line := _quality(*key, side, found))]
    parts = [head, table(["method", "kept", "where", "answer NLL", "exact", "MiB held", "seconds to the answer"], lines)]
    if any("error" in r for r in mine if r.get("side") == "kvpress"):
        return [*parts, UNSUPPORTED]
    pairs = [line for method, kept in keys if (line := _pair(method, kept, found))]
    if pairs:
        header = ["method", "kept", "NLL, here − kvpress", "no worse", "exact, here − kvpress", "time, here ÷ kvpress", "no slower"]
        parts += ["The same in pairs", table([*header, "bytes, here ÷ kvpress", "no more"], pairs)]
    return parts


def _quality(method: str, kept: float, side: str, found: dict[tuple[str, float, str], dict[int, Row]]) -> list[str] | None:
    own = found.get((method, kept, side), {})
    good = [r for r in own.values() if "error" not in r]
    if not own:
        return None
    if not good:
        return [method, f"{kept:g}", side, next(iter(own.values()))["error"], "", "", ""]
    mib = statistics.mean(r["nbytes"] for r in good) / 2**20
    measured = [cell([r["nll"] for r in good], 3), cell([float(r["exact"]) for r in good]), f"{mib:.3f}"]
    return [method, f"{kept:g}", side, *measured, cell([r["cpu"] for r in good])]


def _pair(method: str, kept: float, found: dict[tuple[str, float, str], dict[int, Row]]) -> list[str] | None:
    here, there = found.get((method, kept, "here"), {}), found.get((method, kept, "kvpress"), {})
    pairs = [(here[i], there[i]) for i in sorted(here) if "nll" in here[i] and "nll" in there.get(i, {})]
    if not pairs:
        return None
    nll = [a["nll"] - b["nll"] for a, b in pairs]
    time = [a["cpu"] / b["cpu"] for a, b in pairs]
    nbytes = [a["nbytes"] / b["nbytes"] for a, b in pairs]
    return [
        method,
        f"{kept:g}",
        cell(nll, 4),
        reached(interval(nll), most=0.0),
        cell([float(a["exact"]) - float(b["exact"]) for a, b in pairs]),
        ratio_cell(time),
        reached(ratio(time), most=1.0),
        f"{statistics.mean(nbytes):.3f}",
        "yes" if max(nbytes) <= 1 else "no",
    ]


def memory(mine: list[Row], piece: int) -> list[str]:
    found = {r["method"]: r["points"] for r in mine if r["part"] == "memory" and "points" in r}
    if not found:
        return []
    lengths = [f"{p[0]:,}" for p in next(iter(found.values()))]
    lines = []
    for recipe, points in found.items():
        grown = (points[-1][1] - points[0][1]) / 2**20
        lines.append([recipe, *(f"{p[1] / 2**20:.0f} ({p[2] / 2**20:.1f})" for p in points), f"{grown:+.0f}"])
    title = (
        f"Resident MiB above the loaded model while a prompt goes in by {piece:,} tokens, by tokens read (in brackets: MiB the cache "
        "holds, with those that infllm lays apart in a mapped file)"
    )
    return [title, table(["", *lengths, "growth"], lines)]
