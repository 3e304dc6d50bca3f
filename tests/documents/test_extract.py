"""Every kind of file, and every way in which one can be bad."""

from __future__ import annotations

import codecs
import os
import zipfile
from pathlib import Path

import pytest

from baywindow.documents.base import Mark
from baywindow.documents.extract import NotTextError, extract
from baywindow.documents.extract import text as text_module
from baywindow.documents.extract.headings import heading_marks
from baywindow.documents.extract.office import UNPACKED_LIMIT_BYTES
from baywindow.documents.extract.pdf import page_list
from baywindow.errors import SourceError


def read(path: Path) -> str:
    return "".join(block.text for block in extract(path).blocks)


PICTURE = (
    "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 /Length 1 >>\nstream\nA\nendstream"
)


def pdf(pages: list[str | None], trailer: str = "") -> bytes:
    """A PDF written by hand: text pages, and for None a page that only draws a picture."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for text in pages:
        if text is None:
            objects.append(PICTURE)
            resources, content = f"<< /XObject << /I {len(objects)} 0 R >> >>", "q 100 0 0 100 0 0 cm /I Do Q"
        else:
            resources = "<< /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
            content = f"BT /F 12 Tf 50 700 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R /Resources {resources} >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>"
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    start = len(out)
    size = len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R {trailer}>>\nstartxref\n{start}\n%%EOF\n"
    return out.encode("latin-1")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("naïve – ok\r\nline".encode(), "naïve – ok\r\nline"),
        (codecs.BOM_UTF8 + "naïve".encode(), "naïve"),
        ("naïve".encode("utf-16"), "naïve"),
        (codecs.BOM_UTF32_LE + "naïve".encode("utf-32-le"), "naïve"),
        (b"", ""),
    ],
)
def test_encodings_with_marks_and_utf8(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read(path) == expected


def test_an_old_encoding_is_detected(tmp_path: Path) -> None:
    text = "Der Übergang über die Straße war für größere Fußgänger schön gewesen, hörte man. " * 20
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode("cp1252"))
    assert read(path) == text


def test_blocks_end_at_line_ends_and_join_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "BLOCK_CHARACTERS", 50)
    monkeypatch.setattr(text_module, "LONGEST_LINE", 200)
    text = "".join(f"line {n} ä\r\n" for n in range(40)) + "y " * 300 + "\nend"
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    blocks = [block.text for block in extract(path).blocks]
    assert "".join(blocks) == text
    assert len(blocks) > 10
    assert all(b.endswith("\n") for b in blocks[:5])
    assert max(map(len, blocks)) <= 260


def test_a_block_is_all_that_is_held_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    with path.open("w") as file:
        for n in range(200):
            file.write(f"{n:06d} " + "word " * 4000 + "\n")
    sizes = [len(block.text) for block in extract(path).blocks]
    assert sum(sizes) == path.stat().st_size
    assert max(sizes) <= 2 * text_module.BLOCK_CHARACTERS


def test_markdown_headings_are_marks_but_not_in_code() -> None:
    text = "# One\n\n```sh\n# not this\n```\n## Two ##\ntext\n#no\n"
    assert heading_marks(text, 100) == (Mark(100, label="One"), Mark(100 + text.index("## Two"), label="Two"))


def test_pdf_pages_and_scans(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(["Alpha beta", None, None, "Gamma", None]))
    found = extract(path)
    blocks = list(found.blocks)
    assert [b.marks[0].page for b in blocks] == [1, 2, 3, 4, 5]
    assert [b.text.strip() for b in blocks] == ["Alpha beta", "", "", "Gamma", ""]
    assert blocks[3].marks[0].start == sum(len(b.text) for b in blocks[:3])
    assert found.notes == ["3 of 5 pages are scans (pages 2-3, 5); OCR is not included"]


def test_page_lists_are_short() -> None:
    assert page_list([4]) == "page 4"
    assert page_list([1, 2, 3, 7, 9, 10]) == "pages 1-3, 7, 9-10"


def test_a_corrupt_pdf_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7\nrubbish" + os.urandom(100))
    with pytest.raises(SourceError, match="damaged") as error:
        list(extract(path).blocks)
    assert "\n" not in str(error.value)


def test_an_encrypted_pdf_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    key = "00" * 32
    path.write_bytes(
        pdf(["secret"], f"/Encrypt << /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O <{key}> /U <{key}> >> /ID [<{key}> <{key}>] ")
    )
    with pytest.raises(SourceError, match="encrypted"):
        extract(path)


def test_html_headings_label_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<html><body><h1>Rates</h1><p>The rate is 4 percent.</p><script>alert(1)</script></body></html>")
    (block,) = extract(path).blocks
    assert "The rate is 4 percent." in block.text
    assert "alert" not in block.text
    assert block.marks[0].label == "Rates"


def test_docx_pptx_xlsx(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    pptx = pytest.importorskip("pptx")
    openpyxl = pytest.importorskip("openpyxl")
    document = docx.Document()
    document.add_heading("Terms", 1)
    document.add_paragraph("Notice is three months.")
    document.save(str(tmp_path / "a.docx"))
    slides = pptx.Presentation()
    for title in ("Opening", "Closing"):
        slides.slides.add_slide(slides.slide_layouts[5]).shapes.title.text = title
    slides.save(str(tmp_path / "a.pptx"))
    book = openpyxl.Workbook()
    book.active.title = "Sales"
    book.active.append(["year", "euro"])
    book.active.append([2021, 17])
    book.save(str(tmp_path / "a.xlsx"))
    for name, words, label in (
        ("a.docx", "Notice is three months.", "Terms"),
        ("a.pptx", "Closing", "slide 2"),
        ("a.xlsx", "2021", "sheet Sales"),
    ):
        (block,) = extract(tmp_path / name).blocks
        assert words in block.text
        before = [m for m in block.marks if m.start <= block.text.index(words)]
        assert before[-1].label == label


def test_epub(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    namespace = 'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"'
    container = f'<container {namespace}><rootfiles><rootfile full-path="c.opf"/></rootfiles></container>'
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<metadata><dc:title>Book</dc:title></metadata>"
        '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>'
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("c.opf", opf)
        archive.writestr("a.xhtml", "<html><body><h2>Chapter one</h2><p>Call me nobody.</p></body></html>")
    (block,) = extract(path).blocks
    assert "Call me nobody." in block.text
    assert any(m.label == "Chapter one" for m in block.marks)


@pytest.mark.parametrize(("name", "data"), [("a.docx", b"PK\x03\x04cut"), ("b.docx", b"no zip"), ("c.xlsx", b"\xd0\xcf\x11\xe0secret")])
def test_damaged_or_locked_office_files_are_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"damaged|password") as error:
        extract(path)
    assert "\n" not in str(error.value)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert UNPACKED_LIMIT_BYTES >= 1 << 28
    monkeypatch.setattr("baywindow.documents.extract.office.UNPACKED_LIMIT_BYTES", 1000)
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", "0" * 2000)
    with pytest.raises(SourceError, match="unpack"):
        extract(path)


def test_binary_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\x7fELF\0\0\x01\x02")
    with pytest.raises(NotTextError, match="binary"):
        extract(path)


def test_a_pdf_without_its_suffix_is_one(tmp_path: Path) -> None:
    path = tmp_path / "download"
    path.write_bytes(pdf(["Alpha"]))
    assert extract(path).paged


def test_an_unreadable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        extract(tmp_path)  # a folder where a file is asked for
