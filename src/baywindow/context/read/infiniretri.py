"""Read a text of any length window by window and keep the sentences that the question attends to.

Paper: Ye et al. 2025, Infinite Retrieval: Attention Enhanced LLMs in Long-Context Processing, arXiv:2502.12962. Code: the package
infini-retri 0.0.3 (its phrase scoring, `compute_phrase_scores`).
Idea: each window holds the sentences kept so far, the next chunk and the question. In the last layer, attention from the question's
tokens to the text is summed over heads, smoothed over ``phrase_tokens`` neighbours and weighted by how much each question token
attends to the question itself (squared; taken from the first window); sentences with one of the ``top_tokens`` best tokens
are kept. No key or value is kept, only text. After the last window the kept sentences are answered from.
Departs from the paper: see the card.
Shapes and units: attention is (head, query token, key token); all lengths in tokens of the target model.
Cost: one forward over each window and one call.
Errors: CapabilityError with a model that does not show its attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.budget import Usage
from baywindow.context.base import Reader
from baywindow.context.capped import check_options
from baywindow.context.cite import sentences
from baywindow.context.insides import inspected
from baywindow.context.prompt import pack_one, split_passage
from baywindow.context.reply import NOT_FOUND, answer, question_frame
from baywindow.context.run import Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.errors import CapabilityError
from baywindow.models.base import Inspection
from baywindow.registry import technique

Array = NDArray[np.float64]
JOINT = "\n\n"


@technique(
    summary="reads window by window and keeps the sentences that the question's attention finds",
    paper="arXiv:2502.12962",
    year=2025,
    needs=("weights",),
    claim="A half-billion-parameter model finds a needle at any depth of a text many times its window.",
    departures=(
        "the window is read as plain text, not in the chat template: the template's words carry attention of their own",
        "kept sentences are capped at half of the window, best first: the published code caps tokens only and may overflow",
        "kept sentences stand in the last prompt as fenced passages with their exact spans, so that the answer can cite",
        "greedy decoding by default like all readers; the package samples at temperature 0.5",
    ),
)
class Infiniretri(Reader):
    window_tokens: int = 1024
    top_tokens: int = 300
    phrase_tokens: int = 8
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        check_options(self, window_tokens=64, top_tokens=1, phrase_tokens=1, max_new_tokens=1)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        if "weights" not in run.model.capabilities:
            raise CapabilityError(f"{run.model.name} does not show its attention", hint="infiniretri needs a local open-weights model")
        kept = self._kept(run, list(run.corpus.passages() if passages is None else passages))
        if not kept:
            return "" if run.cut_short else NOT_FOUND
        packed = pack_one(run, kept, lambda shown: question_frame(run, reading_order(shown)), self.max_new_tokens)
        return answer(run, packed, "infiniretri", self.max_new_tokens) or ""

    def _kept(self, run: Run, passages: list[Passage]) -> list[Passage]:
        """Sentences of the whole text that the question attends to, best first."""
        asked = run.model.count_tokens(JOINT + run.question)
        window = max(32, min(self.window_tokens, run.room_without_budget() - asked - 8))
        units, kept, own = _sentences(run, passages, window // 2), list[Passage](), None
        while units:
            chunk = _next_chunk(run, units, window - _tokens(run, kept))
            texts = reading_order([*kept, *chunk])
            seen = inspected(run, _text(texts) + JOINT + run.question, [-1], frozenset({"attention"}), keep=_answer(run))
            if seen is None:
                run.note(f"{len(chunk) + len(units)} sentences at the end were not read")
                return kept or chunk
            scores, own = self._scores(seen, len(_text(texts)), own)
            kept = self._best(run, texts, seen, scores, window // 2)
        return kept

    def _scores(self, seen: Inspection, text_length: int, own: Array | None) -> tuple[Array, Array]:
        """A score a token of the text (0 elsewhere), and the question tokens' weights, shape (question token, 1)."""
        attention = seen.attention[-1].astype(np.float64).sum(axis=0)
        starts = np.array([start for start, _ in seen.offsets])
        ends = np.array([end for _, end in seen.offsets])
        question = np.flatnonzero(starts >= text_length)
        text = np.flatnonzero((ends <= text_length) & (ends > starts))
        if own is None or len(own) != len(question):  # the first window's; the split at the border may shift a token
            own = attention[np.ix_(question, question)].sum(axis=1, keepdims=True)
        kernel = np.ones(self.phrase_tokens)
        rows = [
            np.convolve(row, kernel, mode="full")[(self.phrase_tokens - 1) // 2 :][: len(text)] for row in attention[np.ix_(question, text)]
        ]
        scores = np.zeros(len(starts))
        scores[text] = (own * own * np.array(rows)).sum(axis=0)
        return scores, own

    def _best(self, run: Run, texts: Sequence[Passage], seen: Inspection, scores: Array, most_tokens: int) -> list[Passage]:
        """Sentences with one of the best tokens, best first, as far as ``most_tokens`` reach."""
        ends = np.cumsum([len(p.text) + 1 for p in texts])
        best: dict[int, float] = {}
        for token in np.argsort(-scores)[: self.top_tokens]:
            if scores[token] > 0:
                sentence = int(np.searchsorted(ends, seen.offsets[token][0], side="right"))
                best.setdefault(sentence, float(scores[token]))
        kept: list[Passage] = []
        for sentence in sorted(best, key=lambda s: -best[s]):
            if kept and _tokens(run, [*kept, texts[sentence]]) > most_tokens:
                break
            kept.append(texts[sentence])
        return kept


def _sentences(run: Run, passages: Sequence[Passage], longest: int) -> list[Passage]:
    """All sentences in order, as exact spans; one that is too long for half a window is cut."""
    return [piece for p in passages for start, end in sentences(p.text) for piece in _pieces(run, _span(p, start, end), longest)]


def _pieces(run: Run, passage: Passage, longest: int) -> Iterator[Passage]:
    rest: Passage | None = passage
    while rest is not None:
        if run.model.count_tokens(rest.text) <= longest:
            yield rest
            return
        head, rest = split_passage(run, rest, longest)
        yield head


def _span(passage: Passage, start: int, end: int) -> Passage:
    line = None if passage.line is None else passage.line + passage.text.count("\n", 0, start)
    return replace(passage, text=passage.text[start:end], start=passage.start + start, end=passage.start + end, line=line)


def _next_chunk(run: Run, units: list[Passage], room_tokens: int) -> list[Passage]:
    """Take sentences from the front of ``units`` while they fit; at least one."""
    taken, used = [units.pop(0)], 0
    used = _tokens(run, taken)
    while units and used + (more := _tokens(run, units[:1])) <= room_tokens:
        taken.append(units.pop(0))
        used += more
    return taken


def _text(passages: Sequence[Passage]) -> str:
    return "\n".join(p.text for p in passages)


def _tokens(run: Run, passages: Sequence[Passage]) -> int:
    return sum(run.model.count_tokens(p.text) + 1 for p in passages)


def _answer(run: Run) -> Usage:
    """What must stay unspent for the last call: its fixed prompt, a short text and a short answer."""
    return Usage(calls=1, prompt_tokens=run.model.count_tokens(question_frame(run, ())) + 64, generated_tokens=16)
