"""Lost in the Middle: does it matter where in the context the answer stands.

Paper: Liu et al. 2023, Lost in the Middle: How Language Models Use Long Contexts (arXiv 2307.03172). What it is and how it is scored was
read from nelson-liu/lost-in-the-middle; none of it was copied.
"""

from __future__ import annotations

from baywindow.bench.base import Generated, Suite, Turn, metric
from baywindow.bench.metrics.match import normalised
from baywindow.bench.tasks.lost_in_the_middle._tasks import documents, key_value

__all__ = ["SUITE"]


@metric
def lost_in_the_middle_first_line(reply: str, turn: Turn) -> float:
    """1 if the first line that is not blank contains a gold answer, both in SQuAD's normal form."""
    first = normalised(reply.strip().split("\n")[0])
    return float(any(normalised(gold) in first for gold in turn.gold))


SUITE = Suite(
    name="lost_in_the_middle",
    summary="questions over many documents and key-value pairs, by the position of what is asked for",
    paper="arXiv 2307.03172",
    year=2023,
    claim="accuracy over the gold position is U-shaped with 20 or more documents; the query before and after makes key-value near perfect",
    departures=(
        "documents without the option data are about invented places, since the questions of NQ-open are not shipped; metadata says so",
        "the number of documents and pairs follows from the length; published are 10, 20, 30 documents and 75, 140, 300 pairs",
        "the last distractor may be cut at a word, so that the length is exact",
        "prompts say in our words what the published ones say",
        "the first line that is not blank is scored; the published code scores an empty first line 0",
        "each order draws its own pairs; the published files use the same pairs at every position",
    ),
    tasks=(
        Generated(
            name="lost_in_the_middle.documents",
            summary="a question that one of many search results answers",
            scorer="lost_in_the_middle_first_line",
            max_new_tokens=100,
            options={"data": None, "query_aware": False},
            build=documents,
            min_tokens=512,
            has_depth=True,
        ),
        Generated(
            name="lost_in_the_middle.key_value",
            summary="the value of one key in a JSON object of random identifiers",
            scorer="includes_any",
            max_new_tokens=100,
            options={"query_aware": False},
            build=key_value,
            min_tokens=2048,
            has_depth=True,
        ),
    ),
)
