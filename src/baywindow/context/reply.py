"""What every reader's last call shares: its wording, when a reply counts as "not found", and how it is streamed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from baywindow.context.prompt import DATA_RULE, Packed, fenced
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.models.base import Message, Prompt

NOT_FOUND = "NOT FOUND"
NOT_FOUND_TEXT = "Not found in these documents."


@dataclass(frozen=True)
class Task:
    """What a call is asked to do, in the form that small models follow (notes/context.md): the rules before the text, the form of the
    reply behind the question, and examples as earlier turns, one of which declines. Told in so many words that it may decline, a small
    model always does; so ``decline`` is said only where the window has no room for examples.
    """

    rules: str
    form: str
    decline: str
    examples: tuple[tuple[str, str], ...]

    def prompt(self, run: Run, body: str) -> Prompt:
        """The whole prompt; ``body`` is the text with the question behind it."""
        asked = Message("user", f"{body}\n{self.form}")
        if not self._roomy(run):
            return (Message("system", f"{self.rules} {self.decline}".strip()), asked)
        shown = [turn for text, reply in self.examples for turn in (Message("user", f"{text}\n{self.form}"), Message("assistant", reply))]
        return (Message("system", self.rules), *shown, asked)

    def _roomy(self, run: Run) -> bool:
        """Whether examples take but a small part of what window and budget leave, from characters: no prompt is counted for it."""
        most = run.room_without_budget()
        if (limit := run.meter.budget.tokens) is not None:
            most = min(most, limit)
        return EXAMPLES_SHARE * sum(len(text) + len(reply) + len(self.form) for text, reply in self.examples) < most * CHARACTERS_PER_TOKEN


EXAMPLES_SHARE = 10
CHARACTERS_PER_TOKEN = 4

ANSWER = Task(
    rules=f"Answer questions from passages of documents. {DATA_RULE}",
    form="Answer in one or two short sentences, each with the number of its passage, like [1].",
    decline=f"If the passages do not hold the answer, reply only: {NOT_FOUND}",
    # The last one weighs most with small models, so it answers.
    examples=(
        (
            "<passage [1] from garden.md:1>\nThe beans were sown on 4 May and watered every second day.\n</passage>\n\n"
            "Question: Who painted the fence?",
            NOT_FOUND,
        ),
        (
            "<passage [1] from notes/ferry.txt:3>\nThe last ferry to Arden leaves at 21:40 on weekdays.\n</passage>\n"
            "<passage [2] from notes/ferry.txt:9>\nTickets are sold on board, for cash only.\n</passage>\n\n"
            "Question: How can a ticket be paid?",
            "Tickets are paid in cash, on board. [2]",
        ),
    ),
)

ANSWER_EXAMPLES = ANSWER.examples

_LETTERS = re.compile(r"[^a-z ]+")
_PARAPHRASES = re.compile(
    r"^(i (do not|don't|cannot|can't) (know|find|answer|determine)"
    r"|(there is|i see|i have) no (information|mention|answer)"
    r"|(the|these|this|none of the|no) (\w+ )?(passages?|documents?|texts?|context)( \S+)? (do(es)? not|don't|doesn't|did not)"
    r"|(the|this) (answer|question|information) (is not|isn't|cannot be|can't be) (found|answered|in|mentioned|provided|given|determined)"
    r"|not (mentioned|specified|provided|stated|given)\b)",
    re.IGNORECASE,
)


def question_frame(run: Run, passages: Sequence[Passage]) -> Prompt:
    """The ordinary question-answering prompt."""
    return ANSWER.prompt(run, f"{fenced(run, passages)}\n\nQuestion: {run.question}")


def answer(run: Run, packed: Packed, name: str, max_new_tokens: int) -> str | None:
    """The last call of a reader: streams, except what turns out to be a decline. None if the budget allows no call or no text."""
    if not packed.shown and run.cut_short:
        return None
    how = Call(
        name=name,
        max_new_tokens=max_new_tokens,
        final=True,
        regions=packed.regions(run),
        withhold=may_decline,
    )
    return run.call(packed.prompt, how)


def declined(text: str, word: str = NOT_FOUND) -> bool:
    """Whether a reply says that the answer is not there: the agreed word, case and punctuation aside, or a plain paraphrase."""
    plain = " ".join(_LETTERS.sub(" ", text.lower()).split())
    return word.lower() in plain or bool(_PARAPHRASES.match(text.strip()))


def may_decline(text: str, ended: bool) -> bool:
    """Whether a reply so far may still turn out to be a decline; after its end: whether it is one."""
    if ended:
        return declined(text)
    return len(text.strip()) < 48 or declined(text)
