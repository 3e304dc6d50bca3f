"""`bay prepare`: which parts are prepared, on which text, and what is refused before a model is loaded."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from baywindow.cli.main import app


class Recorder:
    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def prepare(self, part, text):
        self.calls.append((part.card.name, text))
        return f"/cache/{part.card.name}.safetensors"


@pytest.fixture
def recorder(monkeypatch):
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    made = Recorder()
    monkeypatch.setattr("baywindow.models.select.load", lambda name, settings: made)
    return made


def run(*words: str):
    return CliRunner().invoke(app, ["prepare", *words])


def test_every_inside_part_is_prepared_on_the_joined_text(recorder, tmp_path):
    (tmp_path / "a.txt").write_text("first. ")
    (tmp_path / "b.txt").write_text("second.")
    done = run("longrope(factor=2) + snapkv", str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    assert done.exit_code == 0, done.output
    assert recorder.calls == [("longrope", "first. second."), ("snapkv", "first. second.")]
    assert "/cache/longrope.safetensors" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hybrid", "x.txt"), "only techniques inside a model"),
        (("longrope", "missing.txt"), "missing.txt is not a file"),
        (("longrop", "x.txt"), "no technique is called 'longrop'"),
    ],
)
def test_what_cannot_be_prepared_is_one_line(recorder, words, said):
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.output
    assert recorder.calls == []
