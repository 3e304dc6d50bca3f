"""A reply that goes in circles is ended; one that only repeats a little is not."""

from __future__ import annotations

import random

import pytest

from baywindow.models import circles
from baywindow.models.circles import in_circles, read_until_circling

ITEM = '{{"message": {n}, "quote": "Caroline went to a support group", "fact": "Caroline went to a group."}}, '
PROSE = (
    "The harbour of Arden has two piers. The older one, of wood, was closed in 1987 after a storm; the newer one is used by the ferry, "
    "which leaves at 21:40 on weekdays. Tickets are sold on board, for cash only. The harbour master keeps a list of all boats."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ITEM.format(n=1), False),
        (ITEM.format(n=1) + ITEM.format(n=2), False),  # 89 characters, numbers aside: long enough only three times
        (ITEM.format(n=9) + ITEM.format(n=10) + ITEM.format(n=11), True),  # counted on, and through the tens
        ((PROSE + " ") * 2, True),  # a long stretch needs two
        (PROSE, False),
        ("| --- " * 9, True),  # three times three cells
        ("\n" * 100, True),
        ("ha " * 5, False),
        ("", False),
        (ITEM.format(n=1) * 3 + "and an end", False),  # over
        ("[" + ", ".join(map(str, range(1, 60))), False),  # a list of numbers is none
        ("[" + ", ".join(f'"m{n}"' for n in range(1, 60)), False),  # nor one of names that are counted on
        ("[" + "7, " * 60, True),
    ],
)
def test_worked_examples(text: str, expected: bool) -> None:
    assert in_circles(text) == expected


def test_against_every_way_to_cut_the_end(monkeypatch) -> None:
    """Oracle: try each size of a stretch, compare the stretches as strings."""
    monkeypatch.setattr(circles, "LEAST_CHARACTERS", 3)
    monkeypatch.setattr(circles, "LONG_CHARACTERS", 5)
    drawn = random.Random(3)

    def some(most: int) -> str:
        return "".join(drawn.choices("ab", k=drawn.randrange(most)))

    texts = [some(12) + some(9) * drawn.randrange(1, 4) + some(2) for _ in range(2000)]

    def expected(text: str) -> bool:
        three = any(text.endswith(text[-size:] * 3) for size in range(3, len(text) // 3 + 1))
        return three or any(text.endswith(text[-size:] * 2) for size in range(5, len(text) // 2 + 1))

    found = [in_circles(text) for text in texts]
    assert found == [expected(text) for text in texts]
    assert 0.1 < sum(found) / len(found) < 0.9


def test_reading_ends_within_some_pieces_of_the_circle(scripted) -> None:
    begun = " ".join(ITEM.format(n=n).strip() for n in range(1, 4))
    reply = " ".join(ITEM.format(n=n).strip() for n in range(1, 40))
    done = read_until_circling(scripted([reply]).generate("Q"))
    assert reply.startswith(done.text)
    assert len(begun) <= len(done.text) + circles.PIECES * 10
    assert len(done.text.split()) <= len(begun.split()) + circles.PIECES
    assert done.generated_tokens == len(done.text.split())


def test_a_reply_that_comes_to_an_end_is_read_whole(scripted) -> None:
    assert read_until_circling(scripted([PROSE]).generate("Q")).text == PROSE
