"""The sets that LongGenBench is made of, given by the user: GSM8K as JSON lines, MMLU as its folders of CSV files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from baywindow.bench.base import Sample
from baywindow.bench.tasks.longgenbench._batch import INSTRUCTION, answers_of, asking, new_tokens, worked
from baywindow.documents.base import Document
from baywindow.errors import SourceError

T = TypeVar("T")
WHERE_GSM8K = "GSM8K's `test.jsonl` (records with question and answer), named `gsm8k*.jsonl` where a folder is given"
WHERE_MMLU = "MMLU's folder with `dev/SUBJECT_dev.csv` and `test/SUBJECT_test.csv`"
_GSM8K_EXAMPLES, _GSM8K_BATCH, _GSM8K_QUESTIONS = 8, 35, 700
_MMLU_EXAMPLES, _MMLU_BATCH = 5, 20


def gsm8k(path: Path | None) -> Iterator[Sample]:
    """Batches of 35 from the first 700 questions; the file's first eight records are the worked examples."""
    files = [path] if path and path.is_file() else sorted(path.glob("gsm8k*.jsonl")) if path else []
    if not files:
        raise SourceError(f"no GSM8K file at {path}" if path else "longgenbench.gsm8k needs a file", hint=WHERE_GSM8K)
    try:
        records = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines() if line.strip()]
        pairs = [(str(r["question"]), str(r["answer"])) for r in records]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{files[0]} is not GSM8K: {error}", hint=WHERE_GSM8K) from error
    solved = [(question, answer.replace("####", "The answer is")) for question, answer in pairs[:_GSM8K_EXAMPLES]]
    asked = [(question, answer.rsplit("####", 1)[-1].strip().replace(",", "")) for question, answer in pairs[_GSM8K_EXAMPLES:]]
    for i, batch in enumerate(_batches(asked[:_GSM8K_QUESTIONS], _GSM8K_BATCH)):
        yield _sample(f"longgenbench.gsm8k/{i}", solved, batch, {"task": "longgenbench.gsm8k", "kind": "number"})


def mmlu(path: Path | None) -> Iterator[Sample]:
    """Batches of 20 of each subject's test questions, after the subject's five examples."""
    tests = sorted((path / "test").glob("*_test.csv")) if path else []
    if not tests:
        raise SourceError(f"no MMLU files at {path}" if path else "longgenbench.mmlu needs a folder", hint=WHERE_MMLU)
    for file in tests:
        subject = file.stem.removesuffix("_test")
        solved = [(q, f"The answer is {a}.") for q, a in _choices(file.parents[1] / "dev" / f"{subject}_dev.csv")][:_MMLU_EXAMPLES]
        for i, batch in enumerate(_batches(_choices(file), _MMLU_BATCH)):
            facts = {"task": "longgenbench.mmlu", "kind": "letter", "subject": subject}
            yield _sample(f"longgenbench.mmlu/{subject}/{i}", solved, batch, facts)


def _choices(file: Path) -> list[tuple[str, str]]:
    """Questions with their lettered choices, and the right letter."""
    if not file.is_file():
        raise SourceError(f"{file} is missing", hint=WHERE_MMLU)
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    if any(len(row) != 6 for row in rows):
        raise SourceError(f"{file} has a row without six columns", hint=WHERE_MMLU)
    return [(row[0] + "\n" + " ".join(f"({c}) {text}" for c, text in zip("ABCD", row[1:5], strict=True)), row[5]) for row in rows]


def _sample(identity: str, solved: Sequence[tuple[str, str]], batch: Sequence[tuple[str, str]], facts: dict[str, str]) -> Sample:
    text = "\n\n".join(worked(i, question, solution) for i, (question, solution) in enumerate(solved, start=1))
    first = len(solved) + 1
    return Sample(
        id=identity,
        documents=(Document(text, "examples.txt"),),
        instruction=INSTRUCTION,
        question=asking(first, [question for question, _ in batch]),
        gold=(answers_of(first, [answer for _, answer in batch]),),
        scorer="longgenbench_answers",
        max_new_tokens=new_tokens(len(batch)),
        metadata={**facts, "questions": len(batch), "examples": len(solved)},
    )


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
