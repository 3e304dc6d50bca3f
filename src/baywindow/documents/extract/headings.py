"""Where the headings of a Markdown text are, so that a citation can name the one above it."""

from __future__ import annotations

import re

from baywindow.documents.base import Mark

LINE = re.compile(r"^(?P<fence> {0,3}(?:```+|~~~+))|^ {0,3}#{1,6}[ \t]+(?P<title>[^\r\n]*?)[ \t]*#*[ \t]*\r?$", re.MULTILINE)
LONGEST_LABEL = 80


def heading_marks(text: str, start: int = 0) -> tuple[Mark, ...]:
    """A mark for each ATX heading outside fenced code; ``start`` is the offset of ``text`` in its document."""
    marks = []
    fence = ""
    for found in LINE.finditer(text):
        opened = (found["fence"] or "").strip()
        if opened:
            if not fence:
                fence = opened
            elif opened[0] == fence[0] and len(opened) >= len(fence):
                fence = ""
        elif not fence and found["title"]:
            marks.append(Mark(start + found.start(), label=found["title"][:LONGEST_LABEL]))
    return tuple(marks)
