"""TSort: four shuffled pieces of a running text are put back into their order."""

from __future__ import annotations

import itertools
import json

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.sized import prefix, rng_of, sized
from baywindow.documents.base import Document
from baywindow.errors import SourceError

NAME = "ada_leval.tsort"
INSTRUCTION = (
    "A running text was cut into four pieces, which are given below as Text 1 to Text 4 in mixed order, "
    "between what comes before them and what comes after them."
)
QUESTION = "In which order do the four texts belong? Reply with a list of their numbers and nothing else, in the form: Answer: [4, 2, 3, 1]"
_PIECES = 4
_AROUND = 0.05  # of the text, on either side


def tsort(order: Order) -> Sample:
    """The pieces are of one length and make up nine tenths of the text; their labels are drawn."""
    if len(order.haystack.sentences) < 2 * _PIECES:
        raise SourceError(f"{NAME} takes a haystack of at least {2 * _PIECES} sentences", hint="name a folder with more text")
    rng = rng_of(NAME, order)
    labels = rng.sample(range(1, _PIECES + 1), _PIECES)  # the label of each piece, in the text's order
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, QUESTION, *(_named(i, "") for i in range(_PIECES + 2))))

    def build(room: int) -> Sample:
        sentences = prefix(order.haystack.from_seed(order.seed), room - overhead, order.counter)
        before, *pieces, after = parts(sentences, len(order.haystack.sentences))
        shown = sorted(zip(labels, pieces, strict=True))
        texts = [("before", before), *((str(label), piece) for label, piece in shown), ("after", after)]
        return Sample(
            id="",
            documents=tuple(Document(_named(label, text), f"{i}_{label}.txt") for i, (label, text) in enumerate(texts)),
            instruction=INSTRUCTION,
            question=QUESTION,
            gold=(f"Answer: {json.dumps(labels)}",),
            scorer="ada_leval_order",
            max_new_tokens=64,
            metadata={"haystack": order.haystack.name, "repeats": len(sentences) > len(order.haystack.sentences)},
        )

    return sized(NAME, order, build)


def _named(label: object, text: str) -> str:
    return f"{'Text ' if str(label).isdigit() else ''}{str(label).capitalize()}:\n{text}"


def parts(sentences: list[str], cycle: int) -> list[str]:
    """What comes before, four pieces, what comes after.

    A haystack shorter than the text repeats after ``cycle`` sentences. Pieces that began at the same one would be alike, so they are made
    one sentence shorter then: each piece's start follows another's end, and only one order fits.
    """
    around = max(1, round(_AROUND * len(sentences)))
    length = max(1, (len(sentences) - 2 * around) // _PIECES)
    while length > 1 and len({i * length % cycle for i in range(_PIECES)}) < _PIECES:
        length -= 1
    ends = [around + i * length for i in range(_PIECES + 1)]
    return [" ".join(sentences[a:b]) for a, b in zip([0, *ends], [*ends, len(sentences)], strict=True)]


@metric
def ada_leval_order(reply: str, turn: Turn) -> float:
    """1 if the order is right: a JSON list after ``Answer:``, or else the one permutation of 1 to 4 that the reply's digits contain."""
    return float(_order_in(reply) == _order_in(turn.gold[0]))


def _order_in(reply: str) -> list[int] | None:
    said = reply.split("Answer:", 1)[-1].strip()
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if isinstance(found, list):
        return found
    fitting = [p for p in itertools.permutations("1234") if _contains(said, p)]
    return [int(digit) for digit in fitting[0]] if len(fitting) == 1 else None


def _contains(text: str, digits: tuple[str, ...]) -> bool:
    """The digits occur in this order, with anything between them."""
    rest = iter(text)
    return all(digit in rest for digit in digits)
