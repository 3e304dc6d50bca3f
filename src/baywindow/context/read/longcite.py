"""Answer first, then find the sentences that support each statement, from coarse to fine.

Paper: Zhang et al. 2024, LongCite: Enabling LLMs to Generate Fine-grained Citations in Long-context QA, arXiv:2409.02897. Code:
THUDM/LongCite (the CoF pipeline, which made its training data; here it answers).
Idea: the model answers; each sentence of the answer retrieves chunks of the text; the answer is written again as statements with the
numbers of the chunks that support them; then, for each statement, the sentences of its chunks and their neighbours are numbered and the
model names the ones that support it. Citations are those sentences.
Departs from the paper: see the card.
Shapes and units: ``chunk_tokens`` a chunk, ``k`` chunks for each sentence of the answer, at most ``ranges`` citations a statement; tokens
of the target model.
Cost: 2 calls, and one short call a cited statement (in parallel), at most ``max_calls``.
Errors: none of its own. Where a step cannot be made, the answer keeps the marks it has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from baywindow.budget import NOTHING
from baywindow.context.base import Reader
from baywindow.context.capped import Capped, check_options
from baywindow.context.cite import MARK, sentences
from baywindow.context.prompt import DATA_RULE, defused, fenced, messages, pack_one, split_passage
from baywindow.context.reply import declined, question_frame
from baywindow.context.run import Call, Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import Bm25, best_first
from baywindow.models.base import Prompt
from baywindow.registry import technique

CHUNKS_SYSTEM = (
    "Write the answer again as statements, one a line, in the same words and order. Behind each statement put the numbers of the passages "
    f"that support it, like [1] [2], at most five; none where no passage does. {DATA_RULE}"
)
SENTENCES_SYSTEM = (
    "The sentences are numbered like <3>. Reply with the numbers of the sentences that support the statement, as ranges like 3-4, 7, or "
    f"with the word none. {DATA_RULE}"
)
RANGE_TOKENS = 32
MOST_CHUNKS_A_STATEMENT = 5
_RANGE = re.compile(r"<?(\d{1,4})>?(?:\s*(?:-|–|to)\s*<?(\d{1,4})>?)?")


@dataclass(frozen=True)
class Statement:
    text: str
    chunks: tuple[int, ...]  # positions in the list of chunks


@technique(
    summary="answers first, then cites the sentences behind each statement, from coarse to fine",
    paper="arXiv:2409.02897",
    year=2024,
    claim="Coarse-to-fine citing after answering gives shorter cited spans at equal or better citation quality than citing in one pass.",
    departures=(
        "the question is the user's: the paper's first step, which invents questions to make training data, is left out",
        "chunks are found by BM25 among what the answering call was shown; the paper's embedding search reads the whole text",
        "a statement that no sentence supports keeps no citation; the paper drops the whole sample when few are cited",
        "greedy decoding instead of temperature 1",
    ),
)
class Longcite(Reader):
    chunk_tokens: int = 128
    k: int = 10
    ranges: int = 3
    max_new_tokens: int = 256
    max_calls: int = 24

    def __post_init__(self) -> None:
        check_options(self, chunk_tokens=32, k=1, ranges=1, max_new_tokens=1, max_calls=1)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        source = run.corpus.passages() if passages is None else passages
        packed = pack_one(run, source, lambda shown: question_frame(run, reading_order(shown)), self.max_new_tokens)
        if packed.left_out_passages:
            run.note(f"{packed.left_out_passages} passages did not fit and were left out")
        if not packed.shown:
            return ""
        capped = Capped(run, self.max_calls)
        how = Call(name="answer", max_new_tokens=self.max_new_tokens, regions=packed.regions(run))
        reply = capped.call(packed.prompt, how)
        if reply is None or not reply or declined(reply):
            return reply or ""
        text = self._cited(run, capped, reply, packed.shown)
        run.say(text)
        return text

    def _cited(self, run: Run, capped: Capped, reply: str, shown: Sequence[Passage]) -> str:
        """The answer as statements with marks that lead to sentences; the reply itself where that cannot be had."""
        chunks = [piece for p in reading_order(shown) for piece in self._chunks(run, p)]
        plain = MARK.sub("", reply)
        statements = self._statements(run, capped, plain, chunks, self._near(plain, chunks))
        if not statements:
            return reply
        cited = [s for s in statements if s.chunks]
        lists = [_sentences(chunks, s.chunks) for s in cited]
        prompts = [_ask_sentences(s.text, found) for s, found in zip(cited, lists, strict=True)]
        fits = [run.model.count_tokens(p) + RANGE_TOKENS <= run.room_without_budget() for p in prompts]
        asked = [p for p, fit in zip(prompts, fits, strict=True) if fit]
        replies = iter(capped.call_many(asked, Call(name="sentences", max_new_tokens=RANGE_TOKENS)))
        said = [next(replies) if fit else None for fit in fits]
        spans = {s.text: _chosen(run, r, found, self.ranges) for s, r, found in zip(cited, said, lists, strict=True)}
        lines = []
        for s in statements:
            found = spans.get(s.text)
            # No reply (budget, window): the chunks themselves stand as the citation.
            support = [chunks[i] for i in s.chunks] if found is None else found
            lines.append(" ".join([s.text, *(f"[{run.number(p)}]" for p in support)]))
        return " ".join(lines)

    def _chunks(self, run: Run, passage: Passage) -> list[Passage]:
        pieces, rest = [], passage
        while run.model.count_tokens(rest.text) > self.chunk_tokens:
            head, tail = split_passage(run, rest, self.chunk_tokens)
            pieces.append(head)
            if tail is None:
                return pieces
            rest = tail
        return [*pieces, rest] if rest.text.strip() else pieces

    def _near(self, answer: str, chunks: Sequence[Passage]) -> list[int]:
        """The chunks that sentences of the answer retrieve, in document order."""
        search, found = Bm25([c.text for c in chunks]), set[int]()
        for start, end in sentences(answer):
            scores = search.scores(answer[start:end])
            found |= {i for i in best_first(scores, self.k) if scores[i] > 0}
        return sorted(found)

    def _statements(self, run: Run, capped: Capped, answer: str, chunks: Sequence[Passage], near: Sequence[int]) -> list[Statement]:
        """The answer in statements with the chunks that support each; empty if the call could not be made or kept no statement."""

        def frame(shown: Sequence[Passage]) -> Prompt:
            return messages(CHUNKS_SYSTEM, f"{fenced(run, shown)}\n\nQuestion: {run.question}\n\nAnswer:\n{defused(answer)}")

        if not near or (room := run.room(0, self.max_new_tokens)) < run.model.count_tokens(frame(())) + 64:
            return []
        with run.numbers_undone():  # the answer cites sentences; chunks are numbered only to be named here
            packed = pack_one(run, [chunks[i] for i in near], frame, self.max_new_tokens, keep=NOTHING, limit_tokens=room)
            position = {run.number(p): i for i in near for p in packed.shown if p.key == chunks[i].key}
            reply = capped.call(packed.prompt, Call(name="statements", max_new_tokens=self.max_new_tokens, regions=packed.regions(run)))
        found = []
        for line in (reply or "").splitlines():
            text = MARK.sub("", line).strip(" -*•\t")
            numbers = [int(n) for mark in MARK.findall(line) for n in re.findall(r"\d+", mark)]
            if text and not declined(text):
                named = tuple(dict.fromkeys(position[n] for n in numbers if n in position))[:MOST_CHUNKS_A_STATEMENT]
                found.append(Statement(text, named))
        return found if any(s.chunks for s in found) else []


def _sentences(chunks: Sequence[Passage], named: Sequence[int]) -> list[Passage]:
    """Sentences of the named chunks, each widened by its neighbours in the same document, as exact spans in order."""
    wide = {j for i in named for j in (i - 1, i, i + 1) if 0 <= j < len(chunks) and chunks[j].source == chunks[i].source}
    found = []
    for i in sorted(wide):
        for start, end in sentences(chunks[i].text):
            line = chunks[i].line
            line = None if line is None else line + chunks[i].text.count("\n", 0, start)
            text = chunks[i].text[start:end]
            found.append(replace(chunks[i], text=text, start=chunks[i].start + start, end=chunks[i].start + end, line=line))
    return found


def _ask_sentences(statement: str, found: Sequence[Passage]) -> Prompt:
    lines = "\n".join(f"<{n}> {defused(p.text)}" for n, p in enumerate(found, 1))
    return messages(SENTENCES_SYSTEM, f"<passage [sentences]>\n{lines}\n</passage>\n\nStatement: {defused(statement)}")


def _chosen(run: Run, reply: str | None, found: Sequence[Passage], ranges: int) -> list[Passage] | None:
    """The spans that a reply names, at most ``ranges``; empty for "none", None where there was no reply or no number in it."""
    if reply is None:
        return None
    spans: list[Passage] = []
    for first, last in _RANGE.findall(reply):
        a, b = int(first), int(last or first)
        if 1 <= a <= b <= len(found):
            spans.append(_joined(run, [p for p in found[a - 1 : b] if p.source == found[a - 1].source]))
    if spans:
        return list(dict.fromkeys(spans))[:ranges]
    return [] if "none" in reply.lower() else None


def _joined(run: Run, spans: Sequence[Passage]) -> Passage:
    """One exact span from the first sentence to the last, with what stands between them."""
    first, last = spans[0], spans[-1]
    return replace(first, text=run.corpus.excerpt(first.source, first.start, last.end), end=last.end)
