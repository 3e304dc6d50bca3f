"""Read segment by segment into notes of evidence and reasoning, throw out the notes that do not help, and answer from the rest.

Paper: Shi et al. 2024, SEGMENT+: Long Text Processing with Short-Context Language Models, arXiv:2410.06519. The repository named in it
holds no code; the prompts are ours.
Idea: each segment gives one note of two fields, sentences copied from it and what they imply for the question; a second prompt
labels each note keep or remove; what is kept is merged batch by batch until it fits one window, and answered from.
Departs from the paper: see the card.
Shapes and units: ``segment_tokens`` of text in one segment (less where the window is smaller), ``note_tokens`` a note; tokens of the
target model.
Cost: two calls a segment (the second one very short), about notes × note_tokens / window to merge, one answer.
Errors: ConfigError for an option below its least. When budget or cap end the reading, the notes made by then are answered from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.notes import ANSWER_NOTES_SYSTEM, NOTES_SYSTEM, answer_from_notes, lengths, notes_prompt, reserve
from baywindow.context.parts import all_regions, answer_from_best, count_unread, marked, merged_until_fit, parts, prompt_fits
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, messages
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, Reply, ask_many
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

NOTE = Form(
    (
        Field(name="evidence", about="sentences copied from the passages, each with its [number]"),
        Field(name="reasoning", about="what they imply for the question"),
    ),
    rest="evidence",
)
VERDICT = Form((Field(name="verdict", about="keep or remove", choices=("keep", "remove")),), rest="verdict")
GATHER_SYSTEM = (
    "You see one segment of a long text. Copy the sentences that help to answer the question, with the passage's number behind each, "
    f"like [1], and say what they imply. {DATA_RULE} If nothing in this segment helps, reply only: {NOT_FOUND}"
)
FILTER_SYSTEM = (
    "Decide whether the note helps to answer the question. Keep a note that holds part of the answer or leads to it; remove one that "
    f"is off the subject or says nothing. {NOTES_SYSTEM}"
)
MERGE_SYSTEM = (
    "Merge the notes into one: keep the sentences that help to answer the question, with their [numbers], and what they imply together. "
    f"{NOTES_SYSTEM}"
)
GATHER_EXAMPLES = (
    (
        "<passage [1] from harbour.txt:1>\nThe pier was closed in 1987 after the storm. It rained.\n</passage>\n\n"
        "Question: When did the pier close?",
        '{"evidence": "The pier was closed in 1987 after the storm. [1]", "reasoning": "It states the year: 1987."}',
    ),
)
FILTER_TASK = "Reply with one word: keep or remove."
VERDICT_TOKENS = 16


@dataclass(frozen=True)
class _Note:
    evidence: str
    reasoning: str

    @property
    def shown(self) -> str:
        fields = (("Evidence", self.evidence), ("Reasoning", self.reasoning))
        return "\n".join(f"{name}: {text}" for name, text in fields if text)


@technique(
    summary="segments noted at once as evidence and reasoning, notes filtered, merged, answered from",
    paper="arXiv:2410.06519",
    year=2024,
    claim="Filtered notes of evidence and reasoning answer better than plain summaries of the parts at the same length of notes.",
    departures=(
        "the keep-or-remove label is generated text, so that models without log-probabilities can run it; the paper leaves this open",
        "if every note is removed all are used: an over-strict filter must not lose what was read",
        "a reply without a label keeps its note, for the same reason",
        "passage numbers are carried through the notes, so that the answer can cite",
        "segments and notes are shortened in small windows and budgets: 3,000 tokens do not fit everywhere",
    ),
)
class SegmentPlus(NoteReader):
    segment_tokens: int = 3000
    note_tokens: int = 256
    max_new_tokens: int = 256
    filtered: bool = True  # False: ablation, every note is kept
    max_calls: int = 256

    def __post_init__(self) -> None:
        check_options(self, segment_tokens=64, note_tokens=8, max_new_tokens=8, max_calls=2)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        note_tokens, answer_tokens = lengths(run, self.note_tokens, self.max_new_tokens, share_of=6)
        keep = reserve(run, note_tokens, answer_tokens)
        capped = Capped(run, self.max_calls)

        def frame(shown: Sequence[Passage]) -> Prompt:
            return messages(GATHER_SYSTEM, f"{fenced(run, shown)}\n\nQuestion: {run.question}\n\n{NOTE.wording}")

        packs = parts(run, passages, frame, note_tokens, text_tokens=self.segment_tokens, keep=keep)
        run.progress(f"reading {len(packs)} segments")
        how = Call(name="gather", max_new_tokens=note_tokens, keep=keep, examples=GATHER_EXAMPLES, regions=all_regions(run, packs))
        replies = ask_many(capped, [pack.prompt for pack in packs], NOTE, how)
        count_unread(run, replies, "segments")
        notes = _notes(run, packs, replies)
        how = replace(how, examples=(), regions=())
        if self.filtered:
            notes = _kept(capped, notes, replace(how, name="filter", max_new_tokens=VERDICT_TOKENS))
        notes = _merged(capped, notes, replace(how, name="merge"), answer_tokens)
        if not notes and run.cut_short:
            return answer_from_best(run, passages, "answer", answer_tokens)
        return answer_from_notes(run, [note.shown for note in notes], "answer", answer_tokens)


def _notes(run: Run, packs: Sequence[Packed], replies: Sequence[Reply | None]) -> list[_Note]:
    found = []
    for pack, reply in zip(packs, replies, strict=True):
        if reply is not None and (evidence := reply.text("evidence")):
            found.append(_Note(marked(run, evidence, pack.shown), reply.text("reasoning")))
    return found


def _kept(capped: Capped, notes: list[_Note], how: Call) -> list[_Note]:
    """The notes that a second look keeps; all of them if it would remove every one."""
    prompts = [
        messages(FILTER_SYSTEM, f"Question: {capped.run.question}\n\nNote:\n{defused(note.shown)}\n\n{FILTER_TASK}") for note in notes
    ]
    verdicts = ask_many(capped, prompts, VERDICT, how)
    kept = [note for note, verdict in zip(notes, verdicts, strict=True) if verdict is None or verdict.text("verdict") != "remove"]
    if notes and not kept:
        capped.run.note("the filter removed every note; all of them were used")
    return kept or notes


def _merged(capped: Capped, notes: list[_Note], how: Call, answer_tokens: int) -> list[_Note]:
    run = capped.run

    def prompt(group: Sequence[_Note]) -> Prompt:
        text = "\n\n".join(defused(note.shown) for note in group)
        return messages(MERGE_SYSTEM, f"Notes:\n{text}\n\nQuestion: {run.question}\n\n{NOTE.wording}")

    def merge(groups: list[list[_Note]]) -> list[_Note | None]:
        replies = ask_many(capped, [prompt(group) for group in groups], NOTE, how)
        made = [None if r is None else _Note(r.text("evidence"), r.text("reasoning")) for r in replies]
        return [note for note in made if note is None or note.evidence]

    return merged_until_fit(
        run,
        notes,
        fits=lambda some: prompt_fits(run, notes_prompt(run, [note.shown for note in some], ANSWER_NOTES_SYSTEM), answer_tokens),
        group_fits=lambda some: prompt_fits(run, prompt(some), how.max_new_tokens, how.keep),
        merge=merge,
    )
