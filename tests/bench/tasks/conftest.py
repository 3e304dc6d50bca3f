"""What the tests of loaded suites share: fixtures, the real files where they are, and who answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baywindow.bench import find
from baywindow.bench.base import Loaded, Sample, Turn

ROOT = Path(__file__).resolve().parents[3]


class Sets:
    """Loads tasks of public sets for tests."""

    folder = Path(__file__).parents[1] / "fixtures"

    def task(self, name: str) -> Loaded:
        """One loaded task by its whole name."""
        suite = find.suites()[name.partition(".")[0]]
        return next(t for t in suite.tasks if t.name == name and isinstance(t, Loaded))

    def samples(self, name: str, folder: str = "") -> list[Sample]:
        """All samples of a task's fixture."""
        return list(self.task(name).load(self.folder / (folder or name.partition(".")[0])))

    def perfect(self, turn: Turn) -> float:
        """The score of the one who says the answer."""
        return find.score(str(turn.metadata["answer"]), turn)

    def shared(self, *parts: str) -> Path:
        """A folder of the real files; skips the test where it is absent."""
        folder = Path(os.environ.get("BAY_SHARED", ROOT.parent / "shared")).joinpath("data", *parts)
        if not folder.is_dir():
            pytest.skip(f"needs shared-data: {'/'.join(parts)} is not beside the checkout (name its parent with BAY_SHARED)")
        return folder


@pytest.fixture
def sets() -> Sets:
    return Sets()
