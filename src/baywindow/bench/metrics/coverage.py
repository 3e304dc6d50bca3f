"""ETHIC's information coverage: how much of a context is needed to answer a query.

The context is cut into chunks of at most 512 tokens, a judge says of each whether the query needs it, and the share that is needed is the
coverage. Plain retrieval tasks come out near 0, however long they are; it is a figure of a task, not of a reply.
"""

from __future__ import annotations

from dataclasses import dataclass

from baywindow.bench.base import Sample
from baywindow.bench.counting import TokenCounter
from baywindow.bench.judge import Judge
from baywindow.errors import ConfigError

CHUNK_TOKENS = 512  # ETHIC's


@dataclass(frozen=True)
class Coverage:
    """``share`` of chunks needed; ``needed[i]`` is the verdict on chunk i, ``spans[i]`` its characters in the context."""

    share: float
    needed: tuple[bool, ...]
    spans: tuple[tuple[int, int], ...]


def information_coverage(context: str, query: str, judge: Judge, counter: TokenCounter, chunk_tokens: int = CHUNK_TOKENS) -> Coverage:
    """One question to the judge a chunk. ConfigError for an empty context."""
    from semantic_text_splitter import TextSplitter

    spans = [(at, at + len(text)) for at, text in TextSplitter.from_callback(counter, chunk_tokens).chunk_indices(context)]
    if not spans:
        raise ConfigError("an empty context has no coverage", hint="give the text that the query is about")
    needed = tuple(judge.grade("needed", query=query, text=context[a:b]) >= 0.5 for a, b in spans)
    return Coverage(sum(needed) / len(needed), needed, tuple(spans))


def coverage_of(sample: Sample, judge: Judge, counter: TokenCounter) -> Coverage:
    """The coverage of a bench sample: its documents, its question."""
    return information_coverage(sample.context, str(sample.metadata.get("question") or sample.question), judge, counter)
