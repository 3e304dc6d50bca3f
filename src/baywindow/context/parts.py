"""What readers share that read a text in parts: the parts, notes merged until they fit one prompt, and a way out for small budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from baywindow.budget import NOTHING, Usage
from baywindow.context.cite import MARK, words
from baywindow.context.prompt import Frame, Packed, pack_all, pack_one
from baywindow.context.reply import answer, question_frame
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.trace import Region

T = TypeVar("T")
FEW = 8  # passages of the plain answer that stands in when a budget cannot pay for the reader's own way


def parts(
    run: Run,
    passages: Iterable[Passage] | None,
    frame: Frame,
    new_tokens: int,
    *,
    text_tokens: int,
    keep: Usage = NOTHING,
    reserve_tokens: int = 0,
) -> list[Packed]:
    """All passages (of the corpus, if none were chosen) in prompts of at most ``text_tokens`` of text; less where the window is small.

    ``reserve_tokens`` of each prompt stay free for what the frame gets later.
    """
    source = run.corpus.passages() if passages is None else passages
    limit = run.model.count_tokens(frame(())) + text_tokens + reserve_tokens
    return pack_all(run, source, frame, new_tokens, keep=keep, limit_tokens=limit, reserve_tokens=reserve_tokens)


def all_regions(run: Run, packs: Iterable[Packed]) -> tuple[Region, ...]:
    return tuple(region for pack in packs for region in pack.regions(run))


def count_unread(run: Run, replies: Sequence[object | None], what: str = "parts") -> None:
    """Say how many of the parts a spent budget or the cap left unread."""
    if unread := sum(reply is None for reply in replies):
        run.note(f"{unread} of {len(replies)} {what} were not read")


def those_that_fit(notes: Sequence[T], fits: Callable[[Sequence[T]], bool], worth: Callable[[T], float] = lambda note: 0.0) -> list[T]:
    """What fits when the least worthy are left out (of equals the last); the rest keeps its order."""
    ranked = sorted(range(len(notes)), key=lambda i: -worth(notes[i]))
    while ranked and not fits([notes[i] for i in sorted(ranked)]):
        ranked.pop()
    return [notes[i] for i in sorted(ranked)]


def fitting(run: Run, notes: Sequence[T], fits: Callable[[Sequence[T]], bool], what: str = "notes") -> list[T]:
    """The notes that fit together; the rest is left out from the end and counted."""
    kept = those_that_fit(notes, fits)
    if len(kept) < len(notes):
        run.note(f"{len(notes) - len(kept)} of {len(notes)} {what} did not fit and were left out")
    return kept


def merged_until_fit(
    run: Run,
    notes: Sequence[T],
    *,
    fits: Callable[[Sequence[T]], bool],
    group_fits: Callable[[Sequence[T]], bool],
    merge: Callable[[list[list[T]]], list[T | None]],
    worth: Callable[[T], float] = lambda note: 0.0,
) -> list[T]:
    """Notes merged group by group until one prompt holds them all.

    Ends: each round has fewer notes than the one before, or what does not fit is left out, least ``worth`` first (of equals the last),
    and counted. ``merge`` gives None for a group that the budget did not allow, and leaves out groups that hold nothing.
    """
    left = list(notes)
    while left and not fits(left):
        groups = _groups(left, group_fits)
        made = merge(groups) if len(groups) < len(left) else [None]
        if any(note is None for note in made):
            kept = those_that_fit(left, fits, worth)
            run.note(f"{len(left) - len(kept)} of {len(left)} notes did not fit and were left out")
            return kept
        left = [note for note in made if note is not None]
    return left


def _groups(notes: Sequence[T], group_fits: Callable[[Sequence[T]], bool]) -> list[list[T]]:
    """Neighbours together, as many to a group as one prompt holds (at least one)."""
    groups: list[list[T]] = [[]]
    for note in notes:
        if groups[-1] and not group_fits([*groups[-1], note]):
            groups.append([])
        groups[-1].append(note)
    return groups


def prompt_fits(run: Run, prompt: Prompt, new_tokens: int, keep: Usage = NOTHING) -> bool:
    """Whether window and budget hold this prompt and its reply."""
    return run.model.count_tokens(prompt) <= run.room(0, new_tokens, keep)


def answer_from_best(run: Run, passages: list[Passage] | None, name: str, new_tokens: int) -> str:
    """The few best passages in one prompt: for when the budget ended before a reader's own way led anywhere.

    They are found by words: a way out must not need an embedder, nor time.
    """
    best = passages if passages is not None else run.corpus.full_text(run.question, FEW) or list(islice(run.corpus.passages(), FEW))
    packed = pack_one(run, best[:FEW], partial(question_frame, run), new_tokens)
    return answer(run, packed, name, new_tokens) or ""


def marked(run: Run, text: str, shown: Sequence[Passage]) -> str:
    """A note with the mark of its passage: the model's own, else that of the passage which shares most words with it."""
    if MARK.search(text) or not shown:
        return text
    said = words(text)
    best = max(shown, key=lambda p: len(said & words(p.text)))  # the first of equals
    return f"{text} [{run.number(best)}]" if said & words(best.text) else text
