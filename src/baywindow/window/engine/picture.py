"""A picture of what a cache kept: one row a layer and head, one column a stretch of tokens, darker where more of it is held."""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.window.engine.cache import WindowCache

COLUMNS = 240
WIDTH, HEIGHT = 3, 4  # pixels of a cell
LEFT, BELOW = 28, 14  # room for the labels
SHADES = 8


def kept_map(cache: WindowCache, row: int = 0) -> Tensor:
    """Which true positions of one sequence are held: bool [layer, head, token]. Layers with fewer heads than others repeat none."""
    if cache.row_tokens is None:
        return torch.zeros(len(cache.stores), 0, 0, dtype=torch.bool)
    n = int(cache.row_tokens[row])
    heads = max(store.layer.kv_heads for store in cache.stores)
    kept = torch.zeros(len(cache.stores), heads, n, dtype=torch.bool)
    for i, store in enumerate(cache.stores):
        positions = store.view().head_positions[row].cpu()
        for head in range(positions.shape[0]):
            kept[i, head, positions[head][positions[head] >= 0]] = True
    return kept


def svg(cache: WindowCache, row: int = 0) -> str:
    """The picture as an SVG document. Rows run through the heads of the first layer, then of the second, and so on; a thin line parts
    the layers. Numbers on the left are layers, those below are tokens."""
    kept = kept_map(cache, row)
    layers, heads, n = kept.shape
    columns = min(COLUMNS, n)
    width, height = LEFT + columns * WIDTH, layers * (heads * HEIGHT + 1) + BELOW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{int(kept.sum())} of {kept.numel()} key/value pairs kept; {layers} layers, {heads} heads, {n} tokens</title>",
            f'<rect x="{LEFT}" width="{columns * WIDTH}" height="{height - BELOW}" fill="#eef2f6"/>',
            *_cells(kept, columns),
            *_labels(layers, heads, n, columns, height),
            "</svg>",
        ]
    )


def _cells(kept: Tensor, columns: int) -> list[str]:
    """One path a shade, each a list of runs of equal cells: a picture of a real model stays small."""
    layers, heads, n = kept.shape
    edges = torch.linspace(0, n, columns + 1).round().long() if columns else torch.zeros(1, dtype=torch.long)
    sums = torch.nn.functional.pad(kept.long().cumsum(dim=-1), (1, 0))[..., edges]
    shares = sums.diff(dim=-1) / edges.diff()
    runs: dict[int, list[str]] = {}
    for layer in range(layers):
        for head in range(heads):
            y = layer * (heads * HEIGHT + 1) + head * HEIGHT
            values, counts = torch.unique_consecutive((shares[layer, head] * SHADES).ceil().int(), return_counts=True)
            starts = (counts.cumsum(0) - counts).tolist()
            for value, count, start in zip(values.tolist(), counts.tolist(), starts, strict=True):
                if value:
                    w = count * WIDTH
                    runs.setdefault(value, []).append(f"M{LEFT + start * WIDTH} {y}h{w}v{HEIGHT}h-{w}z")
    return [f'<path fill="#0b5cad" fill-opacity="{value / SHADES:g}" d="{"".join(runs[value])}"/>' for value in sorted(runs)]


def _labels(layers: int, heads: int, n: int, columns: int, height: int) -> list[str]:
    style = 'font-family="sans-serif" font-size="9" fill="#555"'
    step = max(1, round(12 / (heads * HEIGHT + 1)))  # no two labels closer than 12 pixels
    numbers = [(LEFT - 4, i * (heads * HEIGHT + 1) + 8, "end", i) for i in range(0, layers, step)]
    numbers += [(LEFT, height - 3, "start", 0), (LEFT + columns * WIDTH, height - 3, "end", n)]
    return [f'<text x="{x}" y="{y}" text-anchor="{side}" {style}>{number}</text>' for x, y, side, number in numbers]
