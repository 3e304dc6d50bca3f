"""HTML, DOCX, PPTX, XLSX and EPUB as Markdown, through MarkItDown. Marks carry the heading, slide or sheet.

MarkItDown runs with its plug-ins off and on a local file only. A document that is a zip archive is refused if it would unpack to
more than `UNPACKED_LIMIT_BYTES`: such a file is an attack or a mistake.
"""

from __future__ import annotations

import functools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from baywindow.documents.base import Mark
from baywindow.documents.extract.base import Block, Extraction
from baywindow.documents.extract.headings import heading_marks
from baywindow.errors import SourceError

SUFFIXES = frozenset({".html", ".htm", ".xhtml", ".docx", ".pptx", ".xlsx", ".epub"})
ZIPPED = frozenset({".docx", ".pptx", ".xlsx", ".epub"})
UNPACKED_LIMIT_BYTES = 1 << 30
SLIDE = re.compile(r"<!-- Slide number: (\d+) -->")
SHEET = re.compile(r"^## (.+?)[ \t]*$", re.MULTILINE)


def extract_office(path: Path, suffix: str) -> Extraction:
    """The whole file as one block. SourceError if it is damaged, encrypted, or unpacks to too much."""
    if suffix in ZIPPED:
        _check_archive(path)
    text = _converted(path, suffix)
    return Extraction(blocks=iter([Block(text, _marks(text, suffix))] if text else []), form="markdown", suffix=suffix)


def _converted(path: Path, suffix: str) -> str:
    from markitdown import MarkItDownException, StreamInfo

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of parsers about odd markup; nothing a person can act on
            text: str = _converter().convert_local(path, stream_info=StreamInfo(extension=suffix)).text_content
    except (MarkItDownException, OSError, ValueError, KeyError, SyntaxError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be read as {suffix[1:].upper()}: the file is damaged or encrypted", hint=_first(error)) from error
    # Lone surrogates and NULs can neither be stored nor shown.
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


@functools.cache
def _converter() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # audio helpers warn about missing programs on import
        from markitdown import MarkItDown

        return MarkItDown(enable_plugins=False)


def _marks(text: str, suffix: str) -> tuple[Mark, ...]:
    if suffix == ".pptx":
        return tuple(Mark(m.start(), label=f"slide {m[1]}") for m in SLIDE.finditer(text))
    if suffix == ".xlsx":
        return tuple(Mark(m.start(), label=f"sheet {m[1]}") for m in SHEET.finditer(text))
    return heading_marks(text)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except zipfile.BadZipFile:
        raise SourceError(f"{path} is damaged or encrypted", hint="open it in its program and save it again") from None
    if unpacked > UNPACKED_LIMIT_BYTES:
        raise SourceError(f"{path} would unpack to {unpacked / 1e9:.1f} GB", hint="such a file is refused; save its text apart")


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
