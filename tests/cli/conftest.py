"""Runs commands in this process, with a scripted model and an embedder that hashes words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from baywindow.cli.main import app
from baywindow.models.base import Embedder


class WordHashes(Embedder):
    """A text's vector counts its words by hash: equal words, near vectors."""

    name = "word hashes"
    dim = 64
    max_tokens = 10_000

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> np.ndarray:
        found = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.lower().split():
                row[hashlib.blake2b(word.encode()).digest()[0] % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def bay() -> Callable[..., Result]:
    """``bay("ask", "…")`` runs the command; the result has exit_code, stdout and stderr."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return run


@pytest.fixture(autouse=True)
def hashing_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    import baywindow.models.embedders as embedders

    monkeypatch.setattr(embedders, "load_embedder", lambda name=None, settings=None: WordHashes())


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, scripted: type) -> Callable[..., Any]:
    """``answers("Ida did. [1]", label=…, remote=…)`` makes that the model of the next commands, and gives it back."""
    from baywindow.models import select

    def use(*replies: str, label: str = "", remote: str = "") -> Any:
        model = scripted(list(replies))
        model.label, model.remote = label, remote
        monkeypatch.setattr(select, "load", lambda name=None, *, settings=None, **rest: model)
        return model

    return use


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two short files."""
    here = tmp_path / "work"
    here.mkdir()
    (here / "garden.md").write_text("# Garden\n\nThe beans were sown on 4 May.\n\nIda painted the fence green in June.\n")
    (here / "house.md").write_text("# House\n\nThe roof was mended in 1987.\n")
    monkeypatch.chdir(here)
    return here
