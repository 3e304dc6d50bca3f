"""From ``[n]`` marks in an answer to citations that are checked against the source.

A citation's quote is what the passage itself says in support: the words that the answer puts in quotation marks, if the passage
holds them, else the passage's sentence that shares most words with the marked statement (and, at half weight, the question).
Every quote is read again from the source at its span; `Citation.verified` is the outcome. Words that an answer quotes but the
passage does not hold are kept as the quote and marked as not verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from baywindow.documents.base import Corpus, Passage
from baywindow.errors import SourceError
from baywindow.trace import Citation

MARK = re.compile(r"\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")
_QUOTED = re.compile(r"[\"“”«»]([^\"“”«»]{8,300})[\"“”«»]")
_SENTENCE = re.compile(r"[^\n.!?]+(?:[.!?](?!\s|$)[^\n.!?]*)*[.!?]*")
_WORD = re.compile(r"\w+")
LONGEST_QUOTE = 300  # characters; a "sentence" of a table or of code can be a page
# Words that say nothing about what a sentence is about.
_EMPTY = """a an and are as at be been but by did do does for from had has have he her his how i if in is it its me my no not of on or
our she so that the their them then there they this to was we were what when where which who why will with would you your"""
_EMPTY_WORDS = frozenset(_EMPTY.split())


@dataclass(frozen=True)
class Cited:
    """An answer whose marks all lead somewhere, its citations in order of first mention, and remarks on what was mended."""

    text: str
    citations: tuple[Citation, ...]
    notes: tuple[str, ...] = ()


def cite(text: str, question: str, numbered: Mapping[int, Passage], corpus: Corpus) -> Cited:
    """Resolve the marks of ``text``. A mark that leads nowhere is removed; an answer without marks gets the best-supported one."""
    notes: list[str] = []
    if unknown := {n for n in marks(text) if n not in numbered}:
        text = _without(text, unknown)
        notes.append(f"the model cited {len(unknown)} passage(s) that it was not shown: {sorted(unknown)}; the marks were removed")
    if not any(True for _ in marks(text)) and (n := _best_support(text, question, numbered)) is not None:
        text = f"{text.rstrip()} [{n}]"
        notes.append("the model marked no source; the passage that shares most words with its answer is cited")
    if numbers := _only_named(text, numbered):
        asked = words(question)
        quotes = [_citation(n, question, question, numbered[n], corpus).quote for n in numbers]
        text = f"“{max(quotes, key=lambda quote: len(words(quote) & asked))}” {text.strip()}"
        notes.append("the model named a passage and wrote no words; the passage's nearest sentence stands for its answer")
    found: dict[int, Citation] = {}
    for statement, n in _statements(text):
        if n not in found:
            found[n] = _citation(n, statement, question, numbered[n], corpus)
    return Cited(text, tuple(found.values()), tuple(notes))


def quote_best(passages: Mapping[int, Passage], question: str, corpus: Corpus) -> tuple[Citation, ...]:
    """Citations of passages by the sentence nearest to the question (for a run that ended before any answer)."""
    return tuple(_citation(n, question, question, passage, corpus) for n, passage in passages.items())


def words(text: str) -> set[str]:
    """The content words of a text, lower case."""
    return {w for w in _WORD.findall(text.lower()) if w not in _EMPTY_WORDS}


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Spans of sentences (and of lines, where a text has no sentences) without white space at their edges."""
    for match in _SENTENCE.finditer(text):
        start, end = match.span()
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        if end > start:
            yield start, end


def marks(text: str) -> Iterator[int]:
    """The numbers of all marks, in order."""
    for match in MARK.finditer(text):
        for n in re.findall(r"\d+", match.group(1)):
            yield int(n)


def _only_named(text: str, numbered: Mapping[int, Passage]) -> list[int]:
    """The marks of a text that holds nothing but marks, or marks and where passages come from ("[1] report.txt:3"), else none."""
    found = list(dict.fromkeys(marks(text)))
    said = words(MARK.sub(" ", text)) - {"passage"}
    places = [numbered[n].place for n in found]
    # File and line or page: the name of a file alone may be the answer.
    whole = any(words(place.rpartition("/")[2]) <= said for place in places)
    return found if not said or (whole and said <= words(" ".join(places))) else []


def _without(text: str, unknown: set[int]) -> str:
    def keep(match: re.Match[str]) -> str:
        left = [n for n in re.findall(r"\d+", match.group(1)) if int(n) not in unknown]
        return f"[{', '.join(left)}]" if left else ""

    return re.sub(r" +([.,;!?])", r"\1", re.sub(r"  +", " ", MARK.sub(keep, text))).strip()


def _statements(text: str) -> Iterator[tuple[str, int]]:
    """Each mark with the sentence that it stands in or behind."""
    before = 0
    for match in MARK.finditer(text):
        statement = text[before : match.start()]
        if not words(statement):  # a second mark directly behind the first
            statement = text[: match.start()]
        last = list(sentences(statement))
        if last:
            statement = statement[last[-1][0] :]
        for n in re.findall(r"\d+", match.group(1)):
            yield statement, int(n)
        before = match.end()


def _best_support(text: str, question: str, numbered: Mapping[int, Passage]) -> int | None:
    """The passage sharing most of the answer's words (ties: most of the question's), or None if none shares any."""
    said, asked = words(text), words(question)
    best, best_score = None, (0, 0)
    for n, passage in numbered.items():
        held = words(passage.text)
        score = (len(said & held), len(asked & held))
        if score[0] > 0 and score > best_score:
            best, best_score = n, score
    return best


def _citation(n: int, statement: str, question: str, passage: Passage, corpus: Corpus) -> Citation:
    for quoted in _QUOTED.findall(statement):
        if span := _find(quoted, passage.text):
            return _at(n, passage, *span, corpus)
        if len(words(quoted)) >= 3:
            return _make(n, passage, passage.start, passage.end, quoted.strip(), verified=False)
    spans = list(sentences(passage.text)) or [(0, len(passage.text))]
    said, asked = words(MARK.sub("", statement)), words(question)

    def support(span: tuple[int, int]) -> float:
        held = words(passage.text[span[0] : span[1]])
        return len(said & held) + 0.5 * len(asked & held)

    start, end = max(spans, key=support)
    if end - start > LONGEST_QUOTE:
        end = start + len(passage.text[start : start + LONGEST_QUOTE].rsplit(None, 1)[0])
    return _at(n, passage, start, end, corpus)


def _find(quoted: str, text: str) -> tuple[int, int] | None:
    """Where ``text`` holds the quoted words, white space and case aside, with their closing punctuation if it is there too."""
    for wanted in (quoted.split(), quoted.strip(" .,;").split()):
        pattern = r"\s+".join(re.escape(w) for w in wanted)
        if match := re.search(pattern, text, re.IGNORECASE):
            return match.span()
    return None


def _at(n: int, passage: Passage, start: int, end: int, corpus: Corpus) -> Citation:
    quote = passage.text[start:end]
    try:
        verified = corpus.excerpt(passage.source, passage.start + start, passage.start + end) == quote
    except SourceError:  # the file was removed from the index while the model was answering
        verified = False
    return _make(n, passage, passage.start + start, passage.start + end, quote, verified=verified)


def _make(n: int, passage: Passage, start: int, end: int, quote: str, *, verified: bool) -> Citation:
    line = None
    if passage.line is not None:
        line = passage.line + passage.text.count("\n", 0, start - passage.start)
    return Citation(
        n=n, source=passage.source, start=start, end=end, quote=quote, verified=verified, line=line, page=passage.page, label=passage.label
    )
