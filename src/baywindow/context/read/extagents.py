"""Agents read the parts at once, a reasoner tries the best findings first, and what it still lacks sends the agents back.

Paper: Liu et al. 2025, Scaling External Knowledge Input Beyond Context Windows of LLMs via Multi-Agent Collaboration, arXiv:2505.21471;
reference code: THUNLP-MT/ExtAgents.
Idea: round 1: one agent a part extracts what helps; findings are ranked; the reasoner is shown the best 1, 2, 4, 8, … of them until it
answers. While it declines, every agent reads its part again beside all findings so far and adds only new facts.
Departs from the paper: see the card.
Shapes and units: ``part_tokens`` of text for one agent (less where the window is smaller), ``note_tokens`` a finding; tokens of the
target model. ``rounds`` counts readings of the text.
Cost: at most rounds × (parts + 1) + log2(parts) + 1 calls, and one a part to score; ``max_calls`` caps them.
Errors: ConfigError for an option below its least. When budget or cap end it, the reasoner answers from the findings so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from baywindow.budget import Usage
from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.notes import ANSWER_NOTES_SYSTEM, NOTES_SYSTEM, lengths, notes_prompt, reserve
from baywindow.context.parts import all_regions, answer_from_best, count_unread, fitting, marked, parts, prompt_fits
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, messages, regions_of
from baywindow.context.reply import NOT_FOUND, Task, declined, may_decline
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, ask_many
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

EXTRACT = Task(
    rules=f"Several readers share a long text; you have one part of it. {DATA_RULE}",
    form=(
        "Extract everything in it that may help to answer the question, so that it can be understood without the text. "
        "Behind each fact put the number of its passage, like [1]."
    ),
    decline=f"If nothing in this part helps, reply only: {NOT_FOUND}",
    examples=(
        ("<passage [1] from garden.md:1>\nThe beans were sown on 4 May.\n</passage>\n\nQuestion: Who painted the fence?", NOT_FOUND),
        (
            "<passage [1] from harbour.txt:1>\nThe pier was closed in 1987 after the storm.\n</passage>\n\n"
            "Question: When did the pier close?",
            "The pier closed in 1987, after a storm. [1]",
        ),
    ),
)
AGAIN = Task(
    rules=(
        "Several readers share a long text; you have one part of it. What all of them found so far does not answer the question yet. "
        f"{DATA_RULE} {NOTES_SYSTEM}"
    ),
    form=(
        "Extract from it only facts that are not among the findings, above all those that the findings now make useful. "
        "Behind each fact put the number of its passage, like [1]."
    ),
    decline=f"If there is nothing new, reply only: {NOT_FOUND}",
    examples=(
        (
            "Findings so far:\nThe fence was painted by the sexton. [4]\n\n"
            "<passage [1] from garden.md:1>\nThe beans were sown on 4 May.\n</passage>\n\nQuestion: Who was the sexton's father?",
            NOT_FOUND,
        ),
        (
            "Findings so far:\nThe pier closed after the storm. [3]\n\n"
            "<passage [1] from harbour.txt:1>\nThe storm came in May 1987.\n</passage>\n\nQuestion: When did the pier close?",
            "The storm came in May 1987. [1]",
        ),
    ),
)
SCORE = Form((Field(name="score", about="0 to 100", kind="number"),), rest="score")
SCORE_SYSTEM = f"Score from 0 to 100 how much the note helps to answer the question. {NOTES_SYSTEM}"
REASON_SYSTEM = ANSWER_NOTES_SYSTEM
LAST_SYSTEM = (
    "Answer the question from the notes, in one or two short sentences; where they do not hold the whole answer, give the most likely "
    f"one. Keep the numbers of the passages, like [1], behind what they support. {NOTES_SYSTEM}"
)
SCORE_TASK = "Reply only with the number, from 0 to 100."
SCORE_TOKENS = 16
SHARED_PART = 4  # findings take at most one part in four of an agent's window


@dataclass
class _Findings:
    """What was found so far, best first in round 1, later ones behind; and what the reasoner last made of it."""

    texts: list[str] = field(default_factory=list)
    tried: int = 0  # findings that the reasoner was last shown
    reply: str | None = None

    @property
    def answered(self) -> bool:
        return self.reply is not None and not declined(self.reply)


@technique(
    summary="agents read parts at once, a reasoner tries the best findings, gaps send them back",
    paper="arXiv:2505.21471",
    year=2025,
    claim="At a fixed window, more input keeps raising multi-hop accuracy where one long prompt or one map-reduce stops gaining.",
    departures=(
        "findings are scored when the whole text is read and keep their order when passages were retrieved: the paper's two task modes",
        "the last rung of the ladder is all findings in both modes: the reference code may end below that for retrieved passages",
        "rounds end when no agent adds anything: at temperature 0 the next round would repeat the same prompts",
        "the last round may still decline unless must_answer is set: the product must be able to say that the text does not hold it",
        "findings that do not fit the window are left out from the end and counted: the paper's prompts grow without bound",
        "passage numbers are carried through the findings, so that the answer can cite",
    ),
)
class ExtAgents(NoteReader):
    part_tokens: int = 8000
    note_tokens: int = 512
    max_new_tokens: int = 256
    rounds: int = 5
    scored: bool | None = None  # None: score findings unless earlier stages chose the passages, whose order then stands
    must_answer: bool = False  # True: the last round's reasoner may not decline, as in the paper
    max_calls: int = 256

    def __post_init__(self) -> None:
        check_options(self, part_tokens=64, note_tokens=8, max_new_tokens=8, rounds=1, max_calls=2)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        note_tokens, answer_tokens = lengths(run, self.note_tokens, self.max_new_tokens)
        keep = reserve(run, note_tokens, answer_tokens, REASON_SYSTEM)
        capped = Capped(run, self.max_calls)
        found = _Findings()
        for number in range(1, self.rounds + 1):
            new = self._extracted(capped, passages, found.texts, Call(name=f"round {number}", max_new_tokens=note_tokens, keep=keep))
            if number == 1 and (self.scored if self.scored is not None else passages is None):
                new = _ranked(capped, new, keep) if len(new) > 1 else new
            found.texts += new
            if not found.texts or (not new and number > 1):
                break
            rungs = _ladder(len(found.texts)) if number == 1 else [len(found.texts)]
            if not self._reasoned(capped, found, rungs, number, answer_tokens):
                break
        if found.reply is not None:
            return found.reply
        if found.texts:  # nothing is left for the reasoner: the findings themselves are the answer
            run.say("\n".join(found.texts))
            return "\n".join(found.texts)
        return answer_from_best(run, passages, "reason", answer_tokens) if run.cut_short else NOT_FOUND

    def _extracted(self, capped: Capped, passages: list[Passage] | None, known: list[str], how: Call) -> list[str]:
        """One call a part; what the agents found, without those that found nothing."""
        run = capped.run
        room = run.room(0, 0, how.keep) // SHARED_PART
        shared = fitting(run, known, lambda some: run.model.count_tokens("\n".join(some)) <= room, "findings beside an agent's part")

        def frame(shown: Sequence[Passage]) -> Prompt:
            before = "" if not known else "Findings so far:\n" + "\n".join(defused(text) for text in shared) + "\n\n"
            return (AGAIN if known else EXTRACT).prompt(run, f"{before}{fenced(run, shown)}\n\nQuestion: {run.question}")

        packs = parts(run, passages, frame, how.max_new_tokens, text_tokens=self.part_tokens, keep=how.keep)
        run.progress(f"{how.name}: {len(packs)} agents read")
        call = Call(name=how.name, max_new_tokens=how.max_new_tokens, keep=how.keep, regions=all_regions(run, packs))
        replies = capped.call_many([pack.prompt for pack in packs], call)
        count_unread(run, replies)
        return _new(run, packs, replies, known)

    def _reasoned(self, capped: Capped, found: _Findings, rungs: Sequence[int], number: int, answer_tokens: int) -> bool:
        """Ask the reasoner, rung by rung. True if it declined everything, so that another round may help."""
        run = capped.run
        system = LAST_SYSTEM if self.must_answer and number == self.rounds else REASON_SYSTEM

        def fits(some: Sequence[str]) -> bool:
            return prompt_fits(run, notes_prompt(run, some, system), answer_tokens)

        for rung in rungs:
            shown = fitting(run, found.texts[:rung], fits, "findings")
            if not shown:
                return False
            if number == 1 and len(shown) <= found.tried:  # no more fits than was declined already
                return True
            prompt = notes_prompt(run, shown, system)
            how = Call(name="reason", max_new_tokens=answer_tokens, final=True, regions=regions_of(run, prompt, ()), withhold=may_decline)
            reply = capped.call(prompt, how)
            if reply is None:
                return False
            found.reply, found.tried = reply, len(shown)
            if found.answered:
                return False
        return True


def _ladder(count: int) -> list[int]:
    """1, 2, 4, 8, … and ``count``."""
    rungs = [1]
    while rungs[-1] < count:
        rungs.append(min(2 * rungs[-1], count))
    return rungs


def _new(run: Run, packs: Sequence[Packed], replies: Sequence[str | None], known: Sequence[str]) -> list[str]:
    found: list[str] = []
    for pack, reply in zip(packs, replies, strict=True):
        if reply and not declined(reply):
            text = marked(run, reply, pack.shown)
            if text not in found and text not in known:
                found.append(text)
    return found


def _ranked(capped: Capped, texts: list[str], keep: Usage) -> list[str]:
    """Best first by a scoring call each; a finding without a score counts 0. Equals keep their order."""
    prompts = [messages(SCORE_SYSTEM, f"Question: {capped.run.question}\n\nNote:\n{defused(text)}\n\n{SCORE_TASK}") for text in texts]
    replies = ask_many(capped, prompts, SCORE, Call(name="score", max_new_tokens=SCORE_TOKENS, keep=keep))
    scores = [(reply.number("score") or 0.0) if reply is not None else 0.0 for reply in replies]
    return [texts[i] for i in sorted(range(len(texts)), key=lambda i: -scores[i])]
