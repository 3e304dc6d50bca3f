"""The data that the benchmarks read: from ``BAY_SHARED`` or the folder ``shared`` beside the checkout. None of it is in the repository."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Task:
    """Texts to search, and for every question the positions of the right ones."""

    name: str
    texts: tuple[str, ...]
    questions: tuple[str, ...]
    right: tuple[frozenset[int], ...]


def data_folder() -> Path | None:
    """``data`` of the shared folder, or None if it is not there."""
    folder = Path(os.environ.get("BAY_SHARED", ROOT.parent / "shared")) / "data"
    return folder if folder.is_dir() else None


def leval(name: str) -> list[dict[str, Any]]:
    folder = data_folder()
    if folder is None:
        return []
    return [json.loads(line) for line in (folder / "leval" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def locomo_tasks() -> list[Task]:
    """One task a conversation: every turn a text, the questions of categories 1 to 4 whose evidence is among the turns."""
    folder = data_folder()
    return [] if folder is None else [_conversation(path) for path in sorted((folder / "locomo").glob("*.json"))]


def _conversation(path: Path) -> Task:
    talk = json.loads(path.read_text(encoding="utf-8"))
    place: dict[str, int] = {}
    texts: list[str] = []
    session = 1
    while f"session_{session}_date_time" in talk:
        for turn in talk.get(f"session_{session}") or []:
            place[turn["dia_id"]] = len(texts)
            caption = f" [{turn['blip_caption']}]" if turn.get("blip_caption") else ""
            texts.append(f"{turn['speaker']}: {turn['text']}{caption}")
        session += 1
    asked = [(q["question"], frozenset(place[e] for e in q["evidence"] if e in place)) for q in talk["qa"] if q["category"] in (1, 2, 3, 4)]
    asked = [(question, right) for question, right in asked if right]
    return Task(path.stem, tuple(texts), tuple(q for q, _ in asked), tuple(r for _, r in asked))


def natural_question_tasks(split: Any) -> list[Task]:
    """One task a document: its chunks (``split(text)`` gives spans); right is a chunk with the answer string."""
    tasks = []
    for n, row in enumerate(leval("natural_question")):
        texts = tuple(row["input"][a:b] for a, b in split(row["input"]))
        plain = [f" {plainly(text)} " for text in texts]
        pairs = [(q, plainly(a)) for q, a in zip(row["instructions"], row["outputs"], strict=True)]
        asked = [(q, frozenset(i for i, text in enumerate(plain) if f" {a} " in text)) for q, a in pairs if a]
        asked = [(q, right) for q, right in asked if right]
        if asked:
            tasks.append(Task(f"nq{n}", texts, tuple(q for q, _ in asked), tuple(r for _, r in asked)))
    return tasks


def plainly(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
