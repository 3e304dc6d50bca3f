"""LoCoMo as a memory sees it: turns with who spoke and when, and questions with the turns that answer them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from _rows import shared_data

from baywindow.bench.base import Loaded, Sample
from baywindow.bench.tasks.locomo import SUITE
from baywindow.bench.tasks.locomo_evidence import evidence_of, said_in, spoken_at

KINDS = {1: "multi-hop", 2: "temporal", 3: "open", 4: "single-hop", 5: "adversarial"}
ANSWERABLE = (1, 2, 3, 4)


@dataclass(frozen=True)
class Talk:
    """A conversation: its sessions in order, each a list of messages as `Memory.add` takes them. ``ref`` is the set's own turn id."""

    name: str
    sessions: tuple[tuple[dict[str, Any], ...], ...]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [message for session in self.sessions for message in session]

    @property
    def refs(self) -> list[str]:
        return [str(message["ref"]) for message in self.messages]


@dataclass(frozen=True)
class Question:
    """``sample`` is the bench's own: prompt, gold and scorer. ``unusable`` are labels that name no turn."""

    id: str
    talk: str
    category: int
    text: str
    evidence: tuple[str, ...]
    unusable: tuple[str, ...]
    sample: Sample = field(repr=False, compare=False)


@cache
def talks() -> dict[str, Talk]:
    """By name."""
    files = sorted((shared_data() / "locomo").glob("*.json"))
    return {file.stem: Talk(file.stem, _sessions(json.loads(file.read_text(encoding="utf-8")))) for file in files}


def _sessions(talk: dict[str, Any]) -> tuple[tuple[dict[str, Any], ...], ...]:
    numbers = sorted(int(m.group(1)) for key in talk if (m := re.fullmatch(r"session_(\d+)", key)) and talk[key])
    return tuple(tuple(_message(turn, spoken_at(talk[f"session_{n}_date_time"])) for turn in talk[f"session_{n}"]) for n in numbers)


def _message(turn: dict[str, Any], at: datetime) -> dict[str, Any]:
    return {"role": "user", "name": turn["speaker"], "content": said_in(turn), "ref": turn["dia_id"], "said_at": at}


@cache
def questions() -> tuple[Question, ...]:
    """Of all five kinds, in the order of the conversations."""
    folder = shared_data() / "locomo"
    made = []
    for task in SUITE.tasks:
        assert isinstance(task, Loaded)
        for sample in task.load(folder):
            told = sample.metadata
            known = talks()[str(told["document"])].refs
            evidence, unusable = evidence_of(told["evidence"], known)
            made.append(
                Question(sample.id, str(told["document"]), int(told["category"]), str(told["question"]), evidence, unusable, sample)
            )
    return tuple(sorted(made, key=lambda q: q.talk))


def recall(evidence: Sequence[str], found: Iterable[Iterable[str]], k: int | None = None) -> float:
    """The share of the evidence turns among those that the first ``k`` memories rest on (None: all)."""
    rests = {turn for one in list(found)[:k] for turn in one}
    return sum(turn in rests for turn in evidence) / len(evidence)
