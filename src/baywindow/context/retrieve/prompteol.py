"""PromptEOL: any causal model is an embedder, if it is asked to say a text in one word.

Paper: Jiang 2023, Scaling Sentence Embeddings with Large Language Models, arXiv 2307.16645; reference code kongds/scaling_sentemb
was read.

Idea: behind ``This sentence : "…" means in one word:"`` the state of the last token, from which the word would be chosen, holds what
the text is about. Cosines of such states rank. One finished example in front steadies the form.

Departs: see the card.

Shapes and units: a state is (dim,) of the last block behind the final norm; ``depth`` passages are embedded for each question.
Cost: one forward over the question and each of ``depth`` passages, in batches; no generated token.
Errors: CapabilityError for a model that does not show its states; ConfigError for an option out of range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.retrieve.full_text import ranked_by_words
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError
from baywindow.registry import technique

FORM = 'This sentence : "{text}" means in one word:"'
EXAMPLE = FORM.format(text="A dog runs after its ball on the beach.") + 'Play".'


@technique(
    summary="rank by the states of the language model itself, asked for each text in one word",
    paper="2307.16645",
    year=2023,
    needs=("weights",),
    claim="For a causal model the one-word prompt's last state ranks far better than mean pooling or an unprompted last token.",
    departures=(
        "full text chooses the passages that are embedded: one forward for every passage of a corpus and question would take minutes",
        "the finished example is one of ours for all models; the paper chooses one for each by a development score",
        "a passage that exceeds the window with the form around it is cut at its end",
    ),
)
class Prompteol(Retriever):
    """``retrieve`` ranks what full text finds, or the passages that it is given."""

    k: int = 20
    depth: int = 50
    example: bool = True
    centre: bool = True  # take off the mean state: raw cosines of a causal model are all near 1

    def __post_init__(self) -> None:
        for name in ("k", "depth"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        depth = max(self.depth, self.k)
        given = run.corpus.full_text(query, depth) if passages is None else passages
        if len(given) > depth:
            given = ranked_by_words(query, given)[:depth]
        if not given:
            return []
        if (states := self._states(run, [query, *(p.text for p in given)])) is None:
            return given[: self.k]
        scores = states[1:] @ states[0]
        return [replace(given[i], score=float(scores[i])) for i in best_first(scores, self.k)]

    def _states(self, run: Run, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """Unit states (text, dim); None if the budget does not allow them."""
        asked = [self.asked(run, text) for text in texts]
        tokens = sum(map(run.model.count_tokens, asked))
        if not run.meter.allows(tokens, 0):
            run.note(f"the budget does not allow to embed {tokens} tokens; passages are in the order they were found")
            return None
        states = run.model.last_states(asked)
        run.meter.charge(tokens, 0)
        if self.centre:
            states = states - states.mean(axis=0)
        norms = np.linalg.norm(states, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (states / np.where(norms == 0, 1, norms)).astype(np.float32)
        return unit

    def asked(self, run: Run, text: str) -> str:
        """The text in the paper's form, cut where the window ends."""
        start = f"{EXAMPLE} " if self.example else ""
        text = plain(text)
        while run.model.count_tokens(whole := start + FORM.format(text=text)) > run.room_without_budget() - 2 and text:
            text = plain(text[: len(text) * 3 // 4].rsplit(None, 1)[0])
        return whole


def plain(text: str) -> str:
    """One line that ends in a full stop and cannot end the quotation, as in the paper's code."""
    text = " ".join(text.replace('"', "'").split())
    if text.endswith("?"):
        return text[:-1] + "."
    return text if not text or text[-1] in ".!'" else f"{text}."
