"""The published questions: one JSON object a line with ``question``, ``answers`` and ``ctxs`` (``title``, ``text``, ``isgold``)."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path

from baywindow.bench.tasks._invented import Passage
from baywindow.errors import SourceError

Row = tuple[str, tuple[str, ...], Passage, tuple[Passage, ...]]  # question, answers, gold passage, others by rank
FORM = "the published JSON lines, such as nq-open-20_total_documents_gold_at_0.jsonl.gz"


def rows(path: Path) -> tuple[Row, ...]:
    """All of a file; SourceError if it is not there or has another form."""
    if not path.is_file():
        raise SourceError(f"no questions at {path}", hint=FORM)
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> tuple[Row, ...]:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found = tuple(_row(json.loads(line)) for line in raw.decode("utf-8").splitlines() if line.strip())
    except (ValueError, KeyError, TypeError, StopIteration, EOFError, OSError) as error:
        raise SourceError(f"{path} is not of the published form: {error!r}", hint=FORM) from error
    if not found:
        raise SourceError(f"{path} holds no question", hint=FORM)
    return found


def _row(row: dict[str, object]) -> Row:
    contexts = row["ctxs"]
    if not isinstance(contexts, list) or not isinstance(row["answers"], list):
        raise ValueError("ctxs and answers must be lists")
    passages = [(bool(c.get("isgold")), Passage(str(c["title"]), (str(c["text"]),), -1)) for c in contexts]
    gold = next(p for is_gold, p in passages if is_gold)
    return str(row["question"]), tuple(map(str, row["answers"])), gold, tuple(p for is_gold, p in passages if not is_gold)
