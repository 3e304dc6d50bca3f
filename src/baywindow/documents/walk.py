"""Which files a person means: paths, globs and folders become files, in sorted order.

In a folder, what .gitignore files say (nested ones too) is left out, hidden names are left out, and a link is followed only if it
leads to a file inside the folder. A file that is named itself is taken whatever its name.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec

from baywindow.errors import SourceError

IGNORE_FILE = ".gitignore"


@dataclass(frozen=True)
class Root:
    """One thing a person named, as an absolute path. ``named`` is what they wrote."""

    path: Path
    is_folder: bool
    named: str


def roots_of(names: Sequence[str | Path]) -> list[Root]:
    """Absolute roots, each once, globs expanded. SourceError for a name that leads nowhere."""
    found: dict[Path, Root] = {}
    for name in names:
        for path in _expanded(str(name)):
            absolute = Path(os.path.abspath(path))
            found.setdefault(absolute, Root(absolute, absolute.is_dir(), str(name)))
    return list(found.values())


def _expanded(name: str) -> list[Path]:
    path = Path(name).expanduser()
    try:
        path.stat()
        return [path]
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror}", hint="check its permissions and links") from None
    if glob.has_magic(name):
        matches = sorted(glob.glob(str(path), recursive=True))
        if matches:
            return [Path(m) for m in matches]
        raise SourceError(f"no file matches {name}", hint="quote the pattern, e.g. 'notes/**/*.md'")
    raise SourceError(f"there is no file or folder {name}", hint=_nearest(path))


def _nearest(path: Path) -> str:
    from difflib import get_close_matches

    parent = path.parent if str(path.parent) else Path(".")
    try:
        names = [entry.name for entry in parent.iterdir()]
    except OSError:
        return f"there is no folder {parent} either"
    near = get_close_matches(path.name, names, n=1)
    return f"did you mean {parent / near[0]}?" if near else f"look what is in {parent}"


def files_of(root: Root) -> Iterator[Path]:
    """The files of a root, sorted by path. SourceError if a folder cannot be listed."""
    if not root.is_folder:
        yield root.path
        return
    yield from _walk(root.path, os.path.realpath(root.path), _ignored_above(root.path))


Rules = tuple[tuple[Path, pathspec.GitIgnoreSpec], ...]


def _walk(folder: Path, real_root: str, rules: Rules) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed: {error.strerror}", hint="check its permissions") from None
    if any(e.name == IGNORE_FILE for e in entries):
        rules = (*rules, (folder, _rules(folder / IGNORE_FILE)))
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(".") or _ignored(path, entry.is_dir(follow_symlinks=False), rules):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, real_root, rules)
        elif entry.is_file(follow_symlinks=False) or (entry.is_symlink() and _inside(path, real_root)):
            yield path


def _inside(link: Path, real_root: str) -> bool:
    """Whether a link leads to a file below the root (a link to a folder could lead round in a circle and is not followed)."""
    target = os.path.realpath(link)
    return os.path.isfile(target) and os.path.commonpath([target, real_root]) == real_root


def _ignored(path: Path, is_folder: bool, rules: Rules) -> bool:
    """The last rule that speaks of the path decides, as in git; deeper files come later."""
    verdict = False
    for base, spec in rules:
        relative = path.relative_to(base).as_posix() + ("/" if is_folder else "")
        said = spec.check_file(relative).include
        if said is not None:
            verdict = said
    return verdict


def _rules(path: Path) -> pathspec.GitIgnoreSpec:
    try:
        return pathspec.GitIgnoreSpec.from_lines(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return pathspec.GitIgnoreSpec.from_lines([])


def _ignored_above(folder: Path) -> Rules:
    """The .gitignore files between the repository's root and the folder: a part of a repository keeps its rules."""
    above = []
    for parent in folder.parents:
        above.append(parent)
        if (parent / ".git").exists():
            return tuple((p, _rules(p / IGNORE_FILE)) for p in reversed(above) if (p / IGNORE_FILE).is_file())
        if (folder / ".git").exists():
            break
    return ()


def shown(path: Path) -> str:
    """A path as the person would write it: relative to the working folder where it lies below it."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
