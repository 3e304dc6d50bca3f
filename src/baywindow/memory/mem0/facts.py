"""The first half of Mem0: facts out of turns, each with the turn it comes from and words of it as proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from baywindow.memory.calls import Items, worded
from baywindow.memory.conversation import DATA_RULE, batches, conversation, defused, evidence
from baywindow.memory.dates import dated
from baywindow.memory.grounding import attributed, holds, shares_words, unsaid
from baywindow.memory.records import Turn
from baywindow.memory.work import Work
from baywindow.models.base import Message, Prompt

FACT = "fact"
SAID = "said"
FACTS_TOKENS = 512
SYSTEM = (
    "Name the facts in the new messages that are worth remembering: who someone is, what they like, own, plan, did or decided. "
    "Write each fact as a full sentence that names the person and the date, never 'I', 'she' or 'yesterday'. "
    f"Copy the words that say it. Greetings and questions are no facts. {DATA_RULE}"
)
# For base models; the last one weighs most with small ones, so it is the one that finds something.
EXAMPLES = (
    (
        "New messages:\n<conversation>\n[1] Monday 8 May 2023, Tom: Good morning!\n</conversation>",
        '{"reasoning": "A greeting.", "facts": []}',
    ),
    (
        "New messages:\n<conversation>\n[1] Monday 8 May 2023, Anna: Hi! I adopted a dog yesterday.\n</conversation>",
        '{"reasoning": "Anna tells of a new dog.", "facts": [{"message": 1, "quote": "I adopted a dog yesterday", '
        '"fact": "Anna adopted a dog on 7 May 2023."}]}',
    ),
)


class Fact(BaseModel):
    message: int = Field(description="number of the message")
    quote: str = Field(description="words copied from it")
    fact: str = Field(description="the fact in one sentence")


class Facts(Items):
    reasoning: str = Field(description="what the messages tell")
    facts: list[Fact]


@dataclass(frozen=True)
class Sourced:
    """A fact that its turn bears out. ``known`` is all that may be said of it."""

    text: str
    turn: Turn
    known: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The facts of some turns; the turns of which a model made nothing that can be used, to be kept as they were said, and why."""

    facts: tuple[Sourced, ...] = ()
    as_said: tuple[Turn, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    recent_turns: int
    turns_per_call: int


def extract(work: Work, how: Extraction, turns: Sequence[Turn], summary: str) -> Iterator[Found]:
    """Facts call by call, in the order the turns were said."""
    earlier = work.before(how.recent_turns)
    for start in range(0, len(turns), how.turns_per_call):
        pair = turns[start : start + how.turns_per_call]
        for batch in batches(pair, lambda some: work.room(_prompt("", (), some), FACTS_TOKENS)):
            context, told = _context(work, earlier, batch, summary)
            reply = work.ask(_prompt(told, context, batch), Facts, name="mem0 facts", max_new_tokens=FACTS_TOKENS, examples=EXAMPLES)
            if reply is None:
                yield Found((), tuple(batch), "no facts could be read from the reply")
                continue
            facts = _sourced(work, reply.facts, batch, (*evidence([*context, *batch]), told))
            borne_out = {fact.turn.id for fact in facts}
            spoiled = () if len(facts) == len(reply.facts) else tuple(turn for turn in batch if turn.id not in borne_out)
            yield Found(facts, spoiled, "facts about it were refused" if spoiled else "")
        earlier = [*earlier, *pair][-how.recent_turns :] if how.recent_turns else []


def _prompt(summary: str, context: Sequence[Turn], batch: Sequence[Turn]) -> Prompt:
    parts = [f"Summary of what came before: {defused(summary)}"] if summary else []
    if context:
        parts.append(f"Earlier messages, only to understand the new ones:\n{conversation(context, first=-len(context))}")
    parts.append(f"New messages:\n{conversation(batch)}")
    return (Message("system", SYSTEM), Message("user", "\n\n".join([*parts, worded(Facts)])))


def _context(work: Work, earlier: Sequence[Turn], batch: Sequence[Turn], summary: str) -> tuple[list[Turn], str]:
    """As many of the latest earlier turns as the window has room for beside the new ones, and the summary if there is room for that."""

    def fits(told: str, context: Sequence[Turn]) -> bool:
        return work.room(_prompt(told, context, batch), FACTS_TOKENS) >= 0

    told = summary if fits(summary, ()) else ""
    context: list[Turn] = []
    for turn in reversed(earlier):
        if not fits(told, [turn, *context]):
            break
        context.insert(0, turn)
    return context, told


def _sourced(work: Work, facts: Sequence[Fact], batch: Sequence[Turn], known: tuple[str, ...]) -> tuple[Sourced, ...]:
    """The facts that a turn bears out; the others are refused, and counted in a remark."""
    made = []
    for fact in facts:
        turn = _source(fact, batch)
        if turn is not None and shares_words(fact.fact, [turn.text]) and not unsaid(fact.fact, known):
            made.append(Sourced(dated(attributed(fact.fact, turn.who), turn.said_at), turn, known))
    if refused := len(facts) - len(made):
        work.note(f"mem0: {refused} facts were refused: no turn holds their words")
    return tuple(made)


def _source(fact: Fact, batch: Sequence[Turn]) -> Turn | None:
    """The turn that holds the quoted words: the one that is named, else the only other one that does."""
    if 1 <= fact.message <= len(batch) and holds(batch[fact.message - 1].text, fact.quote):
        return batch[fact.message - 1]
    holding = [turn for turn in batch if holds(turn.text, fact.quote)]
    return holding[0] if len(holding) == 1 else None
