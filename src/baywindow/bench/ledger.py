"""The ledger: what each technique claims, what a run saw of it, and a verdict by rules that are stated beside it.

A technique is judged by every recipe of the run that holds it, on every model and length. Its rule follows from what kind of technique
it is, never from its name; a claim that the run cannot test is said to be untested, not judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from baywindow import registry
from baywindow.bench.plan import is_random, length_text
from baywindow.bench.report.blocks import with_sign
from baywindow.bench.stats import SMALLEST_N, Difference
from baywindow.bench.summary import STOCK, Cell, Summary, parsed_or_none, whole
from baywindow.recipe import Recipe
from baywindow.registry import ROOMS, Card

Verdict = Literal["holds", "partly", "not seen", "not tested"]
SMALLER = 0.9  # of the stock cache's bytes: less than that counts as smaller

RULES = (
    "Rules. A cache that drops tokens holds if the answer's NLL is lower than with a random choice of the same size and not higher than "
    "stock's; partly if one of the two; else it was not seen. A cache that packs or moves holds if it keeps at most 90 % of stock's bytes "
    "(or moves them) and the NLL is not higher than stock's; partly if one of the two. What shares out another's budget holds if the NLL "
    "is lower than without it. Positions and patterns hold if they answer beyond the model's own window, and within it only if the NLL is "
    "lower than stock's; within the window alone their claim is not tested. What works outside the model holds if the score is not lower "
    "than with the whole text in one prompt and fewer tokens were read; partly if one of the two. 'Lower' and 'higher' mean a paired "
    "difference whose 95 % interval does not hold 0 and whose p is below 0.05; below 5 samples nothing is judged. Over several "
    "models, lengths and settings: holds "
    "if it holds in all of them, not seen if in none even partly, else partly."
)


@dataclass(frozen=True)
class Entry:
    technique: str
    claim: str
    measured: str
    verdict: Verdict


@dataclass(frozen=True)
class Evidence:
    """One recipe on one model at one length."""

    where: str
    text: str
    verdict: Verdict


def ledger(summary: Summary) -> list[Entry]:
    """An entry a technique of the run, in the order of rooms and names."""
    found: dict[str, list[Evidence]] = defaultdict(list)
    for cell in summary.cells.values():
        recipe = parsed_or_none(cell.recipe)
        if recipe is None or recipe == Recipe() or is_random(recipe):
            continue
        for part in (*recipe.inside, *recipe.outside):
            found[part.card.name].append(_judged(summary, cell, recipe, part.card))
    order = list(ROOMS)
    names = sorted(found, key=lambda n: (order.index(registry.card(n).room), n))
    return [_entry(registry.card(name), found[name]) for name in names]


def _entry(card: Card, evidence: list[Evidence]) -> Entry:
    told = "; ".join(f"{e.where}: {e.text}" for e in evidence)
    return Entry(card.name, card.claim or card.summary, told, overall([e.verdict for e in evidence]))


def overall(verdicts: list[Verdict]) -> Verdict:
    """One verdict from those of all cells that tested anything."""
    tested = [v for v in verdicts if v != "not tested"]
    if not tested:
        return "not tested"
    if all(v == "holds" for v in tested):
        return "holds"
    return "not seen" if all(v == "not seen" for v in tested) else "partly"


def _judged(summary: Summary, cell: Cell, recipe: Recipe, card: Card) -> Evidence:
    where = f"{cell.recipe} on {cell.model} at {length_text(cell.length)}"
    if len(cell.values("nll")) < SMALLEST_N and len(cell.values("score")) < SMALLEST_N:
        return Evidence(where, "too few samples", "not tested")
    rule: Callable[[Summary, Cell, Recipe, Card], tuple[str, Verdict]]
    if card.side == "outside":
        rule = _outside
    elif card.slot == "allocate":
        rule = _allocates
    elif card.slot == "reduce":
        rule = _drops
    elif card.room == "window/caches":
        rule = _packs
    else:
        rule = _reaches
    return Evidence(where, *rule(summary, cell, recipe, card))


def _drops(summary: Summary, cell: Cell, recipe: Recipe, card: Card) -> tuple[str, Verdict]:
    stock, chance = summary.compared(cell, STOCK, "nll"), summary.chance(cell.recipe)
    against = summary.compared(cell, chance, "nll") if chance else None
    text = f"NLL less chance's {with_sign(against)}, less stock's {with_sign(stock)}"
    if stock is None or against is None:
        return text, "not tested"
    return text, _of_two(lower(against), not higher(stock))


def _packs(summary: Summary, cell: Cell, recipe: Recipe, card: Card) -> tuple[str, Verdict]:
    stock = summary.compared(cell, STOCK, "nll")
    share = _share(summary, cell, "kv_bytes", STOCK)
    if stock is None or share is None:
        return "no stock beside it", "not tested"
    small = share <= SMALLER or card.slot == "move"
    return f"{share:.0%} of stock's bytes, NLL less stock's {with_sign(stock)}", _of_two(small, not higher(stock))


def _allocates(summary: Summary, cell: Cell, recipe: Recipe, card: Card) -> tuple[str, Verdict]:
    without = Recipe(tuple(p for p in recipe.inside if p.card.name != card.name), recipe.outside)
    found = summary.compared(cell, str(without), "nll")
    if found is None:
        return f"no {without} beside it", "not tested"
    return f"NLL less that of {without} {with_sign(found)}", "holds" if lower(found) else "not seen"


def _reaches(summary: Summary, cell: Cell, recipe: Recipe, card: Card) -> tuple[str, Verdict]:
    window = int(summary.facts.get(f"model:{cell.model}", {}).get("window", 0))
    stock = summary.compared(cell, STOCK, "nll")
    if window and cell.length > window:
        score = cell.interval("score")
        answers = score is not None and score.low is not None and score.low > 0
        return f"beyond the window of {window}: score {score.mean if score else 0:.2f}", "holds" if answers else "not seen"
    text = f"within the window, NLL less stock's {with_sign(stock)}"
    if stock is None or not stock.seen:
        return text, "not tested"
    return text, "holds" if lower(stock) else "not seen"


def _outside(summary: Summary, cell: Cell, recipe: Recipe, card: Card) -> tuple[str, Verdict]:
    rival = whole() if summary.cell(cell.model, cell.length, whole()) else STOCK
    if cell.recipe == rival:
        return "what the others are compared with", "not tested"
    score, share = summary.compared(cell, rival, "score"), _share(summary, cell, "prompt_tokens", rival)
    if score is None or share is None or len(cell.values("score")) < SMALLEST_N:
        return "too few replies", "not tested"
    return f"score less that of {rival} {with_sign(score)}, {share:.0%} of its prompt tokens", _of_two(not lower(score), share < 1)


def _share(summary: Summary, cell: Cell, figure: str, other: str) -> float | None:
    rival = summary.cell(cell.model, cell.length, other)
    mine, theirs = cell.mean(figure), rival.mean(figure) if rival else None
    return mine / theirs if mine is not None and theirs else None


def lower(found: Difference) -> bool:
    return found.seen and found.interval.mean < 0


def higher(found: Difference) -> bool:
    return found.seen and found.interval.mean > 0


def _of_two(one: bool, other: bool) -> Verdict:
    return "holds" if one and other else "partly" if one or other else "not seen"
