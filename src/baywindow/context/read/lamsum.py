"""Sum up a large collection by its own most representative passages, chosen level by level and by vote.

Paper: Chhikara et al. 2024, LaMSUM: Creating Extractive Summaries of User Generated Content using LLMs, arXiv:2406.15809. No code was
found; from the text.
Idea: passages are dealt into chunks; for each chunk the model selects representative ones, several times with the order shuffled, so
that no place in the prompt wins. A voting rule combines the selections of a chunk; winners go to the next level, until ``k`` remain. The
summary is those passages, word for word.
Departs from the paper: see the card.
Shapes and units: ``k`` passages out, ``chunk_passages`` to a prompt (fewer in a small window), ``shuffles`` selections of each chunk.
Cost: ⌈passages / chunk_passages⌉ × shuffles calls on the first level, geometrically fewer above; at most ``max_calls``.
Errors: none of its own. Where the budget or the cap ends it, the passages chosen by then are given.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import combinations
from typing import Literal

from baywindow.context.base import Reader
from baywindow.context.capped import Capped, check_options
from baywindow.context.cite import MARK
from baywindow.context.notes import lengths
from baywindow.context.prompt import DATA_RULE, fenced, pack_all
from baywindow.context.reply import NOT_FOUND, Task, declined
from baywindow.context.run import Call, Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.models.base import Prompt
from baywindow.registry import technique

SELECT = Task(
    rules=f"Select the passages that together represent best what all of them say about a question. {DATA_RULE}",
    form="Reply with the numbers of the passages only, the best one first, like [1] [2].",
    decline=f"If none has to do with the question, reply only: {NOT_FOUND}",
    examples=(
        (
            "<passage [1] from garden.md:1>\nThe beans were sown on 4 May.\n</passage>\n\nQuestion: What do guests say of the food?",
            NOT_FOUND,
        ),
        (
            "<passage [1] from a.txt:1>\nThe soup was cold.\n</passage>\n<passage [2] from b.txt:1>\nWe came by train.\n</passage>\n"
            "<passage [3] from c.txt:1>\nThe bread was very good.\n</passage>\n\nQuestion: What do guests say of the food?",
            "[3] [1]",
        ),
    ),
)
VOTES = ("proportional", "plurality", "borda")
LEAST_SIMILARITY = 0.6  # of a paraphrased line and the passage it is taken for
MOST_COMMITTEES = 20_000  # beyond it, proportional approval is the usual greedy rule instead of every committee


@technique(
    summary="sums up a collection by its most representative passages, chosen by shuffled votes",
    paper="arXiv:2406.15809",
    year=2024,
    claim="Shuffled, repeated selection with voting depends less on the order of the input than one selection of each chunk.",
    departures=(
        "the paper's chunk size, repeats and number of winners were not found: 20 passages, 3 shuffles, k=5",
        "the model replies with passage numbers, which need no matching back; a reply in words is matched to the nearest passage (0.6)",
        "a chunk about which every selection declines gives no winners: questions may concern a part of the collection only",
        "proportional approval voting is sequential (greedy) where committees are too many to try all",
    ),
)
class Lamsum(Reader):
    k: int = 5
    chunk_passages: int = 20
    shuffles: int = 3
    vote: Literal["proportional", "plurality", "borda"] = "proportional"
    select_tokens: int = 64
    max_calls: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, k=1, chunk_passages=2, shuffles=1, select_tokens=8, max_calls=1, seed=0)
        if self.vote not in VOTES:
            raise ConfigError.bad_value("vote", self.vote, " or ".join(VOTES))

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        left = list(run.corpus.passages() if passages is None else passages)
        capped, rng = Capped(run, self.max_calls), random.Random(self.seed)
        level = 0
        while left:
            chosen = self._level(run, capped, left, rng, level)
            level += 1
            if chosen is None:  # no call was allowed: what the levels before have chosen stands
                left = left[: self.k] if level > 1 else []
                break
            done = len(left) <= self.k or len(chosen) <= self.k
            if not done and len(chosen) >= len(left):
                run.note(f"passages too long to compare: {len(chosen) - self.k} of {len(chosen)} were left out")
                done = True
            left = chosen
            if done:
                break
        if not left:
            return "" if run.cut_short else NOT_FOUND
        text = "\n".join(f"- {p.text.strip()} [{run.number(p)}]" for p in reading_order(left[: self.k]))
        run.say(text)
        return text

    def _level(self, run: Run, capped: Capped, passages: Sequence[Passage], rng: random.Random, level: int) -> list[Passage] | None:
        """The winners of every chunk, in reading order; None if no selection could be made."""
        select_tokens, _ = lengths(run, self.select_tokens, self.select_tokens)
        chunks: list[tuple[Passage, ...]] = []
        for pack in pack_all(run, passages, lambda shown: _prompt(run, shown), select_tokens):
            chunks += [pack.shown[i : i + self.chunk_passages] for i in range(0, len(pack.shown), self.chunk_passages)]
        run.progress(f"level {level + 1}: {len(chunks)} chunks of passages")
        orders = [rng.sample(chunk, len(chunk)) for chunk in chunks for _ in range(self.shuffles)]
        how = Call(name=f"select, level {level + 1}", max_new_tokens=select_tokens)
        replies = capped.call_many([_prompt(run, order) for order in orders], how)
        if all(reply is None for reply in replies):
            return None
        winners: list[Passage] = []
        for i, chunk in enumerate(chunks):
            mine = slice(i * self.shuffles, (i + 1) * self.shuffles)
            ballots = [ballot(run, r, chunk) for r in replies[mine] if r is not None]
            seats = self.k if len(chunk) > self.k else max(1, len(chunk) // 2) if len(chunks) > 1 else len(chunk)
            winners += elected(ballots, chunk, seats, self.vote)
        return winners


def ballot(run: Run, reply: str, chunk: Sequence[Passage]) -> list[Passage]:
    """The passages that a reply selects, best first: by its numbers, else by the nearest passage to each of its lines."""
    if declined(reply):
        return []
    by_number = {run.number(p): p for p in chunk}
    said = [int(n) for mark in MARK.findall(reply) for n in re.findall(r"\d+", mark)] or [int(n) for n in re.findall(r"\b\d+\b", reply)]
    numbered = [by_number[n] for n in dict.fromkeys(said) if n in by_number]
    return numbered or list(dict.fromkeys(p for line in reply.splitlines() if (p := _nearest(line, chunk)) is not None))


def elected(ballots: Sequence[Sequence[Passage]], chunk: Sequence[Passage], seats: int, vote: str) -> list[Passage]:
    """At most ``seats`` passages that somebody voted for, in the order of the chunk. Ties go to the earlier passage."""
    candidates = [p for p in chunk if any(p in b for b in ballots)]
    if len(candidates) <= seats:
        return candidates
    if vote == "proportional":
        return _proportional(ballots, candidates, seats)
    points: Counter[int] = Counter()
    for one in ballots:
        for rank, passage in enumerate(one):
            points[candidates.index(passage)] += 1 if vote == "plurality" else len(chunk) - rank
    best = sorted(range(len(candidates)), key=lambda i: (-points[i], i))[:seats]
    return [candidates[i] for i in sorted(best)]


def _proportional(ballots: Sequence[Sequence[Passage]], candidates: Sequence[Passage], seats: int) -> list[Passage]:
    """Proportional approval voting: each ballot gives a committee 1 + 1/2 + 1/3 + … for the members it approves."""
    votes = [frozenset(i for i, c in enumerate(candidates) if c in b) for b in ballots]

    def worth(committee: frozenset[int]) -> float:
        return sum(1 / n for vote in votes for n in range(1, len(vote & committee) + 1))

    if _committees(len(candidates), seats) <= MOST_COMMITTEES:
        best = max((frozenset(c) for c in combinations(range(len(candidates)), seats)), key=lambda c: (worth(c), -sum(c)))
    else:
        best = frozenset()
        for _ in range(seats):
            best |= {max(set(range(len(candidates))) - best, key=lambda i: (worth(best | {i}), -i))}
    return [candidates[i] for i in sorted(best)]


def _committees(candidates: int, seats: int) -> int:
    return math.comb(candidates, seats)


def _nearest(line: str, chunk: Sequence[Passage]) -> Passage | None:
    """The passage that a line repeats or paraphrases."""
    plain = line.strip(" -*•\t").lower()
    if len(plain) < 8:
        return None

    def likeness(passage: Passage) -> float:
        text = passage.text.strip().lower()
        return 1.0 if plain in text else SequenceMatcher(None, plain, text, autojunk=False).ratio()

    best = max(chunk, key=likeness)
    return best if likeness(best) >= LEAST_SIMILARITY else None


def _prompt(run: Run, shown: Sequence[Passage]) -> Prompt:
    return SELECT.prompt(run, f"{fenced(run, shown)}\n\nQuestion: {run.question}")
