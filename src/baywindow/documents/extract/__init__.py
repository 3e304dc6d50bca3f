"""Files to text. The kind is told by the suffix, then checked by the first bytes; text is what nothing else claims."""

from __future__ import annotations

from pathlib import Path

from baywindow.documents.extract.base import Block, Extraction, NotTextError, unreadable
from baywindow.documents.extract.office import SUFFIXES as OFFICE
from baywindow.documents.extract.office import extract_office
from baywindow.documents.extract.pdf import extract_pdf
from baywindow.documents.extract.text import SNIFF_BYTES, extract_text, is_binary
from baywindow.errors import SourceError

__all__ = ["Block", "Extraction", "NotTextError", "extract", "kind_of", "unreadable"]

ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = b"\xd0\xcf\x11\xe0"  # old Office files, and new ones with a password
PDF_MAGIC = b"%PDF-"


def extract(path: Path) -> Extraction:
    """The text of one file. SourceError if it cannot be read, NotTextError if it is binary."""
    try:
        kind = kind_of(path)
        if kind == "pdf":
            return extract_pdf(path)
        return extract_text(path) if kind == "text" else extract_office(path, kind)
    except OSError as error:
        raise unreadable(path, error) from error


def kind_of(path: Path) -> str:
    """``pdf``, ``text``, or the suffix of an office format. NotTextError for anything else that is binary."""
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    suffix = path.suffix.lower()
    if suffix == ".pdf" or head[:1024].lstrip().startswith(PDF_MAGIC):
        return "pdf"
    if suffix in OFFICE and (head.startswith(ZIP_MAGIC) or suffix in (".html", ".htm", ".xhtml")):
        return suffix
    if suffix in OFFICE and head.startswith(OLE_MAGIC):
        raise SourceError(f"{path} is protected by a password", hint="save a copy without one and use that")
    if suffix in OFFICE:
        raise SourceError(f"{path} is damaged: it is no {suffix[1:].upper()} file", hint="open it in its program and save it again")
    if is_binary(head):
        raise NotTextError(f"{path} is a binary file", hint="text, PDF, HTML, DOCX, PPTX, XLSX and EPUB can be read")
    return "text"
