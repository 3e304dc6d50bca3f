"""The pictures of a report, drawn by matplotlib without a screen: each as SVG for the page and as PNG for elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from baywindow.bench.plan import length_text
from baywindow.bench.report.blocks import Block
from baywindow.bench.summary import Cell, Summary
from baywindow.errors import MissingExtraError

COLUMNS = 5  # heat maps side by side
DPI = 110
STYLE: Any = {"svg.hashsalt": "baywindow", "svg.fonttype": "path", "font.size": 8, "axes.titlesize": 8}


def heat_maps(summary: Summary, model: str) -> list[Block]:
    """Depth by length, a panel a recipe: the gold answer's NLL, and the score where replies were written. For tasks with a depth."""
    found = []
    for figure, title, better in (("nll", "answer NLL", "lower is better"), ("score", "score", "higher is better")):
        grids = {r: _grid(summary, model, r, figure) for r in summary.recipes(model)}
        grids = {r: g for r, g in grids.items() if g is not None}
        if grids:
            lengths = [length_text(n) for n in summary.lengths(model)]
            text = f"{model}: {title} by depth of the needle and length ({better}; white: not measured)"
            draw = _panels([(r, g) for r, g in grids.items() if g is not None], lengths, reverse=figure == "score")
            found.append(block(f"{_slug(model)}-{figure}-by-depth", text, draw))
    return found


def _grid(summary: Summary, model: str, recipe: str, figure: str) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Mean by depth (rows, five bands) and length (columns); None where nothing has a depth."""
    lengths = summary.lengths(model)
    sums, counts = np.zeros((5, len(lengths))), np.zeros((5, len(lengths)))
    for at, length in enumerate(lengths):
        cell = summary.cell(model, length, recipe)
        for row in cell.good if cell else ():
            value = getattr(row, figure)
            if row.depth is not None and value is not None:
                band = min(4, round(row.depth * 4))
                sums[band, at] += value
                counts[band, at] += 1
    if not counts.any():
        return None
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _panels(grids: Sequence[tuple[str, Any]], lengths: Sequence[str], reverse: bool) -> Callable[[Any], None]:
    def draw(figure: Any) -> None:
        columns = min(COLUMNS, len(grids))
        rows = -(-len(grids) // columns)
        figure.set_size_inches(2.2 * columns + 0.8, 2.0 * rows + 0.3)
        low = float(np.nanmin([np.nanmin(g) for _, g in grids]))
        high = float(np.nanmax([np.nanmax(g) for _, g in grids]))
        axes = figure.subplots(rows, columns, squeeze=False)
        image = None
        for i, ax in enumerate(axes.flat):
            if i >= len(grids):
                ax.set_visible(False)
                continue
            recipe, grid = grids[i]
            colours = "viridis" if reverse else "viridis_r"
            image = ax.pcolormesh(grid, cmap=colours, vmin=low, vmax=max(high, low + 1e-9))  # squares, where imshow would embed pixels
            ax.invert_yaxis()
            ax.set_title(_short(recipe))
            ax.set_xticks([at + 0.5 for at in range(len(lengths))], lengths)
            ax.set_yticks([at + 0.5 for at in range(5)], ["0", "¼", "½", "¾", "1"] if i % columns == 0 else [""] * 5)
            for (y, x), value in np.ndenumerate(grid):
                if not np.isnan(value):
                    bright = (value - low) / max(high - low, 1e-9)
                    dark = bright < 0.5 if reverse else bright > 0.5
                    ax.text(x + 0.5, y + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=6, color="white" if dark else "black")
        figure.colorbar(image, ax=axes, shrink=0.8)

    return draw


def pareto(summary: Summary, model: str, length: int) -> list[Block]:
    """Quality against memory and against time; what nothing else beats in both is joined by a line.

    Recipes measured on less than half of the samples that others have are named instead: other samples are another height.
    """
    every = [summary.cells[model, length, r] for r in summary.recipes(model, length)]
    most = max((len(cell.good) for cell in every), default=0)
    cells = [cell for cell in every if 2 * len(cell.good) >= most]
    panels = [
        ("KV MiB held", lambda c: _scaled(c.mean("kv_bytes"), 2**-20)),
        ("processor seconds a sample", lambda c: c.mean("cpu_seconds")),
        ("seconds a sample", lambda c: c.mean("seconds")),
    ]
    found = [(title, points) for title, x in panels if len(points := _points(cells, x)) > 1]
    if not found:
        return []
    text = (
        f"{model}, {length_text(length)}: answer NLL (lower is better) against memory and time; the line joins what nothing beats in both"
    )
    if few := [cell.recipe for cell in every if 2 * len(cell.good) < most]:
        text += f"; left out, being measured on fewer samples: {', '.join(few)}"
    return [block(f"{_slug(model)}-{length_text(length)}-pareto", text, scatter(found))]


def _points(cells: Sequence[Cell], x: Callable[[Cell], float | None]) -> list[tuple[str, float, float, bool]]:
    found = []
    for cell in cells:
        at, loss = x(cell), cell.mean("nll")
        if at is not None and loss is not None:
            found.append((cell.recipe, at, loss, cell.asked))
    return found


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of points that no other beats or equals in both coordinates (smaller is better), by the first; of equal points the first."""
    order = sorted(range(len(points)), key=lambda i: (*points[i], i))
    found: list[int] = []
    for i in order:
        if not found or points[i][1] < points[found[-1]][1]:
            found.append(i)
    return found


def scatter(panels: Sequence[tuple[str, list[tuple[str, float, float, bool]]]]) -> Callable[[Any], None]:
    """Panels of (what x is, points), each point a recipe, x, its answer NLL, and whether it was asked through `ask`."""

    def draw(figure: Any) -> None:
        figure.set_size_inches(5.0 * len(panels), 4.6)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, points) in zip(axes, panels, strict=True):
            for _, x, y, asked in points:
                ax.plot([x], [y], marker="s" if asked else "o", color="tab:orange" if asked else "tab:blue", markersize=5)
            best = [points[i] for i in front([(x, y) for _, x, y, _ in points])]
            ax.plot([p[1] for p in best], [p[2] for p in best], color="0.6", linewidth=1, zorder=0)
            ax.set_xlabel(title)
            ax.set_ylabel("answer NLL")
            ax.grid(alpha=0.3)
            ax.margins(0.1)
        figure.draw_without_rendering()  # what comes is in pixels: the axes must have their place
        figure.set_layout_engine("none")
        for ax, (_, points) in zip(axes, panels, strict=True):
            _named(ax, [(_short(recipe), x, y) for recipe, x, y, _ in points])

    return draw


def _named(ax: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Labels beside their points, none over another or over a point; where there is no room beside it, a line leads to the point."""
    import textalloc

    names, xs, ys = (list(column) for column in zip(*points, strict=True))
    textalloc.allocate(
        ax, xs, ys, names, x_scatter=xs, y_scatter=ys, textsize=6, linecolor="0.6", linewidth=0.5, max_distance=0.4, nbr_candidates=400
    )


def block(name: str, text: str, draw: Callable[[Any], None]) -> Block:
    """A figure block; MissingExtraError without matplotlib."""
    try:
        import matplotlib
        import textalloc  # noqa: F401 - used by one of the figures, missed by all alike
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError.of("what draws reports (matplotlib)", "bench") from None
    with matplotlib.rc_context(STYLE):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once for both forms
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    picture = svg.getvalue()
    inline = picture[picture.index("<svg") :]
    return Block(kind="figure", name=name, text=text, svg=_own_ids(inline, name), png=png.getvalue())


def _own_ids(svg: str, name: str) -> str:
    """Ids made this figure's own: several figures stand in one page, and matplotlib numbers each from the start."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)


def _short(recipe: str) -> str:
    flat = recipe.replace("budget_fraction=", "").replace("budget_tokens=", "")
    return flat if len(flat) <= 30 else flat[:29] + "…"


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value * by


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
