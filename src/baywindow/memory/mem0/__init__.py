"""Facts instead of transcripts: what was said is distilled to single facts, each compared with what is known, then added, merged or put in
the place of an older one.

Paper: Chhikara et al. 2025, Mem0: Building Production-Ready AI Agents with Scalable Long-Term Memory, arXiv:2504.19413; read beside
it: github.com/mem0ai/mem0.
Idea: for each pair of messages a model sees a running summary, the last ``recent_turns`` messages and the pair, and names facts; each
fact meets its ``similar`` nearest memories, and a second call chooses ADD, UPDATE, DELETE or NOOP. ``graph=True`` also keeps
relations as edges, of which a contradicted one is closed, not erased.
Departs from the paper: see the card. The project's later releases only add; this is the algorithm of the paper.
Shapes and units: turns a call, memories a comparison; tokens of the model that distils.
Cost: one call for ``turns_per_call`` turns, one a fact that has neighbours, one for ``summary_every`` turns; with ``graph`` one more a
pair, and one a relation that may contradict another. Recall makes no call.
Errors: ConfigError for an option below its least. What a model spoils is kept as it was said.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.memory.base import MemorySystem, at_least
from baywindow.memory.mem0.decide import settle
from baywindow.memory.mem0.facts import FACT, SAID, Extraction, extract
from baywindow.memory.mem0.graph import EDGE, connect
from baywindow.memory.records import Recalled, Turn, of_record
from baywindow.memory.summaries import Folding, folded, unfolded
from baywindow.memory.work import Work
from baywindow.registry import technique

SUMMARY = "summary"
FOLDING = Folding(
    name="mem0 summary",
    rules="Bring the summary of a conversation up to date: who the people are, what they are doing and what they talk about.",
    summary_tokens=200,
)


@technique(
    summary="single facts, each added, merged, replaced or left by comparison; relations on request",
    paper="arXiv:2504.19413",
    year=2025,
    needs=("text", "embedder"),
    claim="Recalled facts answer almost as well as the full history with under a tenth of its tokens.",
    departures=(
        "every fact quotes its turn, and one whose words, names or numbers no turn holds is refused: invention is the known fault here",
        "DELETE puts the new fact in the place of the one it contradicts, which stays as history: deleting alone loses both",
        "what is said about an earlier time never replaces what was said later: turns may arrive late",
        "the operation is a checked form, not a tool call, and a fact without neighbours is added without asking: small models",
        "a fact without a legible decision is added, and turns whose facts are illegible or refused are kept as said: nothing may be lost",
        "the summary is renewed every 20 turns with the work at hand, not by a process of its own: one transaction",
        "edges are matched by name, and found by words and meaning of the whole edge: no graph database is needed",
    ),
)
class Mem0(MemorySystem):
    k: int = 20  # memories found for a question
    recent_turns: int = 10  # m
    similar: int = 10  # s
    turns_per_call: int = 2  # a pair
    summary_every: int = 20  # turns; 0: no summary
    graph: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, k=1, recent_turns=0, similar=1, turns_per_call=1, summary_every=0)

    def absorb(self, work: Work, turns: Sequence[Turn]) -> None:
        summary = self._summary(work)
        spoken = [turn for turn in turns if turn.role != "system" and turn.text.strip()]
        how = Extraction(recent_turns=self.recent_turns, turns_per_call=self.turns_per_call)
        for found in extract(work, how, spoken, summary):
            for turn in found.as_said:
                work.add(SAID, turn.line, [turn], reason=f"{found.reason}; kept as said")
            for fact in found.facts:
                settle(work, fact, self.similar)
            if self.graph:
                connect(work, found.facts)
        self._renew(work)

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        return work.packed(self.search(work, query, self.k), budget_tokens)

    def search(self, work: Work, query: str, k: int) -> list[Recalled]:
        found = work.near_records(query, k + 1)  # the summary may be among them
        shown = {FACT, SAID, EDGE} if self.graph else {FACT, SAID}
        return [of_record(record, score) for record, score in found if record.kind in shown][:k]

    def _summary(self, work: Work) -> str:
        kept = work.records(SUMMARY)
        return kept[-1].text if kept else ""

    def _renew(self, work: Work) -> None:
        kept = work.records(SUMMARY)
        done = kept[-1].turns if kept else ()
        waiting = unfolded(work, set(done))
        if not self.summary_every or len(waiting) < self.summary_every:
            return
        text, left = folded(work, FOLDING, self._summary(work), waiting)
        used = [t.id for t in waiting if t.id not in {turn.id for turn in left}]
        if used and kept:
            work.update(kept[-1], text, [*done, *used], reason="summary brought up to date")
        elif used:
            work.add(SUMMARY, text, used, reason="first summary")
