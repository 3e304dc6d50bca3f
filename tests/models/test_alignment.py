"""Safetensors files whose tensors begin at a cache line."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from baywindow.models.alignment import align  # noqa: E402


def begins(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.parametrize("name", ["w", "a.long.name", "x" * 37, "y" * 53])
def test_tensors_are_the_same_and_begin_at_a_line(tmp_path: Path, name: str) -> None:
    path, tensors = tmp_path / "model.safetensors", {name: torch.randn(40, 32).bfloat16(), "b": torch.arange(7)}
    save_file(tensors, path, metadata={"format": "pt"})
    before = path.stat().st_size
    align(tmp_path)
    assert begins(path) % 64 == 0
    assert 0 <= path.stat().st_size - before < 64
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    with safe_open(path, framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_that_begins_there_already_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(3)}, path)
    align(tmp_path)
    written = path.stat()
    align(tmp_path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_what_fails_on_the_way_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w" * 5: torch.ones(3)}, path)
    before = path.read_bytes()
    assert begins(path) % 64

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("baywindow.models.alignment.shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        align(tmp_path)
    assert path.read_bytes() == before
