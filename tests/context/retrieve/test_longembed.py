"""`longembed`: stretches joined to the longer window, and passkeys found beyond the short one."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from baywindow.context.retrieve import longembed
from baywindow.context.retrieve.longembed import Longembed, stretches
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError


class Reading:
    """An embedder of bags of words that reads so many words of a text."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def embed(self, texts, kind="passage"):
        found = np.full((len(texts), 1024), 1e-3, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.lower().replace(".", "").replace("?", "").split()[: self.max_tokens]:
                row[zlib.crc32(word.encode()) % 1024] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def passkeys(count: int, filler: int) -> InMemory:
    """Documents of the same filler, each with the passkey of another name near its end: the paper's test in miniature."""
    text = " ".join(["grass is green and the sky is blue."] * filler)
    names = ["osric", "ida", "marwa", "selma", "rurik", "petra"]
    return InMemory([Document(f"{text} The pass key of {n} is {1000 + i}.", f"d{i}") for i, n in enumerate(names[:count])], chunk_tokens=16)


def test_adjoining_passages_become_exact_stretches() -> None:
    corpus = passkeys(2, 8)
    made = stretches(corpus, corpus.passages(), 40, Reading(40))  # type: ignore[arg-type]
    assert all(corpus.excerpt(p.source, p.start, p.end) == p.text for p in made)
    assert all(len(p.text.split()) <= 40 for p in made)
    assert len(made) < len(list(corpus.passages()))
    assert "".join("".join(p.text.split()) for p in made) == "".join("".join(p.text.split()) for p in corpus.passages())


def test_passages_with_text_between_them_are_not_joined() -> None:
    corpus = passkeys(1, 8)
    some = [p for i, p in enumerate(corpus.passages()) if i != 1]
    assert stretches(corpus, some, 10_000, Reading(9))[0].key == some[0].key  # type: ignore[arg-type]


def test_what_stands_beyond_the_short_window_is_found(scripted, monkeypatch) -> None:
    """The paper's claim in miniature: whole documents as stretches; an embedder that reads their beginnings finds nothing."""
    corpus = passkeys(6, 8)
    right = {}
    for window in (20, 100):
        reading = Reading(window)
        reading.max_tokens = window
        whole = Reading(window)
        monkeypatch.setattr(longembed, "stretches", lambda c, given, most, e: stretches(c, given, 100, e))
        monkeypatch.setattr(longembed, "_extended", lambda name, method, factor, made=whole: made)
        hits = 0
        for i, name in enumerate(["osric", "ida", "marwa", "selma", "rurik", "petra"]):
            run = Run("", corpus, scripted([]))
            hits += Longembed(k=1).retrieve(run, f"the pass key of {name}", None)[0].source == f"d{i}"
        right[window] = hits
    assert right[100] == 6
    assert right[20] <= 1


def test_it_narrows_what_it_is_given(scripted, monkeypatch) -> None:
    monkeypatch.setattr(longembed, "_extended", lambda *what: Reading(100))
    corpus = passkeys(3, 2)
    given = [p for p in corpus.passages() if p.source != "d0"]
    found = Longembed(k=9).retrieve(Run("", corpus, scripted([])), "pass key of osric", given)
    assert {p.source for p in found} == {"d1", "d2"}
    assert Longembed().retrieve(Run("", corpus, scripted([])), "x", []) == []


def test_no_stretch_is_longer_than_half_of_the_window_that_reads_it(scripted, monkeypatch) -> None:
    monkeypatch.setattr(longembed, "_extended", lambda *what: Reading(100))
    corpus = passkeys(1, 30)
    model = scripted([])
    model.context_length = 60
    read = Longembed(k=99).retrieve(Run("", corpus, model), "pass key", None)
    searched = Longembed(k=99).retrieve(Run("", corpus), "pass key", None)
    assert max(len(p.text.split()) for p in read) <= 30 < max(len(p.text.split()) for p in searched) <= 98


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("method", "magic"), ("factor", 1)])
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        Longembed(**{field: value})
