"""Natural text to hide things in. It comes from what is installed or from a folder the user names, and is never copied into the package."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from baywindow.errors import SourceError

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_TEXT_FILES = (".txt", ".md")


class Haystack:
    """Sentences in reading order, without end: after the last comes the first again, as the published generators do it."""

    def __init__(self, sentences: tuple[str, ...], name: str) -> None:
        self.sentences = sentences
        self.name = name

    def __iter__(self) -> Iterator[str]:
        return itertools.cycle(self.sentences)

    def from_seed(self, seed: int) -> Iterator[str]:
        """The same text, begun at a sentence that the seed chooses."""
        start = (seed * 7919) % len(self.sentences)
        return itertools.islice(itertools.cycle(self.sentences), start, None)

    @classmethod
    def installed(cls) -> Haystack:
        """The prose of Python's own language reference (``pydoc_data.topics``), there on every machine that runs this."""
        return cls(_installed_sentences(), "pydoc")

    @classmethod
    def folder(cls, path: Path) -> Haystack:
        """Every ``.txt`` and ``.md`` file below a folder, in order of their paths; SourceError if there is none with a sentence in it."""
        files = sorted(p for p in path.rglob("*") if p.suffix in _TEXT_FILES and p.is_file()) if path.is_dir() else []
        found = tuple(s for f in files for s in sentences_of(f.read_text(encoding="utf-8", errors="replace")))
        if not found:
            raise SourceError(f"no text to hide needles in at {path}", hint="name a folder with .txt or .md files of prose")
        return cls(found, f"folder:{path.name}")


def sentences_of(text: str) -> list[str]:
    """Sentences of prose, white space made single; lines that are code, tables or headings are left out."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        plain = " ".join(block.split())
        if len(plain) < 40 or not plain[0].isupper() or plain[-1] not in ".!?":
            continue
        found += [s for s in _SENTENCE_END.split(plain) if 20 <= len(s) <= 400 and not re.search(r"[*+=|>{}\\_`]{2}", s)]
    return found


@functools.cache
def _installed_sentences() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    return tuple(dict.fromkeys(s for key in sorted(topics) for s in sentences_of(topics[key])))
