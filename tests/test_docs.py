"""The docs say what is there: trees, paths, links, generated pages and the published schema."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from baywindow import registry
from baywindow.budget import Usage
from baywindow.trace import Answer, Citation, Region, Step, Trace

ROOT = Path(__file__).parent.parent
NOT_OURS = {"__pycache__", "site", "dist", "build", "node_modules"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "notes").rglob("*.md")),
]


def tool(name: str) -> ModuleType:
    """A script of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def folders(path: Path) -> set[str]:
    return {p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in NOT_OURS and "." not in p.name}


def test_the_readmes_tree_is_the_disks():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"## Where things are\n\n```text\n(.*?)```", readme, re.DOTALL)
    assert tree is not None
    lines = [line for line in tree[1].splitlines() if line.strip()]
    top = {line.split("/")[0] for line in lines if not line.startswith(" ")}
    inner = {line.strip().split("/")[0] for line in lines if line.startswith("  ")}
    assert top == folders(ROOT)
    assert inner == folders(ROOT / "src" / "baywindow")


def test_readme_and_contributing_stay_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_contributing_names_paths_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = [p for p in re.findall(r"`?((?:src|tests|tools|docs|notes)/[\w./]+)", text) if "ROOM" not in p]
    assert len(paths) >= 6
    assert [p for p in paths if not (ROOT / p).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    assert [t for t in targets if t and not (page.parent / t).exists()] == []


def test_the_generated_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]):
    assert tool("docs").main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    docs = tool("docs")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(docs, "REFERENCE", tmp_path / "reference" / "report.md")
    monkeypatch.setattr(docs, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "answers.md").write_text("# Right answers\n\n12 of 20\n")
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    assert "[Right answers](answers.md)" in (tmp_path / "docs" / "measured" / "index.md").read_text()
    (tmp_path / "docs" / "reference" / "techniques.md").write_text("changed by hand\n")
    (tmp_path / "results" / "answers.md").unlink()
    capsys.readouterr()
    assert docs.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert "docs/reference/techniques.md" in said
    assert "docs/measured/answers.md" in said
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    assert not (tmp_path / "docs" / "measured" / "answers.md").exists()


def test_every_technique_is_in_the_table_with_its_departures():
    page = tool("docs").techniques()
    for card in registry.cards():
        assert f"| [`{card.name}`](#{card.name}) |" in page
        for departure in card.departures:
            assert departure[1:] in page


def keys_of(schema: dict, whole: dict) -> dict | None:
    """The object's properties behind references and optionals; None for what is no object."""
    if "$ref" in schema:
        return keys_of(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    return schema.get("properties")


def check_against(value: object, schema: dict, whole: dict) -> None:
    if isinstance(value, dict):
        properties = keys_of(schema, whole)
        assert properties is not None
        assert set(value) == set(properties)
        for key, inner in value.items():
            check_against(inner, properties[key], whole)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_against(inner, schema["items"], whole)


def test_an_answer_has_exactly_the_keys_of_the_published_schema():
    region = Region(kind="passage", tokens=3, fate="kept", source="a", end=3)
    step = Step(name="rag", calls=1, regions=(region,))
    citation = Citation(n=1, source="a", start=0, end=3, quote="abc", verified=True, line=1)
    answer = Answer(text="abc [1]", citations=(citation,), usage=Usage(usd=0.1), trace=Trace(steps=(step,), notes=("x",)))
    schema = json.loads((ROOT / "docs" / "reference" / "answer.schema.json").read_text())
    check_against(json.loads(json.dumps(answer.to_dict())), schema, schema)


def test_every_setting_and_every_command_is_in_the_reference():
    from baywindow.config import Settings

    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    assert all(f"| `{name}` |" in page for name in Settings.model_fields)
    commands = (ROOT / "docs" / "reference" / "commands.md").read_text()
    for name in ("ask", "search", "index", "list", "show", "models", "doctor", "version"):
        assert f"## bay {name}\n" in commands


def test_every_error_is_in_the_docs():
    from baywindow import errors

    page = (ROOT / "docs" / "errors.md").read_text()
    names = [n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.BayError) and n != "Interrupted"]
    assert [n for n in names if n not in page] == []


def test_recipes_in_the_docs_parse():
    from baywindow import recipe

    lines = [line for page in PAGES for line in re.findall(r'--recipe "([^"]+)"|recipe="([^"]+)"', page.read_text(encoding="utf-8"))]
    found = {a or b for a, b in lines} - {"hybird > rag"}
    assert len(found) >= 2
    for line in found:
        assert recipe.parse(line)


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= 15
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]+"|<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]+href="(?:https?:)?//|@import'
    )
    assert {p.name: loaded.findall(p.read_text()) for p in pages if loaded.search(p.read_text())} == {}


def test_the_reference_report_is_a_page_without_its_pictures(tmp_path):
    docs = tool("docs")
    path = tmp_path / "report.md"
    path.write_text("# Bench: reference\n\nWords.\n\n![a heat map](map.png)\n\n| a |\n|---|\n| 1 |\n")
    text = docs.reference(path.read_text())
    assert text.startswith("# The reference run: reference\n\nMade by `make bench-reference`.")
    assert "map.png" not in text
    assert text.endswith("Words.\n\n| a |\n|---|\n| 1 |\n")
