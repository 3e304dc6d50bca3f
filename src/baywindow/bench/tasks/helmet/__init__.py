"""HELMET: seven kinds of tasks at 8k to 128k: recall, retrieved passages, citations, re-ranking, many examples, long questions, summaries.

Paper: Yen et al., 2024, HELMET: How to Evaluate Long-Context Language Models Effectively and Thoroughly, arXiv 2410.02694; its code was
read. Its data archive holds a file a task and length. The many-example sets are read as ``NAME/train.jsonl`` and ``NAME/test.jsonl`` with
``text`` and ``label``; NarrativeQA, InfiniteBench's books and Multi-LexSum as their own published records, one a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from baywindow.bench.base import Sample, Suite
from baywindow.bench.tasks._loading import Subset, loaded
from baywindow.bench.tasks.helmet import _scores  # noqa: F401 - puts its scorers on the list
from baywindow.bench.tasks.helmet._records import samples
from baywindow.bench.tasks.helmet._tables import CATEGORIES, LEVELS, PARTS, Part
from baywindow.errors import ConfigError


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    if not isinstance(subset, Part):
        raise ConfigError(f"{subset.task} is no part of HELMET")
    return samples(subset, path)


def overall(scores: dict[str, float], level: str) -> dict[str, float]:
    """The paper's summary of one length: the mean of each category whose tasks have scores, and ``overall``, the mean of all seven.

    ``scores`` are task means from 0 to 1 by task name (``helmet.nq_8k``).
    """
    if level not in LEVELS:
        raise ConfigError.bad_value("level", level, "one of " + ", ".join(LEVELS))
    made = {}
    for category, names in CATEGORIES.items():
        there = [scores[f"helmet.{name}_{level}"] for name in names if f"helmet.{name}_{level}" in scores]
        if len(there) == len(names):
            made[category] = sum(there) / len(there)
    if len(made) == len(CATEGORIES):
        made["overall"] = sum(made.values()) / len(made)
    return made


SUITE = Suite(
    name="helmet",
    summary="seven kinds of tasks at five lengths: recall, passages, citations, re-ranking, examples, long questions, summaries",
    paper="arXiv 2410.02694",
    year=2024,
    claim="Scores on retrieved passages go with the average of the other categories better than needle recall does.",
    departures=(
        "prompts keep the published structure (task, demonstrations, context, question, answer begun) in our own words",
        "demonstrations are drawn with Python's generator from the same seed material; the published draws are the datasets library's",
        "a category's mean takes each task's main score; the published one also averages the citation scores in (here in 'also')",
        "key points and sentences of a summary are judged one by one, where the published judge is asked for a count of all",
        "texts are cut at their end by the runner, to metadata['context_tokens'] of its own tokenizer; the published cut uses Llama 2's",
        "demonstrations of long questions and summaries are other records of the same file; stories are not filtered by their length",
        "an answer with no letter in SQuAD's normal form never counts as found",
    ),
    tasks=tuple(loaded(part, load) for part in PARTS),
)
