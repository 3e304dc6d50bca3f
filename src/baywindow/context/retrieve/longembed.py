"""LongEmbed: rank long stretches of text by vectors of an embedder that reads beyond its window.

Paper: Zhu 2024, LongEmbed: Extending Embedding Models for Long Context Retrieval, arXiv 2404.12096; reference code
dwzhu-pku/LongEmbed was read.

Idea: an embedder of 512 tokens need not cut a document there. Its positions are stretched without training: interpolated, grouped or
repeated for tables of positions; slowed down (NTK) or grouped beyond a distance (Self-Extend) for rotary ones. A whole section has one
vector then, and what is asked about is found in its context.

Departs: see the card.

Shapes and units: adjoining passages of a document are joined up to ``factor`` times the embedder's window, and no further than half of
the answering model's; ``k`` stretches come back.
Cost: every stretch is embedded once for each question (nothing is stored), quadratic in its length.
Errors: ConfigError for an option out of range; CapabilityError for a method that the embedder's kind of positions does not have.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from baywindow.context.base import Retriever
from baywindow.context.run import Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Corpus, Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError
from baywindow.registry import technique

if TYPE_CHECKING:
    from baywindow.models.transformers.long_embedding import LongEmbedder, Method

METHODS = ("windows", "group", "recurrent", "interpolate", "ntk", "selfextend")
MOST = 1000  # stretches that are embedded for one question


@technique(
    summary="rank long stretches by an embedder stretched beyond its window",
    paper="2404.12096",
    year=2024,
    needs=("embedder", "weights"),
    claim="Without training, Self-Extend or NTK on a rotary embedder keeps passkey retrieval high at 8 times its window.",
    departures=(
        "the default is the mean over windows, which any embedder has; the embedded one has a table of positions, and the other methods "
        "are for the user to choose",
        "queries are not scaled by the logarithm of the length: in the reference code it comes with one attention library only",
        "no fine-tuning of the new rows of an interpolated table",
    ),
)
class Longembed(Retriever):
    """``retrieve`` ranks the corpus, or the passages it is given, joined to long stretches."""

    k: int = 5
    method: Literal["windows", "group", "recurrent", "interpolate", "ntk", "selfextend"] = "windows"
    factor: int = 4
    embedder: str | None = None  # a sentence-transformers folder or id; None is the embedded one

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")
        if self.method not in METHODS:
            raise ConfigError.bad_value("method", self.method, ", ".join(METHODS))
        if self.factor < 2:
            raise ConfigError.bad_value("factor", self.factor, "at least 2")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("embedder",)  # the weights are the embedder's, not the answering model's

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        embedder = _extended(self.embedder, self.method, self.factor)
        given = run.corpus.passages() if passages is None else reading_order(passages)
        most = embedder.max_tokens - 2
        if run.has_model:  # a stretch of which the reader can show a beginning only was found for nothing
            most = min(most, run.room_without_budget() // 2)
        found = stretches(run.corpus, given, most, embedder)
        if len(found) > MOST:
            run.note(f"longembed ranks the first {MOST} of {len(found)} stretches; let another retriever choose before it")
            found = found[:MOST]
        if not found:
            return []
        scores = embedder.embed([p.text for p in found]) @ embedder.embed([query], "query")[0]
        return [replace(found[i], score=float(scores[i])) for i in best_first(scores, self.k)]


def stretches(corpus: Corpus, passages: Iterable[Passage], most_tokens: int, embedder: LongEmbedder) -> list[Passage]:
    """Adjoining passages of one document (and page) as one exact passage, as long as they stay within ``most_tokens``."""
    found: list[Passage] = []
    tokens = 0
    for p in passages:
        size = embedder.count_tokens(p.text)
        last = found[-1] if found else None
        near = last is not None and (last.source, last.page) == (p.source, p.page) and last.end <= p.start
        if near and last is not None and tokens + size <= most_tokens and not corpus.excerpt(p.source, last.end, p.start).strip():
            found[-1] = replace(last, text=corpus.excerpt(p.source, last.start, p.end), end=p.end)
            tokens += size
        else:
            found.append(p)
            tokens = size
    return found


@functools.lru_cache(maxsize=2)  # its weights take seconds to read
def _extended(name: str | None, method: Method, factor: int) -> LongEmbedder:
    from baywindow.models.embedders import long_embedder

    return long_embedder(name, method, factor)
