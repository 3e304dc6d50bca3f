"""The report of a run: tables, heat maps, Pareto plots and the ledger, as HTML in one file, as PNG and as Markdown."""

from __future__ import annotations

from pathlib import Path

from baywindow.bench.report.content import content
from baywindow.bench.report.html import page
from baywindow.bench.report.markdown import text
from baywindow.bench.summary import Summary

__all__ = ["content", "page", "text", "write"]


def write(summary: Summary, folder: Path) -> list[Path]:
    """``report.html`` (which needs no other file), ``report.md`` and a PNG a figure; the files made."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = content(summary, figures=True)
    made = [folder / "report.html", folder / "report.md"]
    made[0].write_text(page(summary.name, blocks), encoding="utf-8")
    made[1].write_text(text(blocks), encoding="utf-8")
    for block in blocks:
        if block.kind == "figure":
            path = folder / f"{block.name}.png"
            path.write_bytes(block.png)
            made.append(path)
    return made
