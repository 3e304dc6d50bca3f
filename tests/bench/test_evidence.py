"""Evidence through memories and searches: filled once, scored by what is found, and no reply is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from baywindow import recipe as recipes
from baywindow.bench import evidence, measure
from baywindow.bench.base import Sample
from baywindow.bench.measure import Desk, Way
from baywindow.bench.store import Row
from baywindow.config import Settings
from baywindow.documents.base import Document

SAID = (
    ("D1:1", "Ida", "I went to the harbour yesterday."),
    ("D1:2", "Bo", "Look at my fox!"),
    ("D2:1", "Bo", "I now play chess and paint."),
    ("D2:2", "Ida", "The ferry to the harbour was late."),
)


def turn(ref: str, speaker: str, text: str) -> Document:
    told = {"speaker": speaker, "ref": ref, "said_at": f"2023-05-0{ref[1]}T10:00:00+00:00", "session": ref[1]}
    return Document(f"{speaker}: {text}", f"locomo/7/{ref}", metadata=told)


SAMPLE = Sample(
    id="s",
    documents=tuple(turn(*said) for said in SAID),
    question="Who was at the harbour?",
    gold=("D1:1", "D2:2"),
    scorer="evidence_recall",
    metadata={"finds": True, "document": "7"},
)


@pytest.fixture
def measured(scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Row]]:
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))
    model = scripted([])  # any call of it fails
    desk = Desk(model=model, settings=Settings())

    def one(line: str) -> Row:
        recipe = recipes.parse(line)
        blank = Row(model="m", task="t", length=0, sample=0, turn=0, recipe=line, recipe_hash=recipe.hash, protocol="ask")
        [[row]] = measure.measured(SAMPLE, [(recipe, blank)], desk, Way())
        return row

    yield one
    desk.memories.close()
    assert model.prompts == []


def test_a_memory_is_filled_once_and_asked(measured):
    row = measured("turn_retrieval(by='words', budget_tokens=200) > rag")
    assert row.error == ""
    assert row.protocol == "evidence"
    assert row.score == 1.0
    assert set((row.reply or "").splitlines()) == {"D1:1", "D2:2"}
    assert row.prompt_tokens is not None
    assert 0 < row.prompt_tokens <= 200
    assert "4 turns added" in row.notes
    again = measured("turn_retrieval(by='words', budget_tokens=200) > rag")
    assert (again.score, again.reply) == (row.score, row.reply)
    assert "added" not in again.notes


def test_what_was_filled_is_there_in_the_next_run(measured, scripted):
    measured("last_turns > rag")
    desk = Desk(model=scripted([]), settings=Settings())
    try:
        [part, _] = recipes.parse("last_turns > rag").outside
        assert evidence._filled(desk.memories.of(part, desk), SAMPLE.documents, evidence.Scope("other")) != ""
        [figures] = evidence.found(SAMPLE, recipes.parse("last_turns > rag"), desk)
        assert figures["notes"] == ""
    finally:
        desk.memories.close()


def test_a_plain_search_over_turns_stands_beside(measured):
    row = measured("full_text(k=1) > rag")
    assert (row.score, row.error) == (0.5, "")
    assert row.reply in ("D1:1", "D2:2")
    text = {ref: f"{who}: {said}" for ref, who, said in SAID}[row.reply]
    assert row.prompt_tokens == len(text.split())


def test_a_recipe_that_looks_for_nothing_is_an_error(measured):
    assert "neither" in measured("rag").error
