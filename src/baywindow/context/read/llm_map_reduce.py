"""Read all parts at once into notes with a reason and a confidence, so that the last call can weigh parts that contradict.

Paper: Zhou et al. 2024, LLM×MapReduce: Simplified Long-Sequence Processing using Large Language Models, arXiv:2410.09342; reference
code: thunlp/LLMxMapReduce (V1).
Idea: every part gives four fields: what it says, why that matters, an answer, and a confidence of 0 to 5. Parts without an answer are
dropped. While the notes together exceed one window, groups of them are merged into notes of the same four fields. The last call
weighs the notes by confidence. One worked example of scoring stands in every prompt, so that parts score alike.
Departs from the paper: see the card.
Shapes and units: ``note_tokens`` is the length of one note, ``part_tokens`` of text in one part (None: what the window holds); tokens
of the target model.
Cost: one call a part, notes × note_tokens / window calls to merge, one answer; with replies that need mending at most twice that.
Errors: ConfigError for an option below its least. When budget or cap end the reading, the notes made by then are answered from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.notes import NOTES_SYSTEM, answer_from_notes, lengths, notes_prompt, reserve
from baywindow.context.parts import all_regions, answer_from_best, count_unread, marked, merged_until_fit, parts, prompt_fits
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, messages
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, Reply, ask_many
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

# The scale, by example: in every prompt the same, so that one part's 4 means what another's means.
CALIBRATION = (
    "Confidence, for the text 'Mira sold the mill in May and bought a boat.': 'Mira sold the mill' 5, 'Mira now owns a boat' 5, "
    "'Mira wants to sail' 3, 'Mira is rich' 2, 'Mira likes music' 0."
)
MAP_SYSTEM = (
    "You see one part of a long text. Extract what helps to answer the question, with the passage's number behind each fact, like [1]; "
    "say how it helps; answer from it as well as it allows; and say how sure that answer is. "
    f"{DATA_RULE} If nothing in this part helps, reply only: {NOT_FOUND}"
)
MERGE_SYSTEM = (
    "The notes come from parts of one long text. Merge them into one note: keep the facts that help, with their [numbers], and trust "
    f"notes of higher confidence more. {NOTES_SYSTEM}"
)
REDUCE_SYSTEM = (
    "The notes come from parts of one long text, each with a confidence of 0 to 5. Weigh them: where they contradict each other, trust "
    "the higher confidence and the better reason. Answer the question in one or two short sentences. Keep the numbers of the passages, "
    f"like [1], behind what they support. {NOTES_SYSTEM} If the notes do not hold the answer, reply only: {NOT_FOUND}"
)
NOTE = Form(
    (
        Field(name="information", about="facts from the text, each with its [number]"),
        Field(name="rationale", about="how they help"),
        Field(name="answer", about=f"the answer, or {NOT_FOUND}"),
        Field(name="confidence", about="0 to 5", kind="number"),
    ),
    rest="answer",
)
MAP_EXAMPLES = (
    (
        "<passage [1] from harbour.txt:1>\nThe pier was closed in 1987 after the storm.\n</passage>\n\nQuestion: When did the pier close?",
        '{"information": "The pier was closed in 1987, after the storm. [1]", "rationale": "It states the year.", '
        '"answer": "In 1987. [1]", "confidence": 5}',
    ),
)


@dataclass(frozen=True)
class _Note:
    part: str  # "3", or "3-7" for a merged note
    information: str
    rationale: str
    answer: str
    confidence: float | None

    @property
    def shown(self) -> str:
        sure = "" if self.confidence is None else f" (confidence {self.confidence:g} of 5)"
        fields = (("Information", self.information), ("Rationale", self.rationale), ("Answer", self.answer))
        return "\n".join([f"Part {self.part}{sure}", *(f"{name}: {text}" for name, text in fields if text)])


@technique(
    summary="parts read in parallel into notes with reason and confidence; the answer weighs them",
    paper="arXiv:2410.09342",
    year=2024,
    claim="On contradictory parts, structured notes with calibrated confidence answer better than a map-reduce of plain notes.",
    departures=(
        "a part is dropped by its answer field alone: the paper's substring test on the whole reply loses parts that mention the marker",
        "if no part says anything the answer is 'not found' and no last call is made: the reference code reduces an empty text",
        "merging that no longer shrinks leaves out the least confident notes and says so: the reference code would loop",
        "the last call writes the answer without a rationale, so that it can stream and cite",
        "passage numbers are carried through the notes, so that the answer can cite",
        "notes are shortened in small windows and budgets: fixed lengths would leave no room to read",
    ),
)
class LlmMapReduce(NoteReader):
    part_tokens: int | None = None
    note_tokens: int = 300
    max_new_tokens: int = 256
    calibrated: bool = True  # False: ablation, without the worked example of scoring
    max_calls: int = 256

    def __post_init__(self) -> None:
        check_options(self, part_tokens=64, note_tokens=8, max_new_tokens=8, max_calls=2)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        note_tokens, answer_tokens = lengths(run, self.note_tokens, self.max_new_tokens, share_of=5)
        keep = reserve(run, note_tokens, answer_tokens, self._system(REDUCE_SYSTEM))
        capped = Capped(run, self.max_calls)

        def frame(shown: Sequence[Passage]) -> Prompt:
            return messages(self._system(MAP_SYSTEM), f"{fenced(run, shown)}\n\nQuestion: {run.question}\n\n{NOTE.wording}")

        text_tokens = self.part_tokens or run.model.context_length
        packs = parts(run, passages, frame, note_tokens, text_tokens=text_tokens, keep=keep)
        run.progress(f"reading {len(packs)} parts")
        how = Call(name="map", max_new_tokens=note_tokens, keep=keep, examples=MAP_EXAMPLES, regions=all_regions(run, packs))
        replies = ask_many(capped, [pack.prompt for pack in packs], NOTE, how)
        count_unread(run, replies)
        notes = self._merged(capped, _notes(run, packs, replies), Call(name="merge", max_new_tokens=note_tokens, keep=keep), answer_tokens)
        if not notes and run.cut_short:
            return answer_from_best(run, passages, "reduce", answer_tokens)
        return answer_from_notes(run, [note.shown for note in notes], "reduce", answer_tokens, self._system(REDUCE_SYSTEM))

    def _system(self, task: str) -> str:
        return f"{task}\n{CALIBRATION}" if self.calibrated else task

    def _merged(self, capped: Capped, notes: list[_Note], how: Call, answer_tokens: int) -> list[_Note]:
        run = capped.run

        def prompt(group: Sequence[_Note]) -> Prompt:
            text = "\n\n".join(defused(note.shown) for note in group)
            return messages(self._system(MERGE_SYSTEM), f"Notes:\n{text}\n\nQuestion: {run.question}\n\n{NOTE.wording}")

        def merge(groups: list[list[_Note]]) -> list[_Note | None]:
            replies = ask_many(capped, [prompt(group) for group in groups], NOTE, how)
            if any(reply is None for reply in replies):
                return [None]
            made = [_note(f"{g[0].part}-{g[-1].part}", r) for g, r in zip(groups, replies, strict=True) if r is not None]
            return [note for note in made if note is not None]

        return merged_until_fit(
            run,
            notes,
            fits=lambda some: self._fit(run, some, answer_tokens),
            group_fits=lambda some: prompt_fits(run, prompt(some), how.max_new_tokens, how.keep),
            merge=merge,
            worth=lambda note: note.confidence or 0.0,
        )

    def _fit(self, run: Run, notes: Sequence[_Note], answer_tokens: int) -> bool:
        return prompt_fits(run, notes_prompt(run, [note.shown for note in notes], self._system(REDUCE_SYSTEM)), answer_tokens)


def _notes(run: Run, packs: Sequence[Packed], replies: Sequence[Reply | None]) -> list[_Note]:
    """The notes of parts that answer, each leading back to a passage of its part."""
    found: list[_Note] = []
    for n, (pack, reply) in enumerate(zip(packs, replies, strict=True), 1):
        note = None if reply is None else _note(str(n), reply)
        if note is not None:
            information = marked(run, note.information, pack.shown) if note.information else ""
            answer = note.answer if information else marked(run, note.answer, pack.shown)
            found.append(_Note(note.part, information, note.rationale, answer, note.confidence))
    return found


def _note(part: str, reply: Reply) -> _Note | None:
    """The four fields; None if the part has no answer."""
    if not (answer := reply.text("answer")):
        return None
    confidence = reply.number("confidence")
    if confidence is not None:
        confidence = min(5.0, max(0.0, confidence))
    return _Note(part, reply.text("information"), reply.text("rationale"), answer, confidence)
