"""Plain text of any size: the encoding is detected, then the file is read block by block at line ends.

UTF-8 and byte-order marks are decided by reading, everything else by charset-normalizer on a sample. Memory is bounded by one
block, whatever the file's size. Line ends stay as they are in the file, so offsets are those of the decoded text.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from charset_normalizer import from_bytes

from baywindow.documents.extract.base import Block, Extraction
from baywindow.documents.extract.headings import heading_marks

BLOCK_CHARACTERS = 1 << 20
LONGEST_LINE = 1 << 22  # a line longer than this is cut inside
SNIFF_BYTES = 8192
SAMPLE_BYTES = 1 << 16
MARKDOWN = frozenset({".md", ".markdown", ".mdx", ".mkd", ".qmd", ".rmd"})
# UTF-32 first: its little-endian mark begins with that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def is_binary(head: bytes) -> bool:
    """Whether the first bytes of a file cannot be text: a NUL without a byte-order mark that explains it, or many controls."""
    if any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS):
        return False
    if b"\0" in head:
        return True
    controls = sum(byte < 32 and byte not in (8, 9, 10, 12, 13, 27) for byte in head)
    return controls > 0.1 * max(len(head), 1)


def extract_text(path: Path) -> Extraction:
    """Text, Markdown, code, CSV, JSON. OSError if the file cannot be read."""
    markdown = path.suffix.lower() in MARKDOWN
    found = Extraction(blocks=iter(()), form="markdown" if markdown else "text", suffix=path.suffix.lower())
    found.blocks = _blocks(path, markdown, found.notes)
    return found


def detect_encoding(path: Path) -> str:
    """The name of a codec that Python knows; ``latin-1`` when nothing fits better."""
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
        for mark, name in BYTE_ORDER_MARKS:
            if head.startswith(mark):
                return name
        file.seek(0)
        wrong = _first_invalid_utf8(file)
        if wrong is None:
            return "utf-8"
        # The bytes around the first one that is not UTF-8 say most about what it is instead.
        file.seek(max(0, wrong - SAMPLE_BYTES // 2))
        best = from_bytes(file.read(SAMPLE_BYTES)).best()
    return best.encoding if best is not None else "latin-1"


def _first_invalid_utf8(file: object) -> int | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    while data := file.read(BLOCK_CHARACTERS):  # type: ignore[attr-defined]
        try:
            decoder.decode(data)
        except UnicodeDecodeError as error:
            return max(0, read + error.start)
        read += len(data)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return read - 1
    return None


def _blocks(path: Path, markdown: bool, notes: list[str]) -> Iterator[Block]:
    encoding = detect_encoding(path)
    start = lost = 0
    with path.open("r", encoding=encoding, errors="replace", newline="") as file:
        for text in _cut_at_line_ends(iter(lambda: file.read(BLOCK_CHARACTERS), "")):
            lost += text.count("\ufffd") if encoding != "utf-8" else 0
            yield Block(text, heading_marks(text, start) if markdown else ())
            start += len(text)
    if lost:
        notes.append(f"{lost} characters could not be read as {encoding}")


def _cut_at_line_ends(pieces: Iterator[str]) -> Iterator[str]:
    """Regroups pieces so that each ends with a line, unless a line is longer than memory should hold."""
    rest = ""
    for piece in pieces:
        rest += piece
        cut = rest.rfind("\n") + 1
        if cut == 0 and len(rest) >= LONGEST_LINE:
            cut = (rest.rfind(" ") + 1) or len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest
