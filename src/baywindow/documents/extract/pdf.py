"""PDF, page by page, through pdfium. A page that only holds pictures is counted and named: nothing here reads scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from baywindow.documents.base import Mark
from baywindow.documents.extract.base import Block, Extraction
from baywindow.errors import SourceError

PAGE_BREAK = "\n\n"
# pdfium marks hyphens at line ends with these two, and keeps NULs of broken fonts.
NOISE = str.maketrans({"\ufffe": "-", "\x02": "-", "\0": None, "\r": None})


def extract_pdf(path: Path) -> Extraction:
    """One block a page, so that no chunk crosses a page. SourceError for an encrypted or corrupt file."""
    document = _opened(path)
    found = Extraction(blocks=iter(()), paged=True, suffix=".pdf")
    found.blocks = _pages(document, path, found.notes)
    return found


def _opened(path: Path) -> Any:
    import pypdfium2
    from pypdfium2.raw import FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY

    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in (FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY):
            raise SourceError(f"{path} is an encrypted PDF", hint="save a copy without a password and use that") from None
        raise SourceError(f"{path} is not a readable PDF: the file is damaged", hint="open it in a viewer and save it again") from None


def _pages(document: Any, path: Path, notes: list[str]) -> Iterator[Block]:
    scans: list[int] = []
    start = 0
    try:
        count = len(document)
        for number in range(1, count + 1):
            text, picture = _page(document, number, path)
            if not text.strip() and picture:
                scans.append(number)
            text += PAGE_BREAK
            yield Block(text, (Mark(start, page=number),))
            start += len(text)
    finally:
        document.close()
    if scans:
        notes.append(f"{len(scans)} of {count} pages are scans ({page_list(scans)}); OCR is not included")


def _page(document: Any, number: int, path: Path) -> tuple[str, bool]:
    """The page's text, and whether it holds a picture."""
    import pypdfium2
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    try:
        page = document[number - 1]
        try:
            textpage = page.get_textpage()
            text: str = textpage.get_text_bounded().translate(NOISE)
            textpage.close()
            blank = not text.strip()
            return text, blank and next(iter(page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE])), None) is not None
        finally:
            page.close()
    except pypdfium2.PdfiumError:
        raise SourceError(f"{path}: page {number} of the PDF is damaged", hint="open it in a viewer and save it again") from None


def page_list(pages: Sequence[int]) -> str:
    """``pages 1-3, 7``: runs of numbers written short."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:10]]
    more = ["…"] if len(runs) > 10 else []
    return ("page " if len(pages) == 1 else "pages ") + ", ".join(shown + more)
