"""The public surface: sorted, complete, small, and light to import."""

from __future__ import annotations

import subprocess
import sys

import baywindow
from baywindow.registry import ROOMS

HEAVY = ("torch", "transformers", "lancedb", "pyarrow", "numpy", "pydantic", "sentence_transformers", "openai", "rich")


def test_the_public_names_are_sorted_few_and_there():
    assert baywindow.__all__ == sorted(baywindow.__all__)
    assert len(baywindow.__all__) <= 20
    assert dir(baywindow) == baywindow.__all__
    for name in baywindow.__all__:
        assert getattr(baywindow, name) is not None


def test_no_public_name_is_a_rooms_name():
    rooms = {part for room in ROOMS for part in room.split("/")}
    assert not rooms & set(baywindow.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    import pytest

    with pytest.raises(AttributeError, match="no attribute 'aks'"):
        baywindow.aks


def test_importing_it_loads_nothing_heavy():
    script = f"import sys, baywindow; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_name_says_what_it_is():
    missing = [name for name in baywindow.__all__ if not getattr(baywindow, name).__doc__]
    assert missing == []
