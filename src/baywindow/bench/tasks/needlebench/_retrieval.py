"""One fact (``single``), eleven facts at all depths (``multi``), or a line of relatives spread over the text (``multi_reasoning``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from baywindow.bench.base import Order, Sample
from baywindow.bench.sized import insert_by_length, prefix, rng_of, sized
from baywindow.bench.tasks.needlebench._facts import facts
from baywindow.bench.tasks.needlebench._people import kinship, people
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

OPEN = "This tests how well you read a long text. First read the whole document below, then answer {what} from what it says.\n\n<Document>"
CLOSE = "</Document>\n\n"
DEPTHS = tuple(i / 10 for i in range(11))
GAP = 0.1  # of the filler, between one relative and the next
ELDEST = """Judging by the document alone, who is the eldest relative that {name} can be traced back to?

How to count, by example: if only "Ann Ray's mother is Lee Fox" is known, Ann Ray is traced back to \\boxed{{Lee Fox}}. If also "Lee Fox's \
grandfather is Max Orr" is known, Ann Ray is traced back to \\boxed{{Max Orr}}.
Names say nothing here about who is a man or a woman, nor about who shares a family name: only who is older counts.
End with the answer in a box: "{name} can be traced back to \\boxed{{the name}}"."""


def single(order: Order) -> Sample:
    """One fact at one depth."""
    rng = rng_of("needlebench.single", order)
    fact = facts(1, rng)[0]
    depth = order.depth if order.depth is not None else rng.choice(DEPTHS)
    question = f"{CLOSE}From what the document says, answer: {fact.question} Answer in the form: {fact.form}"
    made = Sample(
        id="",
        documents=(),
        instruction=OPEN.format(what="the question after it"),
        question=question,
        gold=(fact.keyword,),
        scorer="needlebench_keywords",
        max_new_tokens=64,
        metadata={"depth": depth},
    )
    return hidden("needlebench.single", order, made, [(depth, fact.sentence)])


def multi(order: Order) -> Sample:
    """A fact at each of eleven depths; all are asked for in one question."""
    rng = rng_of("needlebench.multi", order)
    found = facts(len(DEPTHS), rng)
    questions = "\n".join(f"{i}. {fact.question}" for i, fact in enumerate(found, 1))
    forms = "\n".join(f"{i}. {fact.form}" for i, fact in enumerate(found, 1))
    made = Sample(
        id="",
        documents=(),
        instruction=OPEN.format(what="the questions after it one by one"),
        question=f"{CLOSE}From what the document says, answer:\n{questions}\nAnswer in the form:\n{forms}",
        gold=tuple(fact.keyword for fact in found),
        scorer="needlebench_keywords",
        max_new_tokens=320,
        metadata={"depths": list(DEPTHS), "needles": len(DEPTHS)},
    )
    return hidden("needlebench.multi", order, made, list(zip(DEPTHS, [fact.sentence for fact in found], strict=True)))


def multi_reasoning(order: Order) -> Sample:
    """Two to five links of kinship in random order, one every tenth of the text from the depth on, and the question where they lead."""
    links = order.options.get("needles", 2)
    if not isinstance(links, int) or not 2 <= links <= 5:
        raise ConfigError.bad_value("needles", links, "2, 3, 4 or 5")
    rng = rng_of("needlebench.multi_reasoning", order, f"{links}")
    names = people(links + 1, rng)
    sentences, _ = kinship(names, rng)
    rng.shuffle(sentences)
    depth = order.depth if order.depth is not None else rng.choice(DEPTHS)
    depths = [round(min(depth + GAP * i, 1.0), 4) for i in range(links)]
    made = Sample(
        id="",
        documents=(),
        instruction=OPEN.format(what="the question after it"),
        question=CLOSE + ELDEST.format(name=names[-1]),
        gold=(names[0],),
        scorer="needlebench_boxed",
        max_new_tokens=512,
        metadata={"depth": depth, "depths": depths, "needles": links},
    )
    return hidden("needlebench.multi_reasoning", order, made, list(zip(depths, sentences, strict=True)))


def hidden(task: str, order: Order, made: Sample, placed: Sequence[tuple[float, str]]) -> Sample:
    """``made`` with its document: natural text up to the length, the needles on lines of their own."""
    around = order.counter(made.instruction) + order.counter(made.question)
    overhead = around + sum(order.counter(f"\n{text}\n") for _, text in placed)
    lines = [(depth, f"\n{text}\n") for depth, text in placed]

    def build(room: int) -> Sample:
        units = prefix(order.haystack.from_seed(order.seed), room - overhead, order.counter)
        text = " ".join(insert_by_length(units, lines)).replace(" \n", "\n").replace("\n ", "\n").strip("\n")
        return replace(made, documents=(Document(text, "document.txt"),), metadata={**made.metadata, "haystack": order.haystack.name})

    return sized(task, order, build)
