"""html_to_tsv: read a page's items and write those asked for as tab-separated rows."""

from __future__ import annotations

import random
import re
import string

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._names import Fresh, word
from baywindow.bench.tasks._whole import Whole
from baywindow.bench.tasks.longproc._shared import level_of
from baywindow.documents.base import Document

NAME = "longproc.html_to_tsv"
INSTRUCTION = "Below is the HTML of a page that lists articles for sale. Take from it what is asked for after it."
QUESTION = """List every article of the section "{section}", and no other, in the order of the page, with its name, price and shop. \
Reply with nothing but tab-separated rows under this header, in a block that begins with ```tsv and ends with ```; write N/A where the \
page tells no value:
```tsv
name\tprice\tshop
```"""
SECTIONS = ("Garden", "Kitchen", "Music", "Sport", "Office", "Travel", "Toys", "Art")
PAGE_START = (
    '<html>\n<head><title>Market of the day</title></head>\n<body>\n<ul class="menu"><li>Home</li><li>Search</li><li>Basket</li></ul>'
)
PAGE_END = '<div class="foot">Prices with tax, without delivery.</div>\n</body>\n</html>'


def html_to_tsv(order: Order) -> Sample:
    """So many rows are wanted as the level's reply holds; articles of other sections fill the length."""
    level, target, most = level_of(order)
    rng = rng_of(NAME, order)
    section, fresh = rng.choice(SECTIONS), Fresh(rng)
    wanted: list[tuple[str, str]] = []  # the row, and the article on the page
    used = 0
    while used < 0.97 * target:
        row, shown = _article(section, fresh, rng)
        used += order.counter("\n" + row)
        wanted.append((row, shown))
    depths = sorted(rng.random() for _ in wanted)
    placed = [(depth, shown) for depth, (_, shown) in zip(depths, wanted, strict=True)]
    question = QUESTION.format(section=section)
    rest = [s for s in SECTIONS if s != section]
    others = Whole(lambda: _article(rng.choice(rest), fresh, rng)[1], order.counter)
    gold = "\n".join(["```tsv", "name\tprice\tshop", *(row for row, _ in wanted), "```"])
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, question, PAGE_START, PAGE_END, *(text for _, text in placed)))

    def build(room: int) -> Sample:
        page = [PAGE_START, *insert_at(others.upto(room - overhead), placed), PAGE_END]
        return Sample(
            id="",
            documents=(Document("\n".join(page), "page.html"),),
            instruction=INSTRUCTION,
            question=question,
            gold=(gold,),
            scorer="longproc_rows",
            max_new_tokens=most,
            metadata={"level": level, "rows": len(wanted), "items": len(page) - 2, "gold_tokens": order.counter(gold)},
        )

    return sized(NAME, order, build)


def _article(section: str, fresh: Fresh, rng: random.Random) -> tuple[str, str]:
    """The row of an article and its HTML. One in eight has no price; a line of small talk stands below some."""
    name, shop = f"{fresh.name()} {word(rng)}", f"{word(rng).capitalize()} & Co"
    price = f"{rng.randint(1, 999)}.{rng.randint(0, 99):02} EUR" if rng.random() > 1 / 8 else ""
    cost = f'<span class="price">{price}</span>' if price else ""
    note = f"<p>{word(rng)} {word(rng)} {word(rng)}</p>" if rng.random() < 0.5 else ""
    shown = f'<div class="item"><h3>{name}</h3><em>{section}</em>{cost}<a href="/{word(rng)}">{shop.replace("&", "&amp;")}</a>{note}</div>'
    return f"{name}\t{price or 'N/A'}\t{shop}", shown


def _rows(reply: str) -> list[tuple[str, ...]]:
    """The rows below the header, in normal form; a row of another width is one of nothing but N/A."""
    found = re.search(r"```tsv(.*)```", reply, re.DOTALL)
    text = found[1] if found else reply.split("```tsv", 1)[-1]
    header, *lines = text.strip().splitlines() or [""]
    width = header.count("\t") + 1
    if lines and lines[-1].count("\t") + 1 != width:
        lines = lines[:-1]  # a closing remark, or a row that was not finished
    return [tuple(map(_plain, line.split("\t"))) if line.count("\t") + 1 == width else ("na",) * width for line in lines]


def _plain(cell: str) -> str:
    bare = "".join(c for c in cell.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b|\s", "", bare)


@metric
def longproc_rows(reply: str, turn: Turn) -> float:
    """F1 of whole rows, whatever their order, cells compared without case, punctuation, articles and spaces."""
    said, gold = _rows(reply), _rows(turn.gold[0])
    if not said:
        return 0.0
    precision, recall = sum(row in gold for row in said) / len(said), sum(row in said for row in gold) / len(gold)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
