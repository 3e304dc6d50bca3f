"""First copy out the facts that matter, then reason from these facts alone, with the long text out of sight.

Paper: Li et al. 2024, ALR²: A Retrieve-then-Reason Framework for Long-context Question Answering, arXiv:2410.03227. No code was found.
Idea: the same model retrieves and reasons in two calls. The first sees question and text and writes out supporting sentences; the
second sees question and sentences, not the text. An untuned model invents sentences, so each one is looked up in the text it was
taken from, and the share that is there word for word is said with the answer.
Departs from the paper: see the card. `training_pairs` makes the two targets of its joint fine-tuning in exactly these prompts.
Shapes and units: ``evidence_tokens`` is what the first call may write, ``part_tokens`` of text in it (None: what the window holds);
tokens of the target model.
Cost: one call for each window of text, and one.
Errors: ConfigError for an option below its least. When budget or cap end the retrieval, the facts found by then are reasoned from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.cite import MARK
from baywindow.context.notes import NOTES_SYSTEM, answer_from_notes, lengths, notes_prompt, reserve
from baywindow.context.parts import all_regions, answer_from_best, count_unread, fitting, marked, parts, prompt_fits
from baywindow.context.prompt import DATA_RULE, fenced, messages
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, ask_many
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

FACTS = Form((Field(name="facts", about="a sentence copied from the passages, with its [number]", kind="texts"),), rest="facts")
RETRIEVE_SYSTEM = (
    "Find the sentences of the passages that are needed to answer the question, also those that only lead to the answer. Copy them word "
    f"for word, each with its passage's number behind it, like [1]. {DATA_RULE} If there are none, reply only: {NOT_FOUND}"
)
REASON_SYSTEM = (
    "The notes are sentences found in a long text. Reason from them alone, step by step if need be, and answer the question in one or "
    f"two short sentences. Keep the numbers of the passages, like [1], behind what they support. {NOTES_SYSTEM} "
    f"If the notes do not hold the answer, reply only: {NOT_FOUND}"
)
RETRIEVE_EXAMPLES = (
    (
        "<passage [1] from harbour.txt:1>\nIt rained. The pier was closed in 1987 after the storm.\n</passage>\n\n"
        "Question: When did the pier close?",
        '{"facts": ["The pier was closed in 1987 after the storm. [1]"]}',
    ),
)


@technique(
    summary="copy out the facts that matter, then answer from the facts alone",
    paper="arXiv:2410.03227",
    year=2024,
    claim="Reasoning from facts retrieved first answers two-hop questions over long text better than answering from the text directly.",
    departures=(
        "the model is used untuned: training belongs to another room; `training_pairs` gives the paper's two targets",
        "each fact is looked up in the text and the share found word for word is said, for an untuned model invents facts",
        "text beyond one window is retrieved from window by window, in parallel: the paper's model reads all of it at once",
        "facts beyond one window are left out from the end and counted: the paper does not meet this case",
        "passage numbers are kept behind the facts, so that the answer can cite",
    ),
)
class Alr2(NoteReader):
    part_tokens: int | None = None
    evidence_tokens: int = 512
    max_new_tokens: int = 256
    found_only: bool = False  # True: facts that the text does not hold word for word are dropped (unless none is left)
    max_calls: int = 256

    def __post_init__(self) -> None:
        check_options(self, part_tokens=64, evidence_tokens=8, max_new_tokens=8, max_calls=2)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        evidence_tokens, answer_tokens = lengths(run, self.evidence_tokens, self.max_new_tokens, share_of=5)
        keep = reserve(run, evidence_tokens, answer_tokens, REASON_SYSTEM)
        text_tokens = self.part_tokens or run.model.context_length
        packs = parts(run, passages, lambda shown: retrieve_prompt(run, shown), evidence_tokens, text_tokens=text_tokens, keep=keep)
        run.progress(f"retrieving from {len(packs)} parts")
        regions = all_regions(run, packs)
        how = Call(name="retrieve", max_new_tokens=evidence_tokens, keep=keep, examples=RETRIEVE_EXAMPLES, regions=regions)
        replies = ask_many(Capped(run, self.max_calls), [pack.prompt for pack in packs], FACTS, how)
        count_unread(run, replies)
        found = [(fact, pack.shown) for pack, reply in zip(packs, replies, strict=True) if reply for fact in reply.texts("facts")]
        facts = fitting(
            run,
            self._checked(run, found),
            lambda some: prompt_fits(run, notes_prompt(run, some, REASON_SYSTEM), answer_tokens),
            "facts",
        )
        if not facts and run.cut_short:
            return answer_from_best(run, passages, "reason", answer_tokens)
        return answer_from_notes(run, facts, "reason", answer_tokens, REASON_SYSTEM)

    def _checked(self, run: Run, found: Sequence[tuple[str, tuple[Passage, ...]]]) -> list[str]:
        """The facts with their marks, each once; how many of them the text holds word for word is said."""
        facts = {marked(run, fact, shown): stands_in(fact, shown) for fact, shown in found}
        if facts:
            run.note(f"{sum(facts.values())} of {len(facts)} retrieved facts stand in the text word for word")
        true = [fact for fact, there in facts.items() if there]
        return true if self.found_only and true else list(facts)


def retrieve_prompt(run: Run, shown: Sequence[Passage]) -> Prompt:
    return messages(RETRIEVE_SYSTEM, f"{fenced(run, shown)}\n\nQuestion: {run.question}\n\n{FACTS.wording}")


def training_pairs(run: Run, shown: Sequence[Passage], facts: Sequence[str], answer: str) -> tuple[tuple[Prompt, str], tuple[Prompt, str]]:
    """(prompt, target) of the two tasks that the paper tunes one model on jointly: gold facts from the text, the answer from the facts."""
    retrieve = (retrieve_prompt(run, shown), json.dumps({"facts": list(facts)}, ensure_ascii=False))
    return retrieve, (notes_prompt(run, facts, REASON_SYSTEM), answer)


def stands_in(fact: str, shown: Sequence[Passage]) -> bool:
    """Whether a passage holds these words in this order; marks, case, white space and punctuation at the edges aside."""

    def plain(text: str) -> str:
        return " ".join(re.findall(r"\w+", MARK.sub(" ", text).lower()))

    said = plain(fact)
    return bool(said) and any(f" {said} " in f" {plain(p.text)} " for p in shown)
