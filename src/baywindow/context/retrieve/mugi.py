"""MuGI: let the model write what an answer might look like, and search with that.

Paper: Zhang 2024, Exploring the Best Practices of Query Expansion with Large Language Models, arXiv 2401.06311; reference code
lezhang7/Retrieval_MuGI was read.

Idea: several short passages are written for the question, true or not; they hold the words and the meaning that a right passage has.
Full text is searched with the question, repeated so that it is not drowned, and all of them; what it finds is reranked by vectors of
the question with them.

Departs: see the card.

Shapes and units: ``k`` passages come back of the ``depth`` that full text found; a written passage has up to ``reference_tokens``.
Cost: ``references`` short calls, made in parallel; one search; up to ``references`` embedded texts.
Errors: ConfigError for an option out of range.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.later import answer_reserve
from baywindow.context.prompt import messages
from baywindow.context.retrieve.full_text import ranked_by_words
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError
from baywindow.models.base import Prompt
from baywindow.registry import technique

SYSTEM = "Write one short passage that could stand in {kind} and that answers the question. Write only the passage."
# One for each reference: with greedy decoding the same words would give the same passage every time.
KINDS = ("an encyclopedia", "a report", "a letter", "a handbook", "a conversation", "a newspaper", "a diary", "a list of facts")
EXAMPLES = (("Question: Why do ships have keels?", "The keel runs along the bottom of a ship and keeps it upright and on its course."),)


@technique(
    summary="search with passages that the model writes for the question",
    paper="2401.06311",
    year=2024,
    needs=("text", "embedder"),
    claim="Full text with several written passages and a repeated question ranks better than with the question, or with one passage.",
    departures=(
        "the passages differ because each is asked for in another form; the paper samples the same prompt",
        "the question is repeated at least once: with short passages the paper's rule repeats it not at all",
        "vectors are the mean over question-and-passage texts: one joined text is cut at the embedder's limit, losing the later passages",
    ),
)
class Mugi(Retriever):
    k: int = 20
    references: int = 5  # the paper's n
    adaptive: int = 6  # the paper's β: the question makes up about one part in so many
    depth: int = 100
    reference_tokens: int = 96

    def __post_init__(self) -> None:
        for name in ("k", "adaptive", "depth", "reference_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if not 1 <= self.references <= len(KINDS):
            raise ConfigError.bad_value("references", self.references, f"from 1 to {len(KINDS)}")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        written = self._written(run, query)
        words = expanded(query, written, self.adaptive)
        depth = max(self.depth, self.k)
        found = run.corpus.full_text(words, depth) if passages is None else ranked_by_words(words, passages)[:depth]
        if not found:
            return []
        scores = run.corpus.embeddings(found) @ mean_vector(run, query, written)
        return [replace(found[i], score=float(scores[i])) for i in best_first(scores, self.k)]

    def _written(self, run: Run, query: str) -> list[str]:
        how = Call(name="write", max_new_tokens=self.reference_tokens, keep=answer_reserve(run), examples=EXAMPLES)
        replies = run.call_many([reference_prompt(query, kind) for kind in KINDS[: self.references]], how)
        if missing := sum(reply is None for reply in replies):
            run.note(f"{missing} of {len(replies)} passages to search with were not written: the budget did not allow them")
        return [reply for reply in replies if reply]


def reference_prompt(query: str, kind: str) -> Prompt:
    return messages(SYSTEM.format(kind=kind), f"Question: {query}")


def expanded(query: str, written: list[str], adaptive: int) -> str:
    """What full text is asked: the question, repeated by the lengths' ratio, and everything written."""
    length = sum(map(len, written))
    times = max(1, length // max(1, len(query)) // adaptive)
    return " ".join([*[query] * times, *written])


def mean_vector(run: Run, query: str, written: list[str]) -> NDArray[np.float32]:
    """The unit mean of the vectors of question-and-passage texts; of the question alone if nothing was written."""
    total = np.sum([run.corpus.embed_query(f"{query} {text}") for text in written] or [run.corpus.embed_query(query)], axis=0)
    found: NDArray[np.float32] = (total / (np.linalg.norm(total) or 1.0)).astype(np.float32)
    return found
