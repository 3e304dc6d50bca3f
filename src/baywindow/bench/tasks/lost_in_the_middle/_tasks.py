"""Documents one of which answers the question, and pairs of identifiers one of which is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from baywindow.bench.base import Order, Sample
from baywindow.bench.sized import Drawn, rng_of, sized
from baywindow.bench.tasks._invented import ONE_HOP_FACTS, Passage, World, one_hop, upto
from baywindow.bench.tasks._pairs import Others, a_uuid, among_pairs, uuid_pair
from baywindow.bench.tasks.lost_in_the_middle._published import rows
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

ASK_DOCUMENTS = (
    "Answer the question well and in few words. Use nothing but the search results below; some of them may have nothing to do with it."
)
ASK_PAIR = "Below is a JSON object. Give the value that belongs to the key that is asked for."


def documents(order: Order) -> Sample:
    """Numbered search results, one of them with the answer; ``order.depth`` says where, from first (0) to last (1)."""
    task = "lost_in_the_middle.documents"
    question, answers, gold, others, made_from = _material(task, order)
    depth = order.depth if order.depth is not None else round(rng_of(task, order).random(), 4)
    asked = f"\nQuestion: {question}"
    instruction = f"{ASK_DOCUMENTS}\n{asked}\n" if order.options.get("query_aware") else f"{ASK_DOCUMENTS}\n"
    joint = f"\n\nDocument [{'1' * len(str(order.tokens // 100))}](Title: Ada) "
    overhead = order.counter(instruction) + order.counter(asked) + order.counter(joint + gold.title + gold.text)
    pool: Drawn[Passage] = Drawn(lambda: next(others))

    def build(room: int) -> Sample:
        fitting = [f"{p.title}) {p.text}" for p in upto(pool.endless(), room - overhead, order.counter, joint)]
        at = round(depth * len(fitting))
        shown = [f"Document [{i}](Title: {text}" for i, text in enumerate([*fitting[:at], f"{gold.title}) {gold.text}", *fitting[at:]], 1)]
        return Sample(
            id="",
            documents=tuple(Document(text, f"document-{i}") for i, text in enumerate(shown, 1)),
            instruction=instruction,
            question=asked,
            answer_prefix="Answer:",
            gold=answers,
            scorer="lost_in_the_middle_first_line",
            max_new_tokens=100,
            metadata={"depth": depth, "gold_at": at, "documents": len(shown), "data": made_from},
        )

    return sized(task, order, build)


def _material(task: str, order: Order) -> tuple[str, tuple[str, ...], Passage, Iterator[Passage], str]:
    if not order.options.get("data"):
        world = World(task, order)
        question, answer, passage = one_hop(world)
        return question, (answer,), passage, world.others(ONE_HOP_FACTS), f"invented facts in {order.haystack.name}"
    path = Path(str(order.options["data"]))
    found = rows(path)
    question, answers, gold, near = found[order.seed % len(found)]
    return question, answers, gold, _distractors(order, near, gold, answers), path.name


def _distractors(order: Order, near: tuple[Passage, ...], gold: Passage, answers: tuple[str, ...]) -> Iterator[Passage]:
    """The question's own by rank, then those of later questions that do not hold the answer, again and again."""
    path = Path(str(order.options["data"]))
    found = rows(path)
    yield from near
    lower = [answer.lower() for answer in answers]
    for n in range(1, 1_000_000):
        for passage in found[(order.seed + n) % len(found)][3]:
            if passage != gold and not any(answer in passage.text.lower() for answer in lower):
                yield passage
    raise ConfigError(f"{path} has no passage without the answer", hint="use the whole published file")


def key_value(order: Order) -> Sample:
    """Random identifiers as keys and values; ``order.depth`` says where in the object the key stands."""
    task = "lost_in_the_middle.key_value"
    rng = rng_of(task, order)
    key, value = a_uuid(rng), a_uuid(rng)
    depth = order.depth if order.depth is not None else round(rng.random(), 4)
    asked = f'\nKey: "{key}"'
    made = Sample(
        id="",
        documents=(),
        instruction=f"{ASK_PAIR}\n{asked}\n" if order.options.get("query_aware") else f"{ASK_PAIR}\n",
        question=asked,
        answer_prefix="Its value:",
        gold=(value,),
        scorer="includes_any",
        max_new_tokens=100,
        metadata={"depth": depth},
    )
    return among_pairs(task, order, made, [(depth, f'"{key}": "{value}"')], Others(uuid_pair, uuid_pair, ",\n "))
