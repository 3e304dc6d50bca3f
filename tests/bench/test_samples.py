"""Samples on disk, memory at its peak, and the model that is watched: what a run leans on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from baywindow.bench import find
from baywindow.bench.asking import Watched, Watcher
from baywindow.bench.base import Generated, Loaded, Order, Sample
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.machine import Peak, described
from baywindow.bench.samples import Maker, from_dict
from baywindow.errors import SourceError
from baywindow.home import cache_dir
from baywindow.models.base import LanguageModel
from baywindow.models.wrapped import Wrapped


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))
    return tmp_path


def maker(name: str = "words") -> Maker:
    return Maker(TokenCounter(lambda text: len(text.split()), name), Haystack(("One sentence stands here.",), "hay"))


def counted(toy) -> tuple[Generated, list[Order]]:
    [task] = [t for t in toy.tasks if t.name == "toy.turns"]
    made: list[Order] = []

    def build(order: Order) -> Sample:
        made.append(order)
        return task.build(order)

    return replace(task, build=build), made


def test_a_sample_is_made_once_and_comes_back_as_it_was(toy, own_cache: Path) -> None:
    task, made = counted(toy)
    first = maker().sample(task, 64, 3, depth=0.5)
    assert maker().sample(task, 64, 3, depth=0.5) == first
    assert len(made) == 1
    assert first.turns[0].gold == ("code3x64",)
    assert isinstance(first.documents, tuple)


def test_whatever_it_depends_on_makes_another(toy, own_cache: Path) -> None:
    task, made = counted(toy)
    maker().sample(task, 64, 3, depth=0.5)
    maker().sample(task, 65, 3, depth=0.5)
    maker().sample(task, 64, 4, depth=0.5)
    maker().sample(task, 64, 3, depth=0.25)
    maker("other words").sample(task, 64, 3, depth=0.5)
    replace(maker(), haystack=Haystack(("Another sentence.",), "other")).sample(task, 64, 3, depth=0.5)
    assert len(made) == 6


def test_a_file_that_was_cut_short_is_made_again(toy, own_cache: Path) -> None:
    task, made = counted(toy)
    first = maker().sample(task, 64, 3)
    [file] = cache_dir("bench", "samples").rglob("*.json")
    file.write_text(file.read_text()[:50])
    assert maker().sample(task, 64, 3) == first
    assert len(made) == 2


def test_samples_of_a_public_set_are_read_as_far_as_asked(monkeypatch: pytest.MonkeyPatch, toy) -> None:
    read: list[int] = []

    def load(path: Path | None) -> Iterator[Sample]:
        for i in range(3):
            read.append(i)
            yield Sample(id=f"s{i}", documents=(), question="q", gold=("g",), scorer="exact")

    task = Loaded(name="set.one", summary="s", scorer="exact", load=load, where="put it there")
    monkeypatch.setattr(find, "tasks", lambda name: [task])
    assert maker().sample(task, 0, 1).id == "s1"
    assert read == [0, 1]
    assert maker().sample(task, 0, 0).id == "s0"
    with pytest.raises(SourceError, match="has 3 samples, not 4"):
        maker().sample(task, 0, 3)
    assert read == [0, 1, 2]


def test_a_sample_with_marks_and_turns_survives_json(toy) -> None:
    import dataclasses
    import json

    sample = next(t for t in toy.tasks if t.name == "toy.turns").build(
        Order(tokens=64, seed=1, counter=maker().counter, haystack=maker().haystack)
    )
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(sample)))) == sample


def test_the_peak_holds_what_was_held_for_a_moment() -> None:
    with Peak() as before:
        pass
    with Peak() as during:
        held = bytearray(64 << 20)
        held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])  # touch every page
        del held
    with Peak() as after:
        pass
    if before.bytes is None or during.bytes is None or after.bytes is None:
        pytest.skip("needs a system that tells a process its size")
    assert during.bytes - before.bytes > 48 << 20
    assert after.bytes < during.bytes  # each block has a peak of its own


def test_the_machine_is_described_with_its_versions() -> None:
    found = described()
    assert found["cores"] >= 1
    assert found["packages"]["baywindow"]


def test_a_watched_model_does_everything_the_model_does() -> None:
    """A method that `LanguageModel` gains must be passed on, or recipes would fail in the bench alone."""
    inherited = {"prepare", "close"}  # of no use while one question is asked
    methods = {name for name, value in vars(LanguageModel).items() if inspect.isfunction(value) or isinstance(value, property)}
    wanted = {name for name in methods if not name.startswith("_")} - inherited
    assert wanted <= vars(Watcher).keys() | vars(Wrapped).keys()


def test_a_watched_model_is_like_the_model(answerer) -> None:
    model = answerer(context_length=77)
    model.layers, model.follows_schema, model.scores_replies, model.concurrency = 5, True, True, 3
    seen = Watcher(model, Watched())
    for name in (*LanguageModel.__annotations__, "fingerprint"):
        assert getattr(seen, name) == getattr(model, name)
