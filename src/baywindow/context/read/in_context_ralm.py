"""Retrieve again every few tokens while the answer is being written.

Paper: Ram et al. 2023, In-Context Retrieval-Augmented Language Models, arXiv:2302.00083. Code: AI21Labs/in-context-ralm.
Idea: before every stride of ``stride_tokens`` the last ``query_tokens`` of what stands there ask BM25; the best passage stands alone before
the text, replacing the previous one, and the model goes on for one stride. With ``rank="likelihood"`` the model chooses among
``candidates`` passages the one under which the last ``rank_tokens`` of the text so far are most likely.
Departs from the paper: see the card.
Shapes and units: all lengths in tokens of the target model; a passage is cut to ``passage_tokens``.
Cost: max_new_tokens / stride_tokens calls, at most ``max_calls``; with likelihood ranking also ``candidates`` scores a stride.
Errors: CapabilityError for ``rank="likelihood"`` with a model that gives no log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from baywindow.context.base import Reader
from baywindow.context.capped import Capped, check_options
from baywindow.context.insides import scored
from baywindow.context.prompt import Packed, pack_one, split_passage
from baywindow.context.reply import NOT_FOUND, declined, question_frame
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import Bm25, best_first
from baywindow.errors import CapabilityError, ConfigError
from baywindow.models.base import Message, Prompt
from baywindow.registry import technique

RANKS = ("first", "likelihood")


@technique(
    summary="retrieves again every few tokens of the answer; one passage at a time stands before it",
    paper="arXiv:2302.00083",
    year=2023,
    claim="A passage refreshed every few tokens lowers the perplexity of a frozen model; choosing it by likelihood lowers it further.",
    departures=(
        "the text is a question and the answer so far, so the first stride asks with the question instead of going without a passage",
        "an answer has max_calls strides at most, and ends early when the model stops: the paper scores given text",
        "the passage is fenced data before the question; the paper overwrites the oldest tokens of the window",
        "the model may decline in the first stride, as with all readers",
    ),
)
class InContextRalm(Reader):
    stride_tokens: int = 4
    query_tokens: int = 32
    passage_tokens: int = 256
    rank: Literal["first", "likelihood"] = "first"
    candidates: int = 16
    rank_tokens: int = 16
    max_new_tokens: int = 64
    max_calls: int = 32

    def __post_init__(self) -> None:
        check_options(self, stride_tokens=1, query_tokens=1, passage_tokens=24, candidates=1, rank_tokens=1, max_new_tokens=1, max_calls=1)
        if self.rank not in RANKS:
            raise ConfigError.bad_value("rank", self.rank, " or ".join(RANKS))

    @property
    def needs(self) -> tuple[str, ...]:
        return (*self.card.needs, "logprobs") if self.rank == "likelihood" else self.card.needs

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        if self.rank == "likelihood" and "logprobs" not in run.model.capabilities:
            raise CapabilityError(f"{run.model.name} gives no log-probabilities", hint='use rank="first", or a local model')
        texts = list(run.corpus.passages() if passages is None else passages)
        search = Bm25([p.text for p in texts])
        capped, said = Capped(run, self.max_calls), ""
        for _ in range(-(-self.max_new_tokens // self.stride_tokens)):
            found = self._found(run, search, texts, said)
            if not found:
                break
            more = self._stride(run, capped, self._chosen(run, found, said), said)
            if not more or (not said and declined(more)):
                break
            said += more
            run.say(more)
        return said.strip() or ("" if run.cut_short else NOT_FOUND)

    def _found(self, run: Run, search: Bm25, texts: list[Passage], said: str) -> list[Passage]:
        """The passages that share words with the last tokens of question and answer; with the question alone where those share none."""
        for query in (_tail(run, f"{run.question} {said}", self.query_tokens), run.question):
            scores = search.scores(query)
            if found := [texts[i] for i in best_first(scores, self.candidates) if scores[i] > 0]:
                return found
        return []

    def _chosen(self, run: Run, found: list[Passage], said: str) -> Passage:
        if self.rank == "first" or len(found) == 1 or not said:
            return found[0]
        known = _tail(run, said, self.rank_tokens)
        best, best_sum = found[0], float("-inf")
        for passage in found:
            score = scored(run, self._packed(run, passage, said.removesuffix(known)).prompt, known)
            if score is None:
                break
            if (total := float(score.logprobs.sum())) > best_sum:
                best, best_sum = passage, total
        return best

    def _packed(self, run: Run, passage: Passage, said: str) -> Packed:
        head, _ = split_passage(run, passage, max(self.passage_tokens, 24))
        return pack_one(run, [head], lambda shown: _prompt(run, shown, said), self.stride_tokens)

    def _stride(self, run: Run, capped: Capped, passage: Passage, said: str) -> str:
        """The next tokens of the answer, or nothing when the model or the budget has come to its end."""
        packed = self._packed(run, passage, said)
        if not packed.shown:
            return ""
        tokens = self.stride_tokens if said else max(self.stride_tokens, run.model.count_tokens(NOT_FOUND))
        how = Call(name="stride", max_new_tokens=tokens, regions=packed.regions(run), strip=not said)
        return capped.call(packed.prompt, how) or ""


def _prompt(run: Run, shown: Sequence[Passage], said: str) -> Prompt:
    asked = question_frame(run, shown)
    return (*asked, Message("assistant", said)) if said else asked


def _tail(run: Run, text: str, tokens: int) -> str:
    """The last words of a text, at most ``tokens`` tokens of them (at least one word)."""
    words = text.split(" ")
    first = len(words) - 1
    while first > 0 and run.model.count_tokens(" ".join(words[first - 1 :])) <= tokens:
        first -= 1
    return " ".join(words[first:])
