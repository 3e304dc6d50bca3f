"""Replies with named fields: the JSON schema to ask for, the words that ask for it, and a forgiving reading of what came.

Small models wrap JSON in prose, break it off, or write ``Label: value`` lines instead; all of these are read. What a reply says is
data: it is parsed here, never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from baywindow.context.reply import NOT_FOUND, declined
from baywindow.models.replies import json_values, without_thought

Kind = Literal["text", "number", "flag", "texts"]
Value = str | float | bool | list[str]

_SCHEMA: dict[Kind, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "texts": {"type": "array", "items": {"type": "string"}},
}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):])\s+")
_EMPTY = frozenset({"", "none", "null", "n/a", "..."})
_YES, _NO = frozenset({"true", "yes", "y", "1", "keep"}), frozenset({"false", "no", "n", "0", "remove"})
_SHORT = 48  # characters: a longer text that happens to say "not found" says more than that


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a reply. ``about`` says in the prompt what belongs there; ``choices`` are the only words a text may be."""

    name: str
    about: str
    kind: Kind = "text"
    choices: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """How the prompt shows the value."""
        if self.choices:
            return " or ".join(f'"{choice}"' for choice in self.choices)
        if self.kind == "text":
            return f'"<{self.about}>"'
        return f'["<{self.about}>", ...]' if self.kind == "texts" else f"<{self.about}>"


@dataclass(frozen=True)
class Reply:
    """What one reply said. ``formed`` is False if it kept no form at all; then ``raw`` is all there is."""

    raw: str
    values: Mapping[str, Value] = field(default_factory=dict)
    formed: bool = True

    def text(self, name: str) -> str:
        """A text field; empty where the model left it out or wrote that there is nothing."""
        value = self.values.get(name, "")
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        return value if isinstance(value, bool) else None

    def texts(self, name: str) -> list[str]:
        value = self.values.get(name)
        return list(value) if isinstance(value, list) else []


@dataclass(frozen=True)
class Form:
    """The fields of a reply, in order. A reply without any form becomes the value of the field named ``rest``, if one is named."""

    fields: tuple[Field, ...]
    rest: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema in the strict form that endpoints ask for: every property required, no others."""
        properties = {f.name: _SCHEMA[f.kind] | ({"enum": list(f.choices)} if f.choices else {}) for f in self.fields}
        return {"type": "object", "properties": properties, "required": [f.name for f in self.fields], "additionalProperties": False}

    @property
    def wording(self) -> str:
        """The sentence of a prompt that asks for this form."""
        return "Reply only with JSON: {" + ", ".join(f'"{f.name}": {f.shown}' for f in self.fields) + "}"

    def read(self, text: str) -> Reply:
        """The fields that a reply holds. ``formed`` is True only if every field was found (it may say that it is empty)."""
        raw = without_thought(text)
        found = self._from_json(raw)
        if len(found) < len(self.fields):
            found = self._from_labels(raw) | found
        if found:
            return Reply(raw, found, formed=len(found) == len(self.fields))
        return self._bare(raw)

    def _bare(self, raw: str) -> Reply:
        """A reply without form. One that says "not found" has said all; a form of one field needs no form."""
        main = next((f for f in self.fields if f.name == self.rest), None)
        value = _value(main, raw) if main and raw else None
        values = {} if main is None or value is None else {main.name: value}
        return Reply(raw, values, formed=_says_nothing(raw) or (len(self.fields) == 1 and bool(values)))

    def _from_json(self, raw: str) -> dict[str, Value]:
        for made in json_values(raw):
            if isinstance(made, list):
                lists = [f for f in self.fields if f.kind == "texts"]
                made = {lists[0].name: made} if len(lists) == 1 else {}
            given = {_plain(key): value for key, value in made.items()}
            values = {f.name: _value(f, given[f.name]) for f in self.fields if f.name in given}
            if found := {name: value for name, value in values.items() if value is not None}:
                return found
        return {}

    def _from_labels(self, raw: str) -> dict[str, Value]:
        """From ``Label: value`` lines, or JSON that is broken or breaks off."""
        names = "|".join(re.escape(f.name).replace("_", "[_ ]") for f in self.fields)
        label = re.compile(
            rf"(?:^[\W\d]*|[{{,]\s*[\"'])(?P<name>{names})[\"'*_]*\s*[:=][*_]*\s*", re.IGNORECASE | re.MULTILINE
        )  # at the start of a line, or quoted behind a brace or comma
        matches = list(label.finditer(raw))
        ends = [*(m.start() for m in matches), len(raw)][1:]
        texts = {_plain(m["name"]): raw[m.end() : end] for m, end in zip(matches, ends, strict=True)}
        values = {f.name: _value(f, _trimmed(texts[f.name], f.kind)) for f in self.fields if f.name in texts}
        return {name: value for name, value in values.items() if value is not None}


def _plain(key: str) -> str:
    return key.strip().lower().replace(" ", "_")


def _trimmed(text: str, kind: Kind) -> str:
    """The value of a label without the marks of JSON around it."""
    text = text.strip().strip("`").strip()
    if kind == "texts":
        return text
    text = re.sub(r"[\s,}]+$", "", text) if text.startswith(('"', "'")) or text.endswith("}") else text
    return text.strip("\"'").replace('\\"', '"').replace("\\n", "\n").strip()


def _says_nothing(text: str) -> bool:
    plain = text.strip().lower().strip(" .")
    return plain in _EMPTY or (len(plain) <= max(_SHORT, len(NOT_FOUND)) and declined(text))


def _value(wanted: Field, given: Any) -> Value | None:
    """What was given, as the field's kind; None if it cannot be that. A text that only says "nothing" is empty."""
    if wanted.kind == "texts":
        return _texts(wanted, given)
    if wanted.kind == "number":
        if isinstance(given, int | float) and not isinstance(given, bool):
            return float(given)
        match = _NUMBER.search(str(given))
        return float(match.group()) if match else None
    if wanted.kind == "flag":
        return _flag(given)
    if isinstance(given, list | dict):
        given = "\n".join(_items(given))
    text = "" if given is None else str(given).strip()
    if wanted.choices:
        return _choice(wanted.choices, text)
    return "" if _says_nothing(text) or text.strip("<>") == wanted.about else text


def _choice(choices: tuple[str, ...], text: str) -> str | None:
    """The first of the allowed words that a text holds."""
    found = [(m.start(), choice) for choice in choices if (m := re.search(rf"\b{re.escape(choice)}\b", text, re.IGNORECASE))]
    return min(found)[1] if found else None


def _flag(given: Any) -> bool | None:
    if isinstance(given, bool):
        return given
    for word in re.findall(r"\w+", str(given).lower()):
        if word in _YES | _NO:
            return word in _YES
    return None


def _texts(wanted: Field, given: Any) -> list[str]:
    if isinstance(given, str):
        quoted = _QUOTED.findall(given)
        given = quoted if quoted and given.lstrip().startswith("[") else given.splitlines()
    items = [_BULLET.sub("", item).strip().rstrip(",") for item in _items(given)]
    return [item for item in items if not _says_nothing(item) and item.strip("<>") != wanted.about and item not in ("[", "]", "{", "}")]


def _items(given: Any) -> list[str]:
    """A list as texts; an object among its items becomes ``value | value``, a list within an item ``value; value``."""
    values = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else [given]
    made = []
    for value in values:
        if isinstance(value, dict):
            value = " | ".join("; ".join(map(str, v)) if isinstance(v, list) else str(v) for v in value.values())
        made.append("; ".join(map(str, value)) if isinstance(value, list) else str(value))
    return made
