"""Chunks: stretches of text that end where sentences, paragraphs or sections end, each knowing its exact span.

Splitting is semantic-text-splitter's. It asks for the size of very many candidate strings, and asking a tokenizer each time costs
most of the time of indexing. So the text is tokenised once; the splitter works in characters at the text's own characters per
token; every chunk is then measured in tokens, and those that came out too large are split again, smaller. No chunk is above
``max_tokens``. Where an embedder has no local tokenizer, `CHARACTERS_PER_TOKEN` stands in, and `Chunker.estimated` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.base import Mark
from baywindow.documents.extract.base import Block, Form
from baywindow.errors import ConfigError

CHARACTERS_PER_TOKEN = 4.0
# Characters per token vary inside a text; aiming below the limit saves most of the second splits.
AIM = 0.85

Span = tuple[int, int]


@dataclass(frozen=True)
class Chunk:
    """``text`` is the document's from ``start`` to ``end``; ``lead`` is the white space between it and the chunk before."""

    text: str
    start: int
    end: int
    lead: str
    line: int | None
    page: int | None
    label: str


class Chunker:
    """Splits text into spans of at most ``max_tokens`` tokens of ``tokenizer_json`` (a `tokenizers` file), else of an estimate."""

    def __init__(self, max_tokens: int, tokenizer_json: str | None = None) -> None:
        if max_tokens < 8:
            raise ConfigError.bad_value("chunk_tokens", max_tokens, "at least 8")
        self.max_tokens = max_tokens
        self.estimated = tokenizer_json is None
        self._tokenizer = None if tokenizer_json is None else _tokenizer(tokenizer_json)

    def spans(self, text: str, form: Form = "text") -> list[Span]:
        """Spans in order that together hold everything but white space."""
        if not text.strip():
            return []
        if self._tokenizer is None:
            return _split(text, 0, int(self.max_tokens * CHARACTERS_PER_TOKEN), form)
        ends = np.asarray([end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets], dtype=np.int64)
        per_token = len(text) / max(len(ends), 1)
        if len(ends) <= self.max_tokens:
            return _split(text, 0, len(text) + 1, form)
        return list(self._fitting(text, ends, per_token * AIM, form))

    def _fitting(self, text: str, ends: NDArray[np.int64], per_token: float, form: Form) -> Iterator[Span]:
        """``ends[i]`` is where token i of the whole text ends; splits again, smaller, whatever has too many of them."""
        pending = _split(text, 0, max(1, int(self.max_tokens * per_token)), form)[::-1]
        while pending:
            start, end = pending.pop()
            tokens = int(np.searchsorted(ends, end, "right") - np.searchsorted(ends, start, "right"))
            if tokens <= self.max_tokens or end - start <= 1:
                yield start, end
                continue
            # At least halved, so that this ends; a part of a chunk is plain text, its structure has been used already.
            smaller = max(1, min(int((end - start) * AIM * self.max_tokens / tokens), (end - start) // 2 + 1))
            pending += _split(text[start:end], start, smaller, "text")[::-1]


class Cutter:
    """Turns a document's blocks into chunks; afterwards ``characters`` is its length and ``tail`` the white space at its end."""

    def __init__(self, chunker: Chunker, form: Form, paged: bool = False) -> None:
        self.characters = 0
        self.tail = ""
        self._chunker = chunker
        self._form: Form = form
        self._paged = paged
        self._line = 1
        self._mark = Mark(0)

    def chunks(self, blocks: Iterable[Block]) -> Iterator[Chunk]:
        for block in blocks:
            yield from self._of_block(block)

    def _of_block(self, block: Block) -> Iterator[Chunk]:
        base, text, marks = self.characters, block.text, list(block.marks)[::-1]
        self.characters += len(text)
        read = 0
        for start, end in self._chunker.spans(text, self._form):
            self._line += text.count("\n", read, start)
            while marks and marks[-1].start <= base + start:
                self._mark = marks.pop()
            lead, self.tail = self.tail + text[read:start], ""
            yield Chunk(
                text=text[start:end],
                start=base + start,
                end=base + end,
                lead=lead,
                line=None if self._paged else self._line,
                page=self._mark.page if self._paged else None,
                label=self._mark.label,
            )
            self._line += text.count("\n", start, end)
            read = end
        self._line += text.count("\n", read)
        self.tail += text[read:]
        if marks:
            self._mark = marks[0]


def _split(text: str, start: int, characters: int, form: Form) -> list[Span]:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    splitter = MarkdownSplitter(characters) if form == "markdown" else TextSplitter(characters)
    return [(start + at, start + at + len(piece)) for at, piece in splitter.chunk_indices(text)]


def _tokenizer(tokenizer_json: str) -> Any:
    from tokenizers import Tokenizer

    found = Tokenizer.from_str(tokenizer_json)
    found.no_truncation()
    found.no_padding()
    return found


def chunker_for(embedder: Any, chunk_tokens: int) -> Chunker:
    """A chunker sized for an embedder: its tokenizer where it has one, and never more than it reads (two special tokens apart)."""
    if embedder is None:
        return Chunker(chunk_tokens)
    limit = max(8, int(getattr(embedder, "max_tokens", chunk_tokens)) - 2)
    return Chunker(min(chunk_tokens, limit), getattr(embedder, "tokenizer_json", None))
