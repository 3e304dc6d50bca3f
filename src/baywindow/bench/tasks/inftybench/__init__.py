"""InfiniteBench: twelve tasks of 100k tokens and more: retrieval, books, dialogue, mathematics, code.

Paper: Zhang et al., 2024, ∞Bench: Extending Long Context Evaluation Beyond 100K Tokens, arXiv 2402.13718; its code was read.
A record has ``context``, ``input``, ``answer`` and, where there are any, ``options``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baywindow.bench.base import Sample, Suite
from baywindow.bench.tasks._loading import Row, Subset, documents_of, loaded
from baywindow.bench.tasks.inftybench import _scores
from baywindow.bench.tasks.inftybench._subsets import SUBSETS
from baywindow.errors import SourceError

_CALL = re.compile(r"func_\d+\(-?\d+\)")


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    for number, row in enumerate(subset.source.rows(path)):
        text = str(row.get("context") or row.get("content") or "")
        question, gold, told = _asked(subset.name, row)
        yield subset.sample(number, documents_of(text, f"{subset.task}/{number}"), question, gold, **told)


def _asked(name: str, row: Row) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """Question, gold and what else is told, by task."""
    question, gold = str(row.get("input") or ""), row.texts("answer")
    if name in ("code_debug", "longbook_choice_eng"):
        return _choice(row, question)
    if name == "code_run":
        called = _CALL.search(question)
        if not called:
            raise SourceError(f"{row.place}: no call such as func_1(2) in input", hint="is this the published file?")
        return called.group(), gold, {"instruction": f"Python functions follow, {called.group().split('(')[0]} among them."}
    if name == "math_find":
        which = re.search(r"[Tt]he (.+?) of", question)
        return question, gold, {"instruction": f"Find the {which.group(1)} in this list."} if which else {}
    if name == "math_calc":
        numbers = [str(n) for n in gold]
        first = _scores.first_operand(str(row.get("context") or ""))
        return "", (", ".join(numbers),), {"first": first, "answer": ", ".join([first, *numbers])}
    if name == "longbook_qa_chn" or len(gold) == 1 or name in ("longbook_qa_eng", "longdialogue_qa_eng"):
        return question, gold, {}
    return question, gold[:1], {}


def _choice(row: Row, question: str) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    options, answers = row.texts("options"), row.texts("answer")
    right = next((a for a in answers if a in options), "")
    if len(options) != 4 or not right:
        raise SourceError(f"{row.place}: the answer is none of four options", hint="is this the published file?")
    letter = "ABCD"[options.index(right)]
    listed = "\n".join(f"{mark}. {option}" for mark, option in zip("ABCD", options, strict=True))
    return (
        f"{question}\n{listed}".strip(),
        (letter, right),
        {"options": list(options), "question": question or "Which function has the error?"},
    )


SUITE = Suite(
    name="inftybench",
    summary="twelve tasks of 100k tokens and more: retrieval, books, dialogue, mathematics, code",
    paper="arXiv 2402.13718",
    year=2024,
    claim="At 100k tokens and more one fact is still found, while questions on novels and sequential sums fail for the same model.",
    departures=(
        "prompts keep the published structure (of its completion-style family, answer begun) in our own words",
        "math_calc: a reply may begin with the expression's first number or not (the published code knows only GPT-4's habit)",
        "math_find: a decimal number where a whole one is right is a wrong answer, not an error",
        "limits of 3 to 6 new tokens are kept: they punish any preamble, so the answer is begun for the model",
        "options: a letter is read where one is chosen; the published code takes the first character ('Based' is B) or wants fixed words",
        "longdialogue_qa_eng: a name of several words can be right; in the published code none can",
        "summaries: ROUGE-Lsum without stemming and without line breaks put in, as the published code calls it",
    ),
    tasks=tuple(loaded(subset, load) for subset in SUBSETS),
)
