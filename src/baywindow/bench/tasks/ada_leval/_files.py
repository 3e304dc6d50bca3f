"""The published Ada-LEval files, given by the user: ``stackselect_*.json`` and ``textsort_*.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baywindow.bench.base import Sample
from baywindow.bench.tasks.ada_leval._best_answer import CLOSING, INSTRUCTION, answers
from baywindow.documents.base import Document
from baywindow.errors import SourceError

WHERE = "the data files of Ada-LEval, `stackselect_2k.json` and the like: name one, or a folder of them"


def stackselect(path: Path | None) -> Iterator[Sample]:
    """Forum questions with candidate answers, of which the asker accepted one."""
    for stem, item in _items(path, "stackselect"):
        yield Sample(
            id=f"ada_leval.stackselect/{stem}/{item['question_id']}",
            documents=answers(item["all_answers"]),
            instruction=INSTRUCTION,
            question=f"Question: {item['question']}\n{CLOSING}",
            gold=(f"Answer: {item['answer']}",),
            scorer="ada_leval_designation",
            max_new_tokens=1024,
            metadata={"task": "ada_leval.stackselect", "file": stem, "candidates": len(item["all_answers"]), "tags": item.get("tags", [])},
        )


def textsort(path: Path | None) -> Iterator[Sample]:
    """Book segments in the published prompt, which holds the question as well."""
    for stem, item in _items(path, "textsort"):
        answer = item["answer"] if isinstance(item["answer"], list) else json.loads(item["answer"])
        offsets = "_".join(str(n) for n in item["para_offset"])
        yield Sample(
            id=f"ada_leval.textsort/{stem}/{item['book_id']}_{offsets}",
            documents=(Document(item["prompt"], f"{item['book_id']}.txt"),),
            question="Reply with the list of numbers only, in the form: Answer: [4, 2, 3, 1]",
            gold=(f"Answer: {json.dumps(answer)}",),
            scorer="ada_leval_order",
            max_new_tokens=1024,
            metadata={"task": "ada_leval.textsort", "file": stem},
        )


def _items(path: Path | None, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of all files of a kind; SourceError where there is none, or one is not what it should be."""
    files = [path] if path and path.is_file() else sorted(path.glob(f"{kind}_*.json")) if path else []
    if not files:
        raise SourceError(f"no {kind} file at {path}" if path else f"{kind} needs a file", hint=WHERE)
    for file in files:
        try:
            items = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SourceError(f"{file} is not JSON: {error}", hint=WHERE) from error
        if not isinstance(items, list):
            raise SourceError(f"{file} does not hold a list of records", hint=WHERE)
        yield from ((file.stem, item) for item in items)
