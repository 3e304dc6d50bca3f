"""The options of a technique, read from its source: name, type, default and the comment beside it.

Nothing is imported, so `bay show` and the docs describe a technique whose packages are not installed. Options that a base class
brings (``Budgeted``) are found by following the file's own imports.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

from baywindow.registry import Card


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option. ``default`` and ``type`` are source text; ``default`` is empty for an option that must be given."""

    name: str
    type: str
    default: str
    comment: str


def options_of(card: Card) -> list[Option]:
    """The options in declared order, inherited ones first; a redefined one keeps its place with its new default."""
    path = _path_of(card.module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    decorated = [node for node in tree.body if isinstance(node, ast.ClassDef) and _is_technique(node)]
    found: dict[str, Option] = {}
    defaults: dict[str, str] = {}
    for node in decorated[:1]:
        _collect(node, path, found, defaults)
    return [replace(o, default=defaults.get(f"default_{o.name}", o.default)) for o in found.values()]


def docstring_of(card: Card) -> str:
    """The module's docstring: paper, idea, departures, cost."""
    return ast.get_docstring(ast.parse(_path_of(card.module).read_text(encoding="utf-8"))) or ""


def _is_technique(node: ast.ClassDef) -> bool:
    return any(isinstance(d, ast.Call) and isinstance(d.func, ast.Name) and d.func.id == "technique" for d in node.decorator_list)


def _collect(node: ast.ClassDef, path: Path, found: dict[str, Option], defaults: dict[str, str]) -> None:
    """Fill ``found`` from a class and its bases, and ``defaults`` with class variables ``default_OPTION`` (see ``Budgeted``)."""
    for base in node.bases:
        if isinstance(base, ast.Name) and (where := _class_named(base.id, path)):
            _collect(*where, found, defaults)
    lines = path.read_text(encoding="utf-8").splitlines()
    for field in node.body:
        if not isinstance(field, ast.AnnAssign | ast.Assign):
            continue
        name = ast.unparse(field.target if isinstance(field, ast.AnnAssign) else field.targets[0])
        value = ast.unparse(field.value) if field.value else ""
        if isinstance(field, ast.Assign) or "ClassVar" in ast.unparse(field.annotation):
            defaults[name] = value
            continue
        comment = _comment(lines, field) or (found[name].comment if name in found else "")
        found[name] = Option(name=name, type=ast.unparse(field.annotation), default=value, comment=comment)


def _comment(lines: list[str], field: ast.AnnAssign) -> str:
    """What stands behind ``#`` on the field's last line."""
    tail = lines[(field.end_lineno or field.lineno) - 1][field.end_col_offset or 0 :]
    return tail.partition("#")[2].strip()


def _class_named(name: str, path: Path) -> tuple[ast.ClassDef, Path] | None:
    """The class that ``name`` means in this file: defined here, or in the Baywindow file it is imported from."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, path
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            if not node.module.startswith("baywindow"):
                return None
            return _class_named(name, _path_of(node.module))
    return None


def _path_of(module: str) -> Path:
    if module.startswith("baywindow."):  # by path: looking a submodule up would import its packages
        root = Path(__file__).parent.parent.joinpath(*module.split(".")[1:])
        return root / "__init__.py" if root.is_dir() else root.with_suffix(".py")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return Path(spec.origin)
