"""The arrows of the design, checked on the import statements themselves: they point one way, and the core names no technique."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from baywindow import registry

SRC = Path(__file__).parent.parent / "src" / "baywindow"

# From the top down: what stands on one line may import what stands below it, and itself.
LAYERS = (
    ("cli",),
    ("server",),  # below the commands, one of which starts it
    ("bench", "advise", "training"),
    ("memory", "context", "demonstrations", "prompts", "tools", "code", "tables"),
    ("models", "documents"),
    ("window",),
    ("registry", "recipe", "budget", "trace", "errors", "home", "config", "uncollected"),
)
RANK = {part: rank for rank, line in enumerate(LAYERS) for part in line}
GROUND = len(LAYERS) - 1
WITH_TORCH = ("window/", "models/transformers", "training/")
LAZY_FACADE = "__init__.py"  # the package's own: its names are fetched when they are used


def sources() -> list[Path]:
    return [p for p in sorted(SRC.rglob("*.py")) if p != SRC / LAZY_FACADE]


def name(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def imported(path: Path) -> set[str]:
    """Every module an import statement names, at any depth of the file, those for the type checker included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts(path: Path) -> set[str]:
    """The parts of Baywindow a file imports: ``context``, ``models``, …"""
    return {m.split(".")[1] for m in imported(path) if m.startswith("baywindow.")} & set(RANK)


def allowed(own: str, other: str, file: str) -> bool:
    if own == other:
        return True
    if own == "models" and other == "window":
        return file.startswith("models/transformers")
    if {own, other} == {"models", "documents"}:  # side by side on one line: an index embeds, and is handed its embedder
        return own == "documents"
    return RANK[own] < RANK[other] or RANK[own] == RANK[other] == GROUND


def test_every_part_stands_in_a_layer():
    there = {name(p).split("/")[0].removesuffix(".py") for p in sources()} - {"presets"}
    assert there <= set(RANK), f"not in the design's order: {sorted(there - set(RANK))}"


@pytest.mark.parametrize("path", sources(), ids=name)
def test_imports_point_down(path: Path):
    file = name(path)
    own = file.split("/")[0].removesuffix(".py")
    wrong = sorted(other for other in parts(path) if not allowed(own, other, file))
    assert not wrong, f"{file} imports {wrong}, which stand above or beside it"


def test_torch_is_imported_where_the_design_says_and_nowhere_else():
    users = {name(p) for p in sources() if any(m == "torch" or m.startswith("torch.") for m in imported(p))}
    assert not {u for u in users if not u.startswith(WITH_TORCH)}


def core() -> list[Path]:
    """Everything but the techniques' own files."""
    technique_modules = {c.module for c in registry.cards()}
    as_module = {p: "baywindow." + name(p).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for p in sources()}
    return [p for p, module in as_module.items() if not any(module == t or module.startswith(t + ".") for t in technique_modules)]


def test_no_core_file_imports_a_technique():
    modules = {c.module for c in registry.cards()}
    named = {name(p): sorted(imported(p) & modules) for p in core()}
    # A room's shared helpers may serve one another; a technique is imported by name through the registry alone.
    assert {file: found for file, found in named.items() if found} == {}


def test_no_core_file_holds_a_techniques_name_as_a_value():
    """Names in help, hints and docstrings are examples; a string that *is* a technique's name would be a special case.

    Below the text rooms one-word names are ordinary words too (a table ``vectors``, a rope type ``linear``), so there only names
    of several words count.
    """
    names = {c.name for c in registry.cards()}
    telling = {n for n in names if "_" in n}
    found = {}
    for path in core():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        values = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        below = name(path).startswith(("documents/", "models/", "window/", "bench/tasks/"))  # a suite calls a kind of task ``rag``
        if wrong := values & (telling if below else names):
            found[name(path)] = sorted(wrong)
    assert found == {}


def test_the_checks_see_a_wrong_arrow(tmp_path: Path):
    wrong = tmp_path / "x.py"
    wrong.write_text("def f():\n    from baywindow.cli import main\n")
    assert parts(wrong) == {"cli"}
    assert not allowed("context", "cli", "context/x.py")
    assert not allowed("models", "window", "models/gguf.py")
    assert allowed("models", "window", "models/transformers/model.py")
    assert not allowed("window", "models", "window/engine/x.py")
    assert not allowed("memory", "context", "memory/x.py")
    assert allowed("cli", "errors", "cli/x.py")
