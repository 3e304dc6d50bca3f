"""The tables of a report."""

from __future__ import annotations

from baywindow.bench.plan import length_text
from baywindow.bench.report.blocks import NOTHING, Block, number, table, with_interval, with_sign
from baywindow.bench.summary import STOCK, Cell, Summary, whole

MIB = 1 / 2**20
EFFECTIVE_ABOVE = 0.856  # Llama-2-7B at 4k, RULER's own threshold

QUALITY = ("recipe", "answer NLL", "less the whole text's", "less chance's", "score", "less the whole text's", "errors")
COST = (
    "recipe",
    "first token s",
    "tokens / s",
    "seconds",
    "processor s",
    "KV MiB",
    "peak MiB",
    "prompt tokens",
    "generated",
    "calls",
    "USD",
)


def baseline(summary: Summary, cell: Cell) -> str:
    """What the model does with the whole text, asked in the same way: stock, or `ask` with everything in one prompt."""
    if cell.asked and summary.cell(cell.model, cell.length, whole()):
        return whole()
    return STOCK


def quality(summary: Summary, model: str, length: int) -> Block:
    rows = []
    for recipe in summary.recipes(model, length):
        cell = summary.cells[model, length, recipe]
        rival, chance = baseline(summary, cell), summary.chance(recipe)
        alike = not cell.asked or rival == whole()
        rows.append(
            (
                recipe,
                with_interval(cell.interval("nll")),
                with_sign(summary.compared(cell, rival, "nll")) if alike else NOTHING,
                with_sign(summary.compared(cell, chance, "nll")) if chance else NOTHING,
                with_interval(cell.interval("score")),
                with_sign(summary.compared(cell, rival, "score")),
                str(cell.errors or ""),
            )
        )
    return table(QUALITY, rows)


def cost(summary: Summary, model: str, length: int) -> Block:
    rows = []
    for recipe in summary.recipes(model, length):
        cell = summary.cells[model, length, recipe]
        rows.append(
            (
                recipe,
                number(cell.mean("first_token_s"), 2),
                number(cell.mean("tokens_per_s")),
                number(cell.mean("seconds"), 2),
                number(cell.mean("cpu_seconds"), 2),
                number(cell.mean("kv_bytes"), 2, MIB),
                number(cell.mean("peak_rss_bytes"), 0, MIB),
                number(cell.mean("prompt_tokens"), 0),
                number(cell.mean("generated_tokens"), 0),
                number(cell.mean("calls")),
                number(cell.mean("usd"), 5),
            )
        )
    return table(COST, rows)


def by_task(summary: Summary, model: str, length: int) -> Block:
    """Score where replies were written, else NLL, by recipe and task."""
    tasks = [t for t in summary.tasks if any(r.task == t and r.model == model and r.length == length for r in summary.rows)]
    rows = []
    for recipe in summary.recipes(model, length):
        cell = summary.cells[model, length, recipe]
        line = [recipe]
        for task in tasks:
            part = Cell(cell.model, cell.length, cell.recipe, tuple(r for r in cell.rows if r.task == task))
            score, nll = part.mean("score"), part.mean("nll")
            line.append(f"{number(nll, 2)} · {number(score, 2)}")
        rows.append(line)
    return table(["recipe", *tasks], rows)


def effective(summary: Summary, model: str) -> Block | None:
    """Effective length by RULER's rule, for recipes with written replies on its tasks; None where there are none.

    The average over the RULER tasks of this run must be at least `EFFECTIVE_ABOVE`; the longest such length is the effective one, as
    long as no shorter length fails.
    """
    rows = []
    for recipe in summary.recipes(model):
        scores = {n: s for n in summary.lengths(model) if (s := _ruler(summary.cell(model, n, recipe))) is not None}
        if not scores:
            continue
        reached = 0
        for length in sorted(scores):
            if scores[length] < EFFECTIVE_ABOVE:
                break
            reached = length
        shown = ", ".join(f"{length_text(n)} {s * 100:.1f}" for n, s in sorted(scores.items()))
        rows.append((recipe, length_text(reached) if reached else f"below {length_text(min(scores))}", shown))
    return table(("recipe", "effective length", "average score by length"), rows) if rows else None


def _ruler(cell: Cell | None) -> float | None:
    if cell is None:
        return None
    part = Cell(cell.model, cell.length, cell.recipe, tuple(r for r in cell.rows if r.task.startswith("ruler.")))
    found = part.interval("score")
    return None if found is None else found.mean


def left_out(summary: Summary, model: str) -> Block | None:
    """What was dropped or could not run, and why."""
    names = summary.facts.get(f"dropped_names:{model}", {})
    dropped = summary.facts.get(f"dropped:{model}", [])
    rows = [(names.get(h, h), length_text(length), why) for length, h, why in dropped]
    if stopped := summary.facts.get(f"stopped:{model}"):
        rows.append(("everything", "all", stopped))
    return table(("recipe", "length", "why it was left out or ended early"), rows) if rows else None
