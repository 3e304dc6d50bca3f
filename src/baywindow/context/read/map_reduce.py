"""Read all parts at once, each alone, then answer from the notes.

Paper: none of its own; the MapReduce pattern (Dean and Ghemawat 2004) as language-model tools use it.
Idea: every part that fills a window is read in parallel and gives a short note of what it holds on the question; notes without
content are dropped; while the notes together do not fit one window, groups of them are condensed the same way; the last call
answers from the notes.
Shapes and units: ``note_tokens`` is the length of one note, ``max_new_tokens`` of the answer; tokens of the target model.
Cost: one call a part, plus about notes × note_tokens / window calls to condense, plus one.
Errors: none of its own. When the budget ends, the notes made by then are answered from.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.context.base import NoteReader
from baywindow.context.notes import NOTES_SYSTEM, answer_from_notes, joined, lengths, reserve, useful
from baywindow.context.prompt import DATA_RULE, fenced, messages, pack_all
from baywindow.context.reply import NOT_FOUND, Task
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.models.base import Prompt
from baywindow.registry import technique

CONDENSE_SYSTEM = f"{NOTES_SYSTEM} Condense the notes into fewer words. Keep every fact that helps, with its [number]."
MAP = Task(
    rules=f"Take notes from passages that help to answer a question. {DATA_RULE}",
    form="Note the facts, names and numbers that help to answer it, in a few short sentences, each with its passage's number, like [1].",
    decline=f"If nothing in them helps, reply only: {NOT_FOUND}",
    examples=(
        (
            "<passage [1] from garden.md:1>\nThe beans were sown on 4 May.\n</passage>\n\nQuestion: Who painted the fence?",
            NOT_FOUND,
        ),
        (
            "<passage [1] from harbour.txt:1>\nThe pier was closed in 1987 after the storm.\n</passage>\n\n"
            "Question: When did the pier close?",
            "The pier closed in 1987, after a storm. [1]",
        ),
    ),
)


@technique(
    summary="all parts read in parallel, each alone; the answer comes from their notes",
    claim="Text many times the window is read with every call inside the window, and no part is skipped.",
)
class MapReduce(NoteReader):
    note_tokens: int = 128
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        for name in ("note_tokens", "max_new_tokens"):
            if getattr(self, name) < 8:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 8")

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        def frame(shown: Sequence[Passage]) -> Prompt:
            return MAP.prompt(run, f"{fenced(run, shown)}\n\nQuestion: {run.question}")

        note_tokens, answer_tokens = lengths(run, self.note_tokens, self.max_new_tokens)
        keep = reserve(run, note_tokens, answer_tokens)
        packs = pack_all(run, run.corpus.passages() if passages is None else passages, frame, note_tokens, keep=keep)
        run.progress(f"reading {len(packs)} parts")
        regions = tuple(region for pack in packs for region in pack.regions(run))
        how = Call(name="map", max_new_tokens=note_tokens, keep=keep, regions=regions)
        replies = run.call_many([pack.prompt for pack in packs], how)
        if unread := sum(reply is None for reply in replies):
            run.note(f"{unread} of {len(packs)} parts were not read")
        notes = _condensed(run, useful(replies), note_tokens, answer_tokens)
        return answer_from_notes(run, notes, "reduce", answer_tokens)


def _condensed(run: Run, notes: list[str], note_tokens: int, answer_tokens: int) -> list[str]:
    """Notes few enough for one window. Ends: each round makes fewer of them, or the rest is left out and counted."""
    keep = reserve(run, note_tokens, answer_tokens)
    while notes and not joined(run, notes, answer_tokens):
        groups = _groups_that_fit(run, notes, note_tokens)
        if len(groups) >= len(notes):
            run.note(f"{len(notes) - 1} notes did not fit and were left out")
            return notes[:1]
        prompts = [messages(CONDENSE_SYSTEM, f"Question: {run.question}\n\nNotes:\n" + "\n".join(group)) for group in groups]
        replies = run.call_many(prompts, Call(name="condense", max_new_tokens=note_tokens, keep=keep))
        if replies[0] is None:
            return notes[:1]
        notes = useful(replies)
    return notes


def _groups_that_fit(run: Run, notes: list[str], note_tokens: int) -> list[list[str]]:
    """Notes in groups, as many to a group as one prompt holds (at least one)."""
    fixed = run.model.count_tokens(messages(CONDENSE_SYSTEM, f"Question: {run.question}\n\nNotes:\n")) + 8
    room = run.room(fixed, note_tokens)
    groups: list[list[str]] = [[]]
    used = 0
    for note in notes:
        tokens = run.model.count_tokens(note) + 2
        if groups[-1] and used + tokens > room:
            groups.append([])
            used = 0
        groups[-1].append(note)
        used += tokens
    return groups
