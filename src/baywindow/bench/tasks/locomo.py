"""LoCoMo: questions about very long conversations of two people, held over many days.

Paper: Maharana et al., 2024, Evaluating Very Long-Term Conversational Memory of LLM Agents, arXiv 2402.17753; its scoring code was read.
A record is a conversation: ``session_N`` (turns with ``speaker``, ``dia_id``, ``text``, ``blip_caption`` of a shared picture),
``session_N_date_time``, and ``qa`` with ``category`` 1 multi-hop, 2 temporal, 3 open domain, 4 single-hop, 5 adversarial (not answerable as
asked). Both published forms are read: one file a conversation, and one list with ``conversation`` and ``qa`` apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import Stemmer

from baywindow.bench.base import Sample, Suite, Turn, metric
from baywindow.bench.metrics.f1 import overlap
from baywindow.bench.metrics.match import normalised
from baywindow.bench.tasks._loading import Row, Source, Subset, loaded, rows_of
from baywindow.documents.base import Document
from baywindow.errors import SourceError

WHERE = "give the folder of the conversations' JSON files, or locomo10.json"
UNTOLD = "Not mentioned in the conversation"
_REFUSALS = ("no information available", "not mentioned")  # what the published scorer looks for
_PORTER = Stemmer.Stemmer("porter")
_SHORT = "Answer from the conversation above in a short phrase, with its own words where you can."


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    category, number = CATEGORIES[subset.name], 0
    for name, row in conversations(subset, path):
        talk = row.get("conversation") or row.values
        documents = sessions(talk, name, row.place)
        head = (
            f"A conversation of {talk.get('speaker_a', 'two people')} and {talk.get('speaker_b', 'each other')} follows. "
            "It went on over many days; each part begins with its date."
        )
        for qa in row.get("qa") or []:
            if qa.get("category") == category:
                yield _sample(subset, number, documents, qa, {"document": name, "instruction": head})
                number += 1


def conversations(subset: Subset, path: Path | None) -> Iterator[tuple[str, Row]]:
    """Names and records. A folder's files are read in order of their names, those without ``qa`` passed over."""
    if path is not None and path.is_dir() and (files := sorted(path.glob("*.json"))) and not (path / "locomo10.json").is_file():
        for file in files:
            for row in rows_of(file):
                if row.get("qa"):
                    yield str(row.get("sample_id") or file.stem), row
        return
    for i, row in enumerate(subset.source.rows(path)):
        yield str(row.get("sample_id") or (path.stem if path else i)), row


def sessions(talk: Mapping[str, Any], name: str, place: str) -> tuple[Document, ...]:
    """One document a session: its date, then its turns. SourceError if there is none."""
    made = []
    numbers = sorted(int(m.group(1)) for key in talk if (m := re.fullmatch(r"session_(\d+)", key)) and talk[key])
    for n in numbers:
        lines = [f"DATE: {talk.get(f'session_{n}_date_time', '')}", "CONVERSATION:", *(_line(turn) for turn in talk[f"session_{n}"])]
        made.append(Document("\n".join(lines), f"locomo/{name}/session_{n}"))
    if not made:
        raise SourceError(f"{place}: no session_1", hint=WHERE)
    return tuple(made)


def _line(turn: Mapping[str, Any]) -> str:
    shared = f" and shared {turn['blip_caption']}." if turn.get("blip_caption") else ""
    return f'{turn.get("speaker", "")} said, "{turn.get("text", "")}"{shared}'


def _sample(subset: Subset, number: int, documents: tuple[Document, ...], qa: Mapping[str, Any], told: dict[str, Any]) -> Sample:
    question = str(qa["question"])
    told |= {"category": qa["category"], "evidence": list(qa.get("evidence") or [])}
    if subset.name == "adversarial":
        return _adversarial(subset, number, documents, qa, told)
    answer = str(qa.get("answer", ""))
    if subset.name == "open_domain":
        answer = answer.split(";")[0].strip()  # behind the semicolon stands why
    if subset.name == "temporal":
        told["question"] = question
        question += " Use the DATE of the conversation; an approximate date will do."
    return subset.sample(number, documents, question, (answer,), **told)


def _adversarial(subset: Subset, number: int, documents: tuple[Document, ...], qa: Mapping[str, Any], told: dict[str, Any]) -> Sample:
    """Two options in an order that the question decides: the trap, and that nothing is said of it."""
    trap = str(qa.get("adversarial_answer") or qa.get("answer") or "")
    options = [UNTOLD, trap]
    random.Random(f"{told['document']}:{qa['question']}").shuffle(options)
    right = [f"({'ab'[i]})" for i, option in enumerate(options) if option == UNTOLD or "not mentioned" in option.lower()]
    asked = f"{qa['question']} Choose the right answer: (a) {options[0]} (b) {options[1]}."
    return subset.sample(number, documents, asked, (UNTOLD, *right), **told | {"question": str(qa["question"]), "trap": trap})


@metric
def locomo_f1(reply: str, turn: Turn) -> float:
    """F1 of stemmed words without articles and "and"."""
    return max(overlap(stems(reply), stems(gold))[2] for gold in turn.gold)


@metric
def locomo_parts_f1(reply: str, turn: Turn) -> float:
    """Multi-hop: both sides fall apart at commas; the mean over the gold's parts of the best F1 that a part of the reply has."""
    said = [stems(part) for part in reply.split(",")]
    golds = [stems(part) for part in turn.gold[0].split(",")]
    return sum(max(overlap(part, gold)[2] for part in said) for gold in golds) / len(golds)


@metric
def locomo_untold(reply: str, turn: Turn) -> float:
    """Adversarial: 1 for a reply that chooses, or says, that the conversation does not tell.

    The published code reads a letter only from replies of one or three characters; here also from one that begins with it.
    """
    said = reply.strip().lower()
    if chosen := re.match(r"\(?([ab])(?:\)|\.|:|$)", said):
        return float(f"({chosen.group(1)})" in turn.gold)
    return float(any(refusal in said for refusal in _REFUSALS))


def stems(text: str) -> list[str]:
    """Words of SQuAD's normal form without "and", each reduced to its stem (Porter)."""
    words: list[str] = _PORTER.stemWords([word for word in normalised(text).split() if word != "and"])
    return words


CATEGORIES = {"multi_hop": 1, "temporal": 2, "open_domain": 3, "single_hop": 4, "adversarial": 5}
_SUBSETS = tuple(
    Subset(
        suite="locomo",
        name=name,
        summary=summary,
        scorer=scorer,
        max_new_tokens=32,
        ask=("Answer from the conversation above." if name == "adversarial" else _SHORT) + "\n\nQuestion: {question}",
        answer_prefix="Short answer:",
        cut="start",  # the published code keeps the latest sessions
        source=Source(names=("locomo10.json", "*.json"), where=WHERE),
    )
    for name, summary, scorer in (
        ("multi_hop", "several facts of several days", "locomo_parts_f1"),
        ("temporal", "when did it happen", "locomo_f1"),
        ("open_domain", "what can be concluded of a person", "locomo_f1"),
        ("single_hop", "one fact of one day", "locomo_f1"),
        ("adversarial", "a question whose answer was never told", "locomo_untold"),
    )
)

SUITE = Suite(
    name="locomo",
    summary="questions about very long conversations of two people, in five kinds",
    paper="arXiv 2402.17753",
    year=2024,
    claim="Models with long windows and with retrieval stay well behind people, most of all on temporal questions.",
    departures=(
        "prompts keep the published structure (who talks, dated sessions, question, answer begun) in our own words; one call a question",
        "the order of an adversarial question's two options is decided by the question, not drawn anew in each run",
        "a letter is also read from the beginning of a longer reply; the published code takes a longer reply as text",
        "where the trap itself says that nothing is mentioned, both options are right",
        "stems by Porter's original algorithm (PyStemmer), where the published code has NLTK's extended one",
        "pictures are left out, their captions kept",
    ),
    tasks=tuple(loaded(subset, load) for subset in _SUBSETS),
)
