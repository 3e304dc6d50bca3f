"""Two runs beside each other: what changed, on the samples that both have."""

from __future__ import annotations

from baywindow.bench.plan import length_text
from baywindow.bench.report.blocks import Block, heading, number, table, with_interval, with_sign, words
from baywindow.bench.stats import difference
from baywindow.bench.summary import Cell, Summary

HEADER = ("recipe", "answer NLL, first", "second", "second less first", "score, first", "second", "second less first", "seconds", "seconds")


def compared(one: Summary, other: Summary) -> list[Block]:
    """A table a model and length that both runs have. The same sample is the same text only if tokenizer and options were the same: rows
    whose sample ids differ are not paired."""
    blocks = [
        heading(f"{one.name} and {other.name}", 1),
        words("Means with 95 % intervals; differences are paired on the samples both runs have."),
    ]
    common = [(m, n, r) for (m, n, r) in one.cells if (m, n, r) in other.cells]
    for model, length in dict.fromkeys((m, n) for m, n, _ in common):
        rows = []
        for recipe in [r for m, n, r in common if (m, n) == (model, length)]:
            a, b = one.cells[model, length, recipe], other.cells[model, length, recipe]
            line = [recipe]
            for figure in ("nll", "score"):
                change = difference(_same(b.values(figure), b, a), _same(a.values(figure), a, b))
                line += [with_interval(a.interval(figure)), with_interval(b.interval(figure)), with_sign(change)]
            rows.append([*line, number(a.mean("seconds"), 2), number(b.mean("seconds"), 2)])
        blocks += [heading(f"{model}, {length_text(length)}"), table(HEADER, rows)]
    for summary, rival in ((one, other), (other, one)):
        if alone := [r for r in summary.recipes() if r not in rival.recipes()]:
            blocks.append(words(f"Only in {summary.name}: {'; '.join(alone)}."))
    if not common:
        blocks.append(words("The runs have no model, length and recipe in common."))
    return blocks


def _same(values: dict[tuple[object, ...], float], cell: Cell, rival: Cell) -> dict[tuple[object, ...], float]:
    """Only samples that are the same text in both: equal ids and equal lengths."""
    mine, theirs = _texts(cell), _texts(rival)
    return {key: value for key, value in values.items() if mine.get(key) == theirs.get(key)}


def _texts(cell: Cell) -> dict[tuple[object, ...], tuple[object, ...]]:
    return {(r.task, r.sample): (r.sample_id, r.tokens) for r in cell.rows}
