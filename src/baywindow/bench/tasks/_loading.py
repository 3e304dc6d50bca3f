"""What all loaded suites share: rows of local files or of the hub, and samples made of them.

A path that the person gives is a file, or a folder in which a subset is looked for under its published name, at any depth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from baywindow.bench.base import Loaded, Sample
from baywindow.bench.tasks._hub import Hub
from baywindow.documents.base import Document
from baywindow.errors import SourceError
from baywindow.home import cache_dir

# Where a context made of several texts falls apart; what is split here is joined again by the same two line breaks.
_PART = re.compile(r"\n\n(?=(?:#+ *)?\[?(?:Passage|Paragraph|Document|Article|段落|文章) *\[?\d+)")


@dataclass(frozen=True)
class Row:
    """One record and where it stands, for messages."""

    values: Mapping[str, Any]
    place: str

    def text(self, name: str) -> str:
        """A field as text; numbers are written out. SourceError if it is missing or no text."""
        value = self.values.get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise SourceError(f"{self.place}: field {name!r} is missing or no text", hint="is this the set's published format?")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A field as texts, one or several. Lists in lists are laid flat, numbers written out."""
        return tuple(str(v) for v in _flat(self.values.get(name)) if v is not None)

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a subset is: file names (patterns) in a folder, and where on the hub. ``where`` is told when it is nowhere."""

    names: tuple[str, ...]
    hub: Hub | None = None
    where: str = ""

    def rows(self, path: Path | None) -> Iterator[Row]:
        """All rows, in the set's order. SourceError if nothing is there or a line does not parse."""
        if path is not None:
            yield from rows_of(found(path, self.names, self.where))
        elif self.hub is None:
            raise SourceError("this set must be given as local files", hint=self.where)
        elif self.hub.file:
            yield from rows_of(self.hub.path(cache_dir("bench", "sets", re.sub(r"\W+", "-", self.hub.repo))))
        else:
            for i, values in enumerate(self.hub.rows(), 1):
                yield Row(values, f"{self.hub.repo} row {i}")


@dataclass(frozen=True, kw_only=True)
class Subset:
    """How one subset is asked and scored. ``ask`` holds ``{question}``; ``also`` are scorers that the published report gives besides."""

    suite: str
    name: str
    summary: str
    scorer: str
    max_new_tokens: int
    instruction: str = ""
    ask: str = "{question}"
    answer_prefix: str = ""
    also: tuple[str, ...] = ()
    cut: str = "middle"  # what the published code drops of a prompt that is too long: its middle, or its end
    chat: bool = True  # whether the published code puts the prompt into the model's chat template
    stop: tuple[str, ...] = ()
    source: Source = field(default_factory=lambda: Source(names=()))

    @property
    def task(self) -> str:
        return f"{self.suite}.{self.name}"

    def sample(self, number: int, documents: Sequence[Document], question: str, gold: Sequence[str], /, **metadata: Any) -> Sample:
        """One sample. ``metadata`` is added to what every one tells; ``instruction`` and ``scorer`` in it replace the subset's."""
        told = {
            "task": self.task,
            "number": number,
            "question": question,
            "answer": gold[0] if gold else "",
            "cut": self.cut,
            "chat": self.chat,
            "stop": list(self.stop),
            "also": list(self.also),
        }
        instruction, scorer = metadata.pop("instruction", self.instruction), metadata.pop("scorer", self.scorer)
        return Sample(
            id=f"{self.task}/{number}",
            documents=tuple(documents),
            question=self.ask.format(question=question),
            gold=tuple(gold),
            scorer=scorer,
            instruction=instruction,
            answer_prefix=self.answer_prefix,
            max_new_tokens=self.max_new_tokens,
            metadata=told | metadata,
        )


def loaded(subset: Subset, load: Callable[[Subset, Path | None], Iterator[Sample]]) -> Loaded:
    """The task that loads a subset."""
    return Loaded(
        name=subset.task,
        summary=subset.summary,
        scorer=subset.scorer,
        max_new_tokens=subset.max_new_tokens,
        load=partial(load, subset),
        where=subset.source.where,
    )


def documents_of(text: str, source: str) -> tuple[Document, ...]:
    """A context as documents: one, or one for each of its numbered passages. Joined as a sample joins them, they are the context."""
    parts = _PART.split(text)
    if len(parts) == 1:
        return (Document(text, source),)
    return tuple(Document(part, f"{source}/{i}") for i, part in enumerate(parts, 1))


def found(path: Path, names: Sequence[str], where: str) -> Path:
    """The file: the path itself, or the first of ``names`` below it, the shallowest first."""
    if path.is_file():
        return path
    for name in names:
        if files := sorted(path.rglob(name), key=lambda p: (len(p.parts), p)):
            return files[0]
    raise SourceError(f"there is no {' or '.join(names) or 'file'} at {path}", hint=where or "give the file or the folder it is in")


def rows_of(path: Path) -> Iterator[Row]:
    """Rows of a JSON Lines file, of a JSON list, or of the list under ``data`` of a JSON object."""
    text = _read(path)
    if text.lstrip()[:1] == "[" or path.suffix == ".json":
        yield from _rows_of_json(text, path)
        return
    for i, line in enumerate(text.split("\n"), 1):  # not splitlines: a record may hold other line separators
        if line.strip():
            yield Row(_object(line, f"{path.name}:{i}"), f"{path.name}:{i}")


def _rows_of_json(text: str, path: Path) -> Iterator[Row]:
    try:
        table = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{path.name} is not JSON: {error}", hint="is this the set's published file?") from None
    listed = table if isinstance(table, list) else table.get("data") if isinstance(table, dict) else None
    if isinstance(table, dict) and listed is None:
        listed = [table]
    if not isinstance(listed, list) or not all(isinstance(value, dict) for value in listed):
        raise SourceError(f"{path.name} holds no list of records", hint="is this the set's published file?")
    for i, values in enumerate(listed, 1):
        yield Row(values, f"{path.name} record {i}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}", hint="give the set's file, in UTF-8") from None


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise SourceError(f"{place}: not JSON: {error}", hint="is this the set's published file?") from None
    if not isinstance(value, dict):
        raise SourceError(f"{place}: not a record", hint="is this the set's published file?")
    return value


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value
