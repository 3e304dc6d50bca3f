"""Which files a name stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baywindow.documents.walk import files_of, roots_of, shown
from baywindow.errors import SourceError


def make(root: Path, *names: str, **texts: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(name, "x"), encoding="utf-8")


def names(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for root in roots_of([folder]) for p in files_of(root)]


def test_hidden_files_and_ignored_ones_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", ".env", ".git/config", "build/out.txt", "src/keep.log", "src/b.log", "src/deep/c.log", "z.log")
    (tmp_path / ".gitignore").write_text("*.log\n/build/\n")
    (tmp_path / "src" / ".gitignore").write_text("!keep.log\n")
    assert names(tmp_path) == ["a.txt", "src/keep.log"]


def test_rules_of_the_repository_hold_in_its_folders(tmp_path: Path) -> None:
    make(tmp_path, ".git/HEAD", "docs/a.md", "docs/draft/b.md")
    (tmp_path / ".gitignore").write_text("draft/\n")
    assert names(tmp_path / "docs") == ["a.md"]


def test_links_are_followed_only_to_files_inside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    make(inside, "a.txt", "sub/b.txt")
    make(outside, "secret.txt")
    (inside / "to_secret").symlink_to(outside / "secret.txt")
    (inside / "to_folder").symlink_to(outside)
    (inside / "circle").symlink_to(inside)
    (inside / "to_a").symlink_to(inside / "a.txt")
    (inside / "broken").symlink_to(inside / "nothing")
    assert names(inside) == ["a.txt", "sub/b.txt", "to_a"]


def test_globs_and_named_files(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "b.txt", "s/c.md", ".hidden")
    found = roots_of([f"{tmp_path}/**/*.md", tmp_path / ".hidden", tmp_path / "a.md"])
    assert [r.path.name for r in found] == ["a.md", "c.md", ".hidden"]


def test_a_name_that_leads_nowhere_names_the_nearest(tmp_path: Path) -> None:
    make(tmp_path, "contract.pdf")
    with pytest.raises(SourceError, match="no file or folder") as error:
        roots_of([tmp_path / "contrct.pdf"])
    assert "contract.pdf" in error.value.hint
    with pytest.raises(SourceError, match="no file matches"):
        roots_of([f"{tmp_path}/*.docx"])


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)  # root may list everything, so a mode would not do
    with pytest.raises(SourceError, match="cannot be listed: Permission denied"):
        names(tmp_path)


def test_paths_are_shown_as_a_person_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "docs" / "a.md") == "docs/a.md"
    assert shown(Path("/elsewhere/a.md")) == "/elsewhere/a.md"
