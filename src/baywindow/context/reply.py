"""What every reader's last call shares: its wording, when a reply counts as "not found", and how it is streamed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from baywindow.context.prompt import DATA_RULE, Packed, fenced, messages
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt

NOT_FOUND = "NOT FOUND"
NOT_FOUND_TEXT = "Not found in these documents."

ANSWER_SYSTEM = (
    "Answer the question from the passages, in one or two short sentences. "
    "Behind each statement put the number of the passage that supports it, like [1]. "
    f"{DATA_RULE} "
    f"If the passages do not hold the answer, reply only: {NOT_FOUND}"
)

# For models without a chat template, which learn the form from examples alone. The last one weighs most with them, so it answers.
ANSWER_EXAMPLES: tuple[tuple[str, str], ...] = (
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
)

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
    return messages(ANSWER_SYSTEM, f"{fenced(run, passages)}\n\nQuestion: {run.question}")


def answer(run: Run, packed: Packed, name: str, max_new_tokens: int) -> str | None:
    """The last call of a reader: streams, except what turns out to be a decline. None if the budget allows no call or no text."""
    if not packed.shown and run.cut_short:
        return None
    how = Call(
        name=name,
        max_new_tokens=max_new_tokens,
        final=True,
        examples=ANSWER_EXAMPLES,
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
