"""A picture of what a cache kept: one row a layer and head, one column a stretch of tokens, darker where more of it is held."""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.window.engine.cache import WindowCache

COLUMNS = 240
CELL = 4  # pixels of a row's height


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
    the layers."""
    kept = kept_map(cache, row)
    layers, heads, n = kept.shape
    columns = min(COLUMNS, n)
    edges = torch.linspace(0, n, columns + 1).round().long().tolist() if columns else []
    height, width = layers * (heads * CELL + 1), columns * 3
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">']
    parts.append(f"<title>{int(kept.sum())} of {kept.numel()} key/value pairs kept; {layers} layers, {heads} heads, {n} tokens</title>")
    for layer in range(layers):
        for head in range(heads):
            y = layer * (heads * CELL + 1) + head * CELL
            for c in range(columns):
                share = float(kept[layer, head, edges[c] : edges[c + 1]].float().mean())
                if share:
                    parts.append(f'<rect x="{c * 3}" y="{y}" width="3" height="{CELL}" fill="#0b5cad" fill-opacity="{share:.2f}"/>')
    return "\n".join([*parts, "</svg>"])
