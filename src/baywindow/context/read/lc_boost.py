"""Let the model choose, step by step, which part to read next and what to do with it, and stop reading when it can answer.

Paper: Qian et al. 2024, Are Long-LLMs A Necessity For Long-Context Tasks? (LC-Boost), arXiv:2405.15318. No code was found.
Idea: two prompted decisions a step. Access: search for the next useful part, or take the next one in order. Utilise: append what the
part says to the notes, rewrite the notes with it, or answer now. Most long-context questions are settled by few short parts.
Departs from the paper: see the card.
Shapes and units: ``part_tokens`` of text in a part (less where the window is smaller), ``notes_tokens`` of notes at most; tokens of the
target model. ``max_parts`` counts parts read.
Cost: two short calls a part that is read (one more where the notes overflow), and one answer.
Errors: ConfigError for an option below its least. When budget or cap end the reading, the notes made by then are answered from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.notes import NOTES_SYSTEM, answer_from_notes, lengths, reserve
from baywindow.context.parts import answer_from_best, fitting, marked, parts
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, messages
from baywindow.context.reply import NOT_FOUND, declined
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, ask
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

ACCESS = Form(
    (
        Field(name="access", about="search or next", choices=("search", "next")),
        Field(name="query", about="words to search for, or empty"),
    ),
    rest="access",
)
UTILISE = Form(
    (
        Field(name="note", about="what the passages add, with their [numbers]"),
        Field(name="action", about="append, merge or answer", choices=("append", "merge", "answer")),
    ),
    rest="note",
)
ACCESS_SYSTEM = (
    "You answer a question from a long text of which you read one part at a time. Choose how to find the next part: search, with words "
    "that the part you need would hold, or next, to read on in order (for summaries and counts). "
    f"{NOTES_SYSTEM}"
)
UTILISE_SYSTEM = (
    "You answer a question from a long text of which you read one part at a time. Write as note what this part adds to your notes, then "
    "choose: append, to add the note; merge, if your note rewrites all notes so far together with what is new; answer, if notes and note "
    f"together are enough to answer. {DATA_RULE} {NOTES_SYSTEM} If nothing in this part helps, reply only: {NOT_FOUND}"
)
MERGE_SYSTEM = (
    "Write the notes again in fewer words. Keep every fact that helps to answer the question, with the numbers of the passages, like [1]. "
    f"{NOTES_SYSTEM}"
)
UTILISE_EXAMPLES = (
    (
        "Notes: (none yet)\n\n<passage [1] from harbour.txt:1>\nThe pier was closed in 1987 after the storm.\n</passage>\n\n"
        "Question: When did the pier close?",
        '{"note": "The pier was closed in 1987, after the storm. [1]", "action": "answer"}',
    ),
)
NO_NOTES = "(none yet)"
ACCESS_TOKENS = 64
RANKED = 200  # passages of one search: how deep it looks for a part that was not read yet


@dataclass
class _State:
    """What was read and noted so far."""

    unread: list[int]
    notes: list[str] = field(default_factory=list)
    read: int = 0
    ended: str = "every part was read"

    @property
    def text(self) -> str:
        return "\n".join(defused(note) for note in self.notes) or NO_NOTES


@technique(
    summary="the model chooses which part to read next, keeps notes, and stops when it can answer",
    paper="arXiv:2405.15318",
    year=2024,
    claim="Choosing parts step by step answers as well as reading the whole text where few parts hold the evidence, with fewer tokens.",
    departures=(
        "names of actions, prompts and part size are ours: the paper's were not found",
        "search is full text search of the corpus: the paper's retriever was not found, and none must be installed for this one",
        "notes that outgrow their room are rewritten shorter: appended notes would overflow a short window",
        "an unreadable choice means: search with the question, append the note, read on; small models go on",
        "how the reading ended is said with the answer: 'answer' comes too early on questions that need the whole text",
        "passage numbers are carried through the notes, so that the answer can cite",
    ),
)
class LcBoost(NoteReader):
    part_tokens: int = 2000
    notes_tokens: int = 512
    max_new_tokens: int = 256
    max_parts: int = 48
    max_calls: int = 128

    def __post_init__(self) -> None:
        check_options(self, part_tokens=64, notes_tokens=8, max_new_tokens=8, max_parts=1, max_calls=2)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        notes_tokens, answer_tokens = lengths(run, self.notes_tokens, self.max_new_tokens, share_of=6)
        capped = Capped(run, self.max_calls)
        how = Call(name="utilise", max_new_tokens=notes_tokens, keep=reserve(run, notes_tokens, answer_tokens))
        packs = parts(
            run,
            passages,
            lambda shown: _utilise_prompt(run, shown, NO_NOTES),
            notes_tokens,
            text_tokens=self.part_tokens,
            keep=how.keep,
            reserve_tokens=notes_tokens,
        )
        state = _State(unread=list(range(len(packs))))
        while state.unread and self._step(capped, packs, state, how):
            pass
        if packs:
            run.note(f"{state.read} of {len(packs)} parts were read; {state.ended}")
        if not state.notes and run.cut_short:
            return answer_from_best(run, passages, "answer", answer_tokens)
        return answer_from_notes(run, state.notes, "answer", answer_tokens)

    def _step(self, capped: Capped, packs: Sequence[Packed], state: _State, how: Call) -> bool:
        """Read one part. False when the reading ends."""
        run = capped.run
        if state.read >= self.max_parts:
            state.ended = f"max_parts={self.max_parts} was reached"
            return False
        pack = packs[_next(capped, packs, state, how)]
        run.progress(f"reading part {state.read + 1}, {len(state.unread)} of {len(packs)} unread")
        call = replace(how, examples=UTILISE_EXAMPLES, regions=pack.regions(run))
        reply = ask(capped, _utilise_prompt(run, pack.shown, state.text), UTILISE, call)
        if reply is None:
            state.ended = "the budget or the cap on calls ended the reading"
            return False
        state.read += 1
        note = reply.text("note")
        action = reply.text("action")
        if note:
            state.notes = [*([] if action == "merge" else state.notes), marked(run, note, pack.shown)]
            _shorten(capped, state, how)
        if action == "answer" and state.notes:
            state.ended = "the model chose to answer"
            return False
        return True


def _next(capped: Capped, packs: Sequence[Packed], state: _State, how: Call) -> int:
    """Access: the part to read next, taken off the unread ones."""
    run = capped.run
    at = state.unread[0]
    if len(state.unread) > 1:
        prompt = messages(
            ACCESS_SYSTEM, f"Notes: {state.text}\n\nParts not read yet: {len(state.unread)}\n\nQuestion: {run.question}\n\n{ACCESS.wording}"
        )
        reply = ask(capped, prompt, ACCESS, replace(how, name="access", max_new_tokens=ACCESS_TOKENS))
        if reply is not None and reply.text("access") != "next":
            at = _searched(run, packs, state.unread, reply.text("query") or run.question)
    state.unread.remove(at)
    return at


def _searched(run: Run, packs: Sequence[Packed], unread: Sequence[int], query: str) -> int:
    """The unread part that holds the best hit; the next in order if none does."""
    for hit in run.corpus.full_text(query, RANKED):
        for i in unread:
            if any(p.source == hit.source and p.start < hit.end and hit.start < p.end for p in packs[i].shown):
                return i
    return unread[0]


def _shorten(capped: Capped, state: _State, how: Call) -> None:
    """Notes that outgrew their room are rewritten by the model; what then still does not fit is left out from the front and counted."""
    run = capped.run

    def fits(notes: Sequence[str]) -> bool:
        return run.model.count_tokens("\n".join(notes)) <= how.max_new_tokens

    if fits(state.notes):
        return
    prompt = messages(MERGE_SYSTEM, f"Notes:\n{state.text}\n\nQuestion: {run.question}")
    shorter = capped.call(prompt, replace(how, name="merge notes"))
    if shorter and not declined(shorter):
        state.notes = [shorter]
    # The latest notes were written in sight of the earlier ones.
    state.notes = fitting(run, state.notes[::-1], fits, "notes")[::-1] or state.notes[-1:]


def _utilise_prompt(run: Run, shown: Sequence[Passage], notes: str) -> Prompt:
    return messages(UTILISE_SYSTEM, f"Notes: {notes}\n\n{fenced(run, shown)}\n\nQuestion: {run.question}\n\n{UTILISE.wording}")
