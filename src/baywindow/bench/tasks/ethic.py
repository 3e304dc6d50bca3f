"""ETHIC: tasks that need nearly all of the text: recalling, summarising, organising, attributing.

Paper: Lee et al., 2024, ETHIC: Evaluating Large Language Models on Long-Context Tasks with High Information Coverage, arXiv 2410.16848; its
code was read. A record has ``ID``, ``Domain``, ``System_msg``, ``User_msg`` and ``Answer``: the prompt comes ready with the set. How
much of a context a query needs is `metrics.coverage.information_coverage`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from baywindow.bench.base import Sample, Suite, Turn, metric
from baywindow.bench.metrics.f1 import overlap
from baywindow.bench.referees import refereed, the_judge
from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Row, Source, Subset, documents_of, loaded

WHERE = "give the folder of the set's files; a task is the file NAME.jsonl (Recalling.jsonl, …)"
# Around the text stands what the set's own prompts say.
_CONTEXT = re.compile(r"(.*?### Context:\n)(.+?)(\n\nNow, respond to the instruction.*)", re.DOTALL)
_SECTION = re.compile(r"(<(?:Section|Segment) \d+>)")
_ANSWERS = re.compile(r"(?:Related Segments|Core IDs):\s*(.+)")


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    for number, row in enumerate(subset.source.rows(path)):
        yield _sample(subset, number, row)


def _sample(subset: Subset, number: int, row: Row) -> Sample:
    system, user = row.text("System_msg"), row.text("User_msg")
    before, text, after = found.groups() if (found := _CONTEXT.fullmatch(user)) else ("", user, "")
    told = {"domain": str(row.get("Domain") or ""), "set_id": str(row.get("ID") or number), "instruction": f"{system}\n\n{before}".strip()}
    gold = row.texts("Answer")
    told["answer"] = "; ".join(gold)  # of a list all is the answer
    if subset.name == "summarizing":
        told["sections"] = dict(_sections(text))  # type: ignore[assignment]  # plain JSON, as metadata may hold
    return subset.sample(number, documents_of(text, f"{subset.task}/{number}"), after.strip(), gold, **told)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    parts = _SECTION.split(text)
    for i in range(1, len(parts), 2):
        yield parts[i], parts[i + 1].strip()


@metric
def ethic_recalling(reply: str, turn: Turn) -> float:
    """F1 of the sets of names, parted by commas and semicolons, letter case apart."""
    return overlap(_names(reply), _names("; ".join(turn.gold)))[2]


@metric
def ethic_attributing(reply: str, turn: Turn) -> float:
    """F1 of the sets of numbers behind the answer cue (in all of the reply without one). No number is the answer None.

    Trap, mended: the published test for an empty answer never fires, so that a right "none" scores 0.
    """
    cued = _ANSWERS.search(reply)
    said = set(re.findall(r"\d+", cued.group(1) if cued else reply)) or {"None"}
    gold = {m.group() for answer in turn.gold if (m := re.search(r"\d+", answer))} or {"None"}
    return overlap(sorted(said), sorted(gold))[2]


@metric
@refereed("judge")
def ethic_summarizing(reply: str, turn: Turn) -> float:
    """Mean over the sections of consistency, faithfulness and relevance, 1 to 5 each, mapped to 0 to 1.

    Trap, mended: the published mean leaves out sections that the reply leaves out, so that omission is free; here they score 0.
    """
    judge, said = the_judge(), dict(_sections(reply))
    sections = turn.metadata.get("sections") or {}
    total = 0.0
    for tag, document in sections.items():
        if summary := said.get(tag):
            total += sum(judge.grade(r, document=document, summary=summary) for r in ("consistency", "faithfulness", "relevance")) / 3
    return total / len(sections) if sections else 0.0


def _names(text: str) -> list[str]:
    return sorted({name for piece in re.split(r"[;,\n]\s*", text) if (name := piece.lower().strip().strip(".").strip())})


def _subset(name: str, summary: str, scorer: str) -> Subset:
    config = name.capitalize()
    source = Source(names=(f"{config}.jsonl", f"{name}.jsonl"), hub=Hub(repo="dmis-lab/ETHIC", config=config), where=WHERE)
    return Subset(suite="ethic", name=name, summary=summary, scorer=scorer, max_new_tokens=4096, source=source)


SUITE = Suite(
    name="ethic",
    summary="recalling, summarising, organising, attributing: tasks that need nearly all of the text",
    paper="arXiv 2410.16848",
    year=2024,
    claim="Models near perfect on retrieval lose much more where the question needs about nine tenths of the text.",
    departures=(
        "'none' is a right answer to attributing where nothing is the answer; the published scorer gives it 0",
        "sections that a summary leaves out score 0; the published mean leaves them out too",
        "the judge's criteria are in our own words; verdicts of 1 to 5 are mapped to 0 to 1",
        "names said twice in recalling count once on both sides",
    ),
    tasks=tuple(
        loaded(_subset(*row), load)
        for row in (
            ("recalling", "name all of a kind in the text", "ethic_recalling"),
            ("summarizing", "summarise every section", "ethic_summarizing"),
            ("organizing", "put shuffled parts in order", "order_lcs"),
            ("attributing", "name all parts that bear on something", "ethic_attributing"),
        )
    ),
)
