"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from baywindow.bench.report.blocks import Block


def text(blocks: Iterable[Block]) -> str:
    return "\n\n".join(_one(block) for block in blocks) + "\n"


def _one(block: Block) -> str:
    if block.kind == "heading":
        return "#" * block.level + " " + block.text
    if block.kind == "text":
        return block.text
    if block.kind == "figure":
        return f"![{block.text}]({block.name}.png)"
    lines = [_line(block.header), "|" + "---|" * len(block.header), *map(_line, block.rows)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
