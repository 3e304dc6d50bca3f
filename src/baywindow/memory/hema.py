"""A one-sentence summary of everything, the exact words of what is relevant, and the last few turns; old words fade unless they are used.

Paper: Ahn 2025, HEMA: A Hippocampus-Inspired Extended Memory Architecture for Long-Context AI Conversations, arXiv:2504.16754. No code
was found.
Idea: each turn is cut to chunks for a vector index, and changes the one-sentence summary; after ``block_turns`` turns the sentence
goes into a second-level summary and a new one is begun, so that errors do not build up. A question sees both summaries, the nearest
chunks and the latest turns. When a block ends, of more than
``most_chunks`` those with the least weight are dropped from the index.
Departs from the paper: see the card.
Shapes and units: chunks of ``chunk_words`` words; age in chunks that came later; the weight is (1 + use_weight · uses) ·
exp(-age / decay_chunks).
Cost: one call an ``add`` for the sentence, one a block; recall makes no call.
Errors: ConfigError for an option below its least. Without a usable sentence the turns stay in the chunks and are tried again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from baywindow.memory.base import MemorySystem, at_least
from baywindow.memory.records import Recalled, Record, Turn, of_record, of_turn
from baywindow.memory.summaries import Folding, folded, unfolded
from baywindow.memory.work import Work
from baywindow.registry import technique

CHUNK, SENTENCE, BLOCK = "chunk", "sentence", "block"
NOW = Folding(
    name="hema summary",
    rules="Bring the one-sentence summary of a conversation up to date: who speaks, about what, and what was decided. One sentence.",
    summary_tokens=96,
)
BEFORE = Folding(
    name="hema blocks",
    rules="Join two summaries of a conversation to one of at most five sentences. Keep names, dates and decisions.",
    summary_tokens=240,
)


@technique(
    summary="running sentence, summary of summaries, exact chunks by meaning, fading by age and use",
    paper="arXiv:2504.16754",
    year=2025,
    needs=("text", "embedder"),
    claim="Summary and retrieved chunks answer more questions on early facts than the summary or the latest turns alone.",
    departures=(
        "the formula and the share of the pruning are not in the paper: ours weighs age by use, since age alone drops early facts",
        "a use is a later turn that lies near the chunk, not a recall: looking something up changes no store",
        "the sentence is written once for all turns of one add, not once a turn: a call a turn is dear on small machines",
        "the block's sentence is folded into the second level and a new one begun; the paper only says older summaries are compressed",
        "exact search where the paper has FAISS IVF-4096 with OPQ-16, which cannot be trained on a few hundred chunks",
        "the chat's own model summarises where the paper tunes a Distil-PEGASUS; sentences with unsaid names are left out",
        "a pruned chunk leaves the index; the turn it was cut from stays in the store until it is forgotten",
    ),
)
class Hema(MemorySystem):
    k: int = 10
    chunk_words: int = 60
    recent_turns: int = 6
    block_turns: int = 100
    most_chunks: int = 10_000
    decay_chunks: float = 2_000.0
    use_weight: float = 1.0  # 0: age alone

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, k=1, chunk_words=8, recent_turns=0, block_turns=1, most_chunks=1, decay_chunks=1, use_weight=0)

    def absorb(self, work: Work, turns: Sequence[Turn]) -> None:
        for turn in turns:
            self._use(work, turn)
        for turn in turns:
            for text in chunks(turn, self.chunk_words):
                work.add(CHUNK, text, [turn], data={"uses": 0})
        self._summarise(work)

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        """Summaries first, then chunks in the order they were said, then the latest turns; chunks of turns that are shown once only."""
        latest = [of_turn(turn) for turn in work.turns(last=self.recent_turns)]
        told = [of_record(record) for kind in (BLOCK, SENTENCE) for record in work.records(kind)[-1:]]
        shown = {one.turns[0] for one in latest}
        near = [one for one in self.search(work, query, self.k + len(latest)) if not shown & set(one.turns)][: self.k]
        best = work.packed([*told, *near, *reversed(latest)], budget_tokens)
        order = {one.id: at for at, one in enumerate([*told, *sorted(near, key=lambda one: one.said_at), *latest])}
        return sorted(best, key=lambda one: order[one.id])

    def search(self, work: Work, query: str, k: int) -> list[Recalled]:
        return [of_record(record, score) for record, score in work.near_records(query, k, kind=CHUNK, by="meaning")]

    def _use(self, work: Work, turn: Turn) -> None:
        """What a person comes back to stays longer."""
        if turn.role == "user" and self.use_weight:
            for record, _ in work.near_records(turn.text, self.k, kind=CHUNK, by="words")[:1]:
                work.annotate(record, {**record.data, "uses": int(record.data.get("uses", 0)) + 1})

    def _prune(self, work: Work) -> None:
        kept = sorted(work.records(CHUNK), key=lambda record: record.said_at)
        weights = [self.weight(len(kept) - 1 - place, int(record.data.get("uses", 0))) for place, record in enumerate(kept)]
        surplus = max(0, len(kept) - self.most_chunks)
        for at in sorted(range(len(kept)), key=lambda i: (weights[i], i))[:surplus]:
            work.retire(kept[at], kept[at].turns, reason="faded: old and not used")

    def weight(self, age_chunks: int, uses: int) -> float:
        """What pruning compares: 1 for a chunk that is new and unused."""
        return (1 + self.use_weight * uses) * math.exp(-age_chunks / self.decay_chunks)

    def _summarise(self, work: Work) -> None:
        blocks, sentence = _last(work, BLOCK), _last(work, SENTENCE)
        told = {turn for record in (blocks, sentence) if record for turn in record.turns}
        text, left = folded(work, NOW, sentence.text if sentence else "", waiting := unfolded(work, told))
        used = [t.id for t in waiting if t.id not in {one.id for one in left}]
        if not used:
            return
        if sentence:
            sentence = work.update(sentence, text, [*sentence.turns, *used], reason="brought up to date")
        else:
            sentence = work.add(SENTENCE, text, used, reason="a block begins")
        if len(sentence.turns) >= self.block_turns:
            self._close_block(work, sentence, blocks)

    def _close_block(self, work: Work, sentence: Record, blocks: Record | None) -> None:
        """Fold the block's sentence into the second level and begin anew."""
        if blocks is None:
            work.add(BLOCK, sentence.text, sentence.turns, reason="the first block ended")
        else:
            one = Turn(id=sentence.id, role="system", text=sentence.text, said_at=sentence.said_at, scope=sentence.scope, speaker="Summary")
            text, left = folded(work, BEFORE, blocks.text, [one])
            if left:
                return  # the sentence goes on until a joined summary can be had
            work.update(blocks, text, [*blocks.turns, *sentence.turns], reason="a block ended")
        work.retire(sentence, sentence.turns, reason="it is in the summary of blocks now")
        self._prune(work)


def chunks(turn: Turn, words: int) -> list[str]:
    """The words of a turn, with who said them, in pieces of about the same length."""
    said = turn.text.split()
    count = -(-len(said) // words)
    size = -(-len(said) // max(1, count))
    return [f"{turn.who}: {' '.join(said[at : at + size])}" for at in range(0, len(said), max(1, size))]


def _last(work: Work, kind: str) -> Record | None:
    kept = work.records(kind)
    return kept[-1] if kept else None
