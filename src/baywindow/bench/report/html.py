"""A report as one HTML file that needs no other: figures stand in it as SVG, nothing is fetched and no script runs."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from baywindow.bench.report.blocks import Block

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h3 { margin-top: 2rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { background: var(--soft); } td:first-child { font-family: ui-monospace, monospace; }
figure { margin: 1.5rem 0; background: #fff; border-radius: 6px; padding: .5rem; overflow-x: auto; color: #222; }
figure svg { max-width: 100%; height: auto; } figcaption { font-size: 13px; color: #444; }
.holds { color: #1a7f37; font-weight: 600; } .partly { color: #9a6700; font-weight: 600; } .not-seen { color: #cf222e; font-weight: 600; }
"""
# The browser refuses everything but what stands in the file: text of models and documents may be in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_VERDICTS = {"holds", "partly", "not seen"}


def page(title: str, blocks: Iterable[Block]) -> str:
    body = "\n".join(_one(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _one(block: Block) -> str:
    if block.kind == "heading":
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if block.kind == "text":
        return f"<p>{_code(html.escape(block.text))}</p>"
    if block.kind == "figure":
        return f'<figure id="{html.escape(block.name)}">{block.svg}<figcaption>{html.escape(block.text)}</figcaption></figure>'
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.header)
    rows = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in block.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'


def _cell(text: str) -> str:
    kind = f' class="{text.replace(" ", "-")}"' if text in _VERDICTS else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
