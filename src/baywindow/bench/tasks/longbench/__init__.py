"""LongBench: 21 sets of questions, summaries, few-shot examples, synthetic tasks and code, in English and Chinese.

Paper: Bai et al., 2023, LongBench: A Bilingual, Multitask Benchmark for Long Context Understanding, arXiv 2308.14508; its code was read.
A record has ``input``, ``context``, ``answers``, ``all_classes``, ``length``. Tasks that end in ``_e`` are LongBench-E's, whose records the
paper reports in three buckets of length (``metadata["bucket"]``, by words).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from baywindow.bench.base import Sample, Suite, Turn, metric
from baywindow.bench.metrics._words import first_line
from baywindow.bench.metrics.f1 import token_f1
from baywindow.bench.metrics.rouge import rouge_l
from baywindow.bench.tasks._loading import Row, Subset, documents_of, loaded
from baywindow.bench.tasks.longbench._subsets import SUBSETS


@metric
def longbench_f1_line(reply: str, turn: Turn) -> float:
    """F1 of the reply's first line (triviaqa: a model that writes the next example too is not punished)."""
    return token_f1(first_line(reply), turn)


@metric
def longbench_rouge_line(reply: str, turn: Turn) -> float:
    """ROUGE-L of the reply's first line (samsum)."""
    return rouge_l(first_line(reply), turn)


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    for number, row in enumerate(subset.source.rows(path)):
        yield _sample(subset, number, row)


def _sample(subset: Subset, number: int, row: Row) -> Sample:
    length = int(row.get("length") or 0)
    return subset.sample(
        number,
        documents_of(row.text("context"), f"{subset.task}/{number}"),
        str(row.get("input") or ""),  # summaries and lcc have none
        row.texts("answers"),
        classes=list(row.get("all_classes") or []),
        words=length,
        bucket="0-4k" if length < 4000 else "4-8k" if length < 8000 else "8k+",
        language=str(row.get("language") or ""),
    )


SUITE = Suite(
    name="longbench",
    summary="21 bilingual sets: documents, several documents, summaries, few-shot, synthetic, code",
    paper="arXiv 2308.14508",
    year=2023,
    claim="With a short native window, feeding the chunks that retrieval finds beats dropping the middle; with a long one it does not.",
    departures=(
        "prompts keep the published structure (instruction, context, instruction again, question, answer begun) in our own words",
        "ROUGE by rouge-score, where the published code uses the library rouge: figures differ a little",
        "code similarity is not rounded to whole percents",
        "class score: names that are part of the right one are all dropped (the published loop skips neighbours)",
        "samsum: the published code forces one token before a line may end; here the reply's first line that is not blank counts",
        "what to cut of an over-long prompt is left to the runner (metadata['cut']); the published code drops the middle of its tokens",
    ),
    tasks=tuple(loaded(subset, load) for subset in SUBSETS),
)
