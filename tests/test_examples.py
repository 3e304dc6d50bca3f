"""The examples run as their first lines say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here_and_says_how():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == set(re.findall(r'example\("(\w+)"\)', Path(__file__).read_text()))
    for path in EXAMPLES.glob("*.py"):
        assert f"python examples/{path.name}" in path.read_text()


def test_search_in_memory(capsys: pytest.CaptureFixture[str]):
    example("search_in_memory").main()
    place, *text = capsys.readouterr().out.splitlines()
    assert place.startswith("letter 2:")
    assert "The notice period is three months." in text


def test_watch_a_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scripted: type, tmp_path: Path):
    from baywindow.models import select

    monkeypatch.setattr(select, "load", lambda *arguments, **options: scripted(["In the shed. [1]"]))
    file = tmp_path / "garden.md"
    file.write_text("The spade stands in the shed.\n")
    example("watch_a_run").main("Where is the spade?", str(file))
    said = capsys.readouterr().out
    assert "step rag: " in said
    assert "In the shed. [1]\n[1] " in said
    assert "The spade stands in the shed." in said
