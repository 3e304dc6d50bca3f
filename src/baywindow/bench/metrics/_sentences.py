"""Sentences of a reply, and what it cites in each.

The published citation scores split with NLTK's trained model, which must be downloaded. Ours splits at final marks and lines. Trap, mended:
NLTK gives a citation that stands after the full stop ("… is true. [1] Next …") to the next sentence; here it belongs to the one before.
"""

from __future__ import annotations

import re

_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|vs|e\.g|i\.e|No|Fig|cf)\.$")
_CITED = r"\s*\[\d+(?:\s*[,;]\s*\d+)*\]"
# A full stop ends a sentence before white space, a Chinese one anywhere; closing marks and citations behind it belong to it.
_END = re.compile(rf"(?:[.!?]+[\"'”’)]*(?:{_CITED})*(?=\s|$)|[。！？]+[”’」』)]*(?:{_CITED})*|\n+|$)")


def sentences(text: str) -> list[str]:
    """Sentences without blank edges; an initial or a common abbreviation ends none."""
    made: list[str] = []
    start = 0
    for end in _END.finditer(text):
        piece = text[start : end.end()]
        if _ABBREVIATION.search(piece.rstrip()) and "\n" not in end.group():
            continue
        if piece.strip():
            made.append(piece.strip())
        start = end.end()
    return made


def citations(sentence: str) -> list[int]:
    """Numbers in square brackets, each once, in order: ``[1][3]``, ``[1, 3]``, and as published also one left open, ``[1``."""
    groups = re.findall(r"\[(\d+(?:\s*[,;]\s*\d+)*)", sentence)
    return list(dict.fromkeys(int(n) for group in groups for n in re.findall(r"\d+", group)))


def without_citations(text: str) -> str:
    """The text as it would read without what it cites."""
    return re.sub(r"\s*\[\d+(?:\s*[,;]\s*\d+)*\]?", "", text).strip()
