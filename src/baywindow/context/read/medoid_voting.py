"""Answer several times with the documents in another order each time, and take the answer most like the others.

Paper: Dsouza et al. 2024, "Evaluating Language Model Context Windows: A 'Working Memory' Test and Inference-time Correction",
arXiv:2407.03651; the authors' code was read.
Idea: where a model loses what stands in the middle, another order puts the answer elsewhere. The same question is asked with all
documents shuffled; the replies are embedded, and the one with the highest mean similarity to the others (the medoid) is the answer.
Departs from the paper: replies are greedy, so they differ by order alone, not by chance (the paper samples at temperature 0.7); empty
and failed replies take no part (in the authors' code two of them could win); two votes always tie, so three are the least.
Shapes and units: ``votes`` calls of one window each; what does not fit a window is left out of that order, and counted.
Cost: ``votes`` calls, and one embedding a reply.
Errors: ConfigError for fewer than three votes. Without an embedder replies are compared by their words, and that is said.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from baywindow.budget import Usage
from baywindow.context.base import Reader
from baywindow.context.prompt import pack_one
from baywindow.context.reply import NOT_FOUND, declined, question_frame
from baywindow.context.run import Call, Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.errors import CapabilityError, ConfigError, MissingExtraError
from baywindow.models.base import Prompt
from baywindow.registry import technique


@technique(
    summary="several answers over shuffled documents; the one most like the others wins",
    paper="arXiv:2407.03651",
    year=2024,
    needs=("text",),
    claim="With a model that misses what stands in bad places, the medoid of three answers over shuffled documents beats one answer.",
    departures=(
        "replies are greedy and differ by the order of documents alone, so that a run can be repeated",
        "empty replies and declines take no part in the vote: in the authors' code two failed calls could win it",
        "at least three votes: two always tie",
    ),
)
class MedoidVoting(Reader):
    votes: int = 3
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.votes < 3:
            raise ConfigError.bad_value("votes", self.votes, "at least 3: two always tie")
        if self.max_new_tokens < 1:
            raise ConfigError.bad_value("max_new_tokens", self.max_new_tokens, "at least 1")

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        def frame(shown: Sequence[Passage]) -> Prompt:
            return question_frame(run, shown)

        whole = reading_order(list(run.corpus.passages()) if passages is None else passages)
        documents = [list(group) for _, group in groupby(whole, key=lambda p: p.source)]
        orders = [_shuffled(documents, self.seed + vote) for vote in range(self.votes)]
        packs = [pack_one(run, order, frame, self.max_new_tokens) for order in orders]
        if left_out := max(pack.left_out_passages for pack in packs):
            run.note(f"up to {left_out} passages did not fit and were left out of an order")
        regions = tuple(region for pack in packs for region in pack.regions(run))
        how = Call(name="medoid_voting", max_new_tokens=self.max_new_tokens, regions=regions)
        said = [reply for pack in packs if (reply := run.call(pack.prompt, how))]  # each by itself: a small budget affords the first
        voting = [reply for reply in said if not declined(reply)]
        if not voting:
            return NOT_FOUND if said else ""
        chosen = voting[medoid(_vectors(run, voting))] if len(voting) > 2 else voting[0]
        run.say(chosen)
        return chosen

    def least(self, run: Run) -> Usage:
        one = super().least(run)
        return Usage(calls=1, prompt_tokens=one.prompt_tokens, generated_tokens=one.generated_tokens)


def medoid(vectors: NDArray[np.float32]) -> int:
    """The row of (reply, dim) unit vectors with the highest mean cosine similarity to the others; the first of equals."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, 0.0)
    # Rounding must not decide between equal replies.
    return int(np.argmax(np.round(similar.mean(axis=1), 6)))


def _vectors(run: Run, replies: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors (reply, dim): embeddings, or counts of words where the corpus has no embedder."""
    try:
        return np.stack([run.corpus.embed_query(reply) for reply in replies])
    except (MissingExtraError, CapabilityError):
        run.note("no embedding model: replies were compared by their words")
    words = sorted({word for reply in replies for word in reply.lower().split()})
    counts = np.array([[reply.lower().split().count(word) for word in words] for reply in replies], dtype=np.float32)
    found: NDArray[np.float32] = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    return found


def _shuffled(documents: Sequence[list[Passage]], seed: int) -> list[Passage]:
    """Whole documents in a random order, each in reading order."""
    order = random.Random(seed).sample(range(len(documents)), len(documents))
    return [passage for at in order for passage in documents[at]]
