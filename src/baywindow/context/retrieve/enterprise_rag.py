"""Enterprise RAG: tables row by row, names that must occur, and a reranker, over a hybrid search.

Paper: Cheerla 2025, Advancing Retrieval-Augmented Generation for Structured Enterprise and Internal Data, arXiv 2507.12425. No public
code was found.

Idea: full text and vectors are joined; a table's rows are candidates of their own, each with its header, so that one row of a long
table can be found; names, codes and numbers of the question filter the candidates; a cross-encoder orders the best.

Departs: see the card.

Shapes and units: ``k`` passages; a row of a table is a `Condensed` whose origin is the exact row and whose text has the header above it.
Cost: two searches of ``depth`` passages; one embedding for each new row; with ``rerank`` one forward of the cross-encoder a candidate.
Errors: ConfigError for an option out of range; MissingExtraError without an embedder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.condensed import Condensed, exact, written
from baywindow.context.retrieve.hybrid import reranked
from baywindow.context.run import Run
from baywindow.documents.base import Corpus, Passage
from baywindow.documents.bm25 import Bm25, best_first
from baywindow.documents.words import STOP_WORDS
from baywindow.errors import ConfigError
from baywindow.registry import technique

LOOK_BACK = 20_000  # characters before a passage in which the header of its table is looked for
_LINE = re.compile(r"[^\r\n]+")
_RULE = re.compile(r"^\s*\|?[\s:|-]*-{2,}[\s:|-]*\|?\s*$")
# Codes and numbers, quoted words, and capitalised words that do not begin the question.
_CODE = re.compile(r"\b(?=\w*\d)[\w./-]*\w|\b[A-Z]{2,}[\w-]*")
_QUOTED = re.compile(r"[\"“”«»']([^\"“”«»']{2,60})[\"“”«»']")
_NAME = re.compile(r"(?<=[\w,;:] )[A-ZÀ-Þ]\w*[a-zß-ÿ]\w*(?: [A-ZÀ-Þ]\w+)*")


@technique(
    summary="hybrid search with table rows, a filter of names and codes, and a reranker",
    paper="2507.12425",
    year=2025,
    needs=("embedder",),
    claim="On mixed questions over prose and tables, row-preserving chunks with hybrid search and reranking beat plain dense search.",
    departures=(
        "names are found by their form (capitals, digits, quotes), not by spaCy's tagger: no model to download",
        "the filter falls back to all candidates when fewer than `least_hits` pass, because names are spelled in many ways",
        "tables are those that extraction leaves as Markdown or CSV lines; scanned tables are not read",
        "rows are compared in 8 bits; the stored vectors of passages are compared by the index, in its own way",
        "fusion is hybrid's; human feedback is not built: the paper does not say what it changes",
    ),
)
class EnterpriseRag(Retriever):
    """``retrieve`` searches the corpus, or ranks the passages that it is given."""

    k: int = 5  # as in the paper's metrics
    depth: int = 50
    alpha: float = 0.8  # weight of vectors, as in `hybrid`
    entities: bool = True
    least_hits: int = 3
    rerank: str | None = None  # cross-encoder id or folder

    def __post_init__(self) -> None:
        for name in ("k", "depth", "least_hits"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if not 0 <= self.alpha <= 1:
            raise ConfigError.bad_value("alpha", self.alpha, "from 0 to 1")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        found = _candidates(run, query, passages, max(self.depth, self.k))
        found = [row for p in found for row in rows_of(run.corpus, p)]
        if not found:
            return []
        if self.entities:
            found = named(found, entities_of(query), self.least_hits)
        worth = fused(Bm25([p.text for p in found]).scores(query), likeness_in_bytes(run, query, found), self.alpha)
        best = [replace(found[i], score=float(worth[i])) for i in best_first(worth, len(found))]
        if self.rerank is not None:
            best = reranked(query, best[: self.depth], self.rerank)
        return best[: self.k]


def _candidates(run: Run, query: str, passages: list[Passage] | None, depth: int) -> list[Passage]:
    if passages is not None:
        return list(passages)
    found = {p.key: p for p in [*run.corpus.full_text(query, depth), *run.corpus.vectors(query, depth)]}
    return list(found.values())


def rows_of(corpus: Corpus, passage: Passage) -> list[Passage]:
    """The passage, or its parts if it holds rows of a table: each row under its header, and the prose between."""
    if isinstance(passage, Condensed):
        return [passage]
    lines = [m.span() for m in _LINE.finditer(passage.text)]
    kinds = [_is_row(passage.source, passage.text[a:b]) for a, b in lines]
    if not any(kinds):
        return [passage]
    header = _header_before(corpus, passage) if kinds[0] else ""
    found: list[Passage] = []
    prose: list[int] = []
    for (start, end), row in zip(lines, kinds, strict=True):
        text = passage.text[start:end]
        if not row:
            prose += [start, end]
            header = ""
            continue
        if prose:
            found.append(exact(passage, prose[0], prose[-1]))
            prose = []
        if not header:
            header = text
        elif not _RULE.match(text):
            found.append(written(exact(passage, start, end), f"{header}\n{text}"))
    if prose:
        found.append(exact(passage, prose[0], prose[-1]))
    return found or [passage]


def _is_row(source: str, line: str) -> bool:
    if source.lower().endswith((".csv", ".tsv")):
        return True
    return line.count("|") >= 2 and line.strip().startswith("|")


def _header_before(corpus: Corpus, passage: Passage) -> str:
    """The first line of the table that goes on in this passage; empty if the table begins here."""
    start = 0 if passage.source.lower().endswith((".csv", ".tsv")) else max(0, passage.start - LOOK_BACK)
    header = ""
    for line in reversed(corpus.excerpt(passage.source, start, passage.start).splitlines()):
        if not line.strip():
            if header:
                break
            continue
        if not _is_row(passage.source, line):
            break
        header = line
    return header


def entities_of(question: str) -> list[str]:
    """What the question names: codes and numbers, quoted words, and names; lower case, each once."""
    found = [*_CODE.findall(question), *_QUOTED.findall(question), *_NAME.findall(question)]
    return list(dict.fromkeys(e.lower() for e in found if e.lower() not in STOP_WORDS))


def named(passages: Sequence[Passage], entities: Sequence[str], least_hits: int) -> list[Passage]:
    """The passages that hold any of the entities; all of them if too few do."""
    holding = [p for p in passages if any(re.search(rf"(?<!\w){re.escape(e)}(?!\w)", p.text.lower()) for e in entities)]
    return holding if len(holding) >= min(least_hits, len(passages)) else list(passages)


def likeness_in_bytes(run: Run, query: str, passages: Sequence[Passage]) -> NDArray[np.float32]:
    """Cosines of vectors that are rounded to 8 bits, shape (passage,)."""
    # A row's text has its header: its vector is not the stored one of the span that it is cited by.
    asked = [replace(p, end=-1 - i) if isinstance(p, Condensed) else p for i, p in enumerate(passages)]
    found: NDArray[np.float32] = quantised(run.corpus.embeddings(asked)) @ quantised(run.corpus.embed_query(query)[None])[0]
    return found


def fused(words: NDArray[np.float32], meaning: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Both scaled from the lowest value their kind can have (BM25 0, cosine -1) to the best one here, and mixed."""
    by_words = words / (float(words.max(initial=0.0)) or 1.0)
    by_meaning = (1 + meaning) / (1 + float(meaning.max(initial=0.0)))
    mixed: NDArray[np.float32] = (1 - alpha) * by_words + alpha * by_meaning
    return mixed


def quantised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows rounded to 255 steps of their own largest value, as unit-scale numbers: what 8-bit storage keeps of them."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scale = np.where(largest == 0, 1, largest) / 127
    codes = np.round(vectors / scale).astype(np.int8)
    found: NDArray[np.float32] = codes.astype(np.float32) * scale.astype(np.float32)
    return found
