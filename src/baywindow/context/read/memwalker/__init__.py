"""Walk down a tree of summaries to the segment that answers, with a memory of what was passed on the way.

Paper: Chen et al. 2023, Walking Down the Memory Maze: Beyond Context Limit through Interactive Reading, arXiv:2310.05029. No code was
found.
Idea: segments are summarised, groups of neighbouring summaries are summarised again, up to one root. From the root the model chooses
the child that most likely leads to the answer, or turns back; at a segment it says whether it can answer. What it has passed is its
working memory. The walk is the explanation: every visited place is in the trace.
Departs from the paper: see the card.
Shapes and units: ``segment_tokens`` of text a leaf, ``children`` a node, ``summary_tokens`` a summary, ``memory_tokens`` of working
memory; tokens of the target model. ``max_steps`` counts visited nodes.
Cost: n + n / children + … summaries for n segments (in parallel, level by level), then at most max_steps calls and one answer.
Errors: ConfigError for an option below its least. When budget or cap end the walk, the memory is answered from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from baywindow.budget import Usage
from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.notes import NOTES_SYSTEM, answer_from_notes, lengths
from baywindow.context.parts import answer_from_best, parts
from baywindow.context.prompt import DATA_RULE, Packed, pack_one
from baywindow.context.read.memwalker.tree import built, segment_prompt
from baywindow.context.read.memwalker.walk import Walk, asked_at, choose_prompt, leaf_prompt
from baywindow.context.reply import ANSWER, NOT_FOUND, may_decline
from baywindow.context.run import Call, Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

ANSWER_BOTH = replace(ANSWER, rules=f"Answer questions from passages of documents and a memory of others. {DATA_RULE} {NOTES_SYSTEM}")
STEP_TOKENS = 160
WALK_CALLS = 6  # kept back for the walk while the tree is built: down to a segment and a little back


@technique(
    summary="a walk down a tree of summaries to the segment that answers, with working memory",
    paper="arXiv:2310.05029",
    year=2023,
    claim="Walking with a working memory answers more questions on texts several times the window than walking without, or truncation.",
    departures=(
        "visited nodes are closed and steps are capped: turning back without a mark can go round in circles",
        "a reply that cannot be read falls back to the child whose summary shares most words with the question: small models go on",
        "a visited segment is remembered by its summary and what was said of it: its whole text would fill the window",
        "memory beyond memory_tokens drops its oldest entries and says so; the paper's rule was not found",
        "the answer is written by a call of its own at the segment, so that it can stream and cite",
        "children per node (5) and retries (1) are ours: the paper's values were not found",
    ),
)
class MemWalker(NoteReader):
    segment_tokens: int = 1000
    children: int = 5
    summary_tokens: int = 150
    memory_tokens: int = 400
    max_new_tokens: int = 256
    max_steps: int = 24
    remembers: bool = True  # False: ablation, the walk has no working memory
    max_calls: int = 256

    def __post_init__(self) -> None:
        check_options(self, segment_tokens=64, children=2, summary_tokens=8, memory_tokens=8, max_new_tokens=8, max_steps=1, max_calls=3)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        summary_tokens, answer_tokens = lengths(run, self.summary_tokens, self.max_new_tokens, share_of=12)
        memory_tokens = min(self.memory_tokens, 2 * summary_tokens)
        capped = Capped(run, self.max_calls)
        least = run.model.count_tokens(answer_prompt(run, (), "")) + memory_tokens
        keep = Usage(calls=1, prompt_tokens=least, generated_tokens=answer_tokens)
        how = Call(name="summarise", max_new_tokens=summary_tokens, keep=keep)
        packs = self._segments(run, passages, how)
        run.progress(f"summarising {len(packs)} segments")
        walking = replace(keep, calls=1 + min(self.max_steps, WALK_CALLS, self.max_calls // 3))
        root = built(capped, packs, self._size(run, summary_tokens), replace(how, keep=walking))
        if root is None:
            return answer_from_best(run, passages, "answer", answer_tokens) if run.cut_short else NOT_FOUND
        walk = Walk(capped, replace(how, max_new_tokens=min(STEP_TOKENS, 2 * summary_tokens)), memory_tokens if self.remembers else 0)
        walk.from_node(root, self.max_steps)
        if walk.ended_at is None and not walk.memory and run.cut_short:
            return answer_from_best(run, passages, "answer", answer_tokens)
        return _answer(walk, answer_tokens)

    def _segments(self, run: Run, passages: list[Passage] | None, how: Call) -> list[Packed]:
        """The leaves. Each is read again beside the memory, under a longer instruction: room for these is held back."""
        longest = max(run.model.count_tokens(make(run, (), "")) for make in (leaf_prompt, answer_prompt))
        again = longest + 2 * how.max_new_tokens
        room = max(1, run.room(again, 2 * how.max_new_tokens, how.keep))
        source = None if passages is None else reading_order(passages)
        text_tokens = min(self.segment_tokens, room)
        return parts(run, source, lambda shown: segment_prompt(run, shown), how.max_new_tokens, text_tokens=text_tokens, keep=how.keep)

    def _size(self, run: Run, summary_tokens: int) -> int:
        """Children a node: as asked for, but so few that their summaries fit one prompt beside the memory."""
        fixed = run.model.count_tokens(choose_prompt(run, (), "")) + 2 * summary_tokens
        return max(2, min(self.children, run.room(fixed, 2 * summary_tokens) // (summary_tokens + 8)))


def answer_prompt(run: Run, shown: Sequence[Passage], memory: str) -> Prompt:
    return ANSWER_BOTH.prompt(run, asked_at(run, shown, memory))


def _answer(walk: Walk, answer_tokens: int) -> str:
    run, leaf = walk.capped.run, walk.ended_at
    if leaf is None:
        return answer_from_notes(run, walk.memory, "answer", answer_tokens)
    pack = pack_one(run, leaf.shown, lambda some: answer_prompt(run, some, walk.recalled), answer_tokens)
    how = Call(
        name="answer",
        max_new_tokens=answer_tokens,
        final=True,
        regions=pack.regions(run),
        withhold=may_decline,
    )
    reply = run.call(pack.prompt, how)
    return walk.recalled if reply is None else reply
