"""The installer's decisions: when to do nothing, when to make the environment anew, what it never deletes. pip itself is not run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "tools" / "install.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/install.py with a recording pip, and with environments made without pip's slow installation."""
    spec = importlib.util.spec_from_file_location("tools_install", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.pips = []
    real = subprocess.run

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        if command[1:3] == ["-m", "venv"]:
            make(Path(command[3]))
            return subprocess.CompletedProcess(command, 0)
        return real(command, **options)

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module, "pip", lambda folder, *arguments: module.pips.append(arguments) or True)
    monkeypatch.setattr(module, "install_torch", lambda folder: module.pips.append(("torch",)))
    return module


def make(folder: Path) -> None:
    venv.create(folder, with_pip=False)
    library = next((folder / "lib").glob("python*")) / "site-packages"
    (library / "pip").mkdir()
    (library / "pip" / "__init__.py").touch()


def test_a_first_run_installs_torch_before_the_rest_and_the_second_does_nothing(script: ModuleType, tmp_path: Path):
    folder = tmp_path / ".venv"
    script.install(folder, "local,dev")
    assert script.pips == [("torch",), ("install", "--editable", f"{SCRIPT.parent.parent}[local,dev]")]
    assert not (folder / script.STARTED).exists()
    script.install(folder, "local,dev")
    assert len(script.pips) == 2


def test_without_local_models_there_is_no_torch(script: ModuleType, tmp_path: Path):
    script.install(tmp_path / ".venv", "dev")
    assert ("torch",) not in script.pips


def test_other_extras_or_a_changed_project_install_again_in_place(script: ModuleType, tmp_path: Path):
    folder = tmp_path / ".venv"
    script.install(folder, "dev")
    (folder / "kept").touch()
    script.install(folder, "local")
    assert len(script.pips) == 3
    stamp = json.loads((folder / script.STAMP).read_text())
    (folder / script.STAMP).write_text(json.dumps(stamp | {"sha256": "of an older pyproject"}))
    script.install(folder, "local")
    assert len(script.pips) == 5
    assert (folder / "kept").exists()


def test_one_that_was_interrupted_is_made_anew(script: ModuleType, tmp_path: Path):
    folder = tmp_path / ".venv"
    make(folder)
    (folder / script.STARTED).touch()
    (folder / "half-written").touch()
    script.install(folder, "dev")
    assert not (folder / "half-written").exists()
    assert script.works(folder)


@pytest.mark.parametrize("damage", ["empty", "junk", "no python", "no pip", "damaged configuration"])
def test_a_broken_one_is_made_anew(script: ModuleType, tmp_path: Path, damage: str):
    folder = tmp_path / ".venv"
    if damage in ("empty", "junk"):
        folder.mkdir()
        if damage == "junk":
            (folder / "junk").write_text("left over")
    else:
        make(folder)
        broken = {"no python": "bin/python", "no pip": None, "damaged configuration": "pyvenv.cfg"}[damage]
        path = folder / broken if broken else next(folder.glob("lib/python*/site-packages/pip/__init__.py"))
        path.unlink()
        if damage == "no pip":
            path.parent.rmdir()
    assert not script.works(folder)
    script.install(folder, "dev")
    assert script.works(folder)
    assert not (folder / "junk").exists()


def test_one_that_was_moved_is_made_anew_because_its_scripts_name_the_old_place(script: ModuleType, tmp_path: Path):
    script.install(tmp_path / "old" / ".venv", "dev")
    (tmp_path / "old").rename(tmp_path / "new")
    script.install(tmp_path / "new" / ".venv", "dev")
    assert len(script.pips) == 2
    assert json.loads((tmp_path / "new" / ".venv" / script.STAMP).read_text())["venv"] == str(tmp_path / "new" / ".venv")


def test_a_folder_that_is_no_environment_is_never_deleted(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    assert script.main([str(thesis), "--extras", "dev"]) == 2
    assert (thesis / "chapter.txt").read_text() == "years of work"
    said = capsys.readouterr().err
    assert "is no virtual environment" in said
    assert "hint: " in said


def test_after_a_failing_pip_the_next_run_goes_on_from_there(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(script, "pip", lambda folder, *arguments: False)
    folder = tmp_path / ".venv"
    assert script.main([str(folder), "--extras", "dev"]) == 2
    assert "pip could not install" in capsys.readouterr().err
    assert not (folder / script.STAMP).exists()
    (folder / "kept").touch()
    monkeypatch.setattr(script, "pip", lambda folder, *arguments: True)
    assert script.main([str(folder), "--extras", "dev"]) == 0
    assert (folder / "kept").exists()
    assert (folder / script.STAMP).exists()


def test_a_python_too_old_looks_for_a_newer_one_and_else_says_so(script: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(script.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(script.shutil, "which", lambda name: "/bin/python3.12" if name == "python3.12" else None)
    assert script.newest_enough() == "/bin/python3.12"
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    with pytest.raises(script.InstallError, match=r"needs Python 3\.11 or newer; this is 3\.9\.2"):
        script.newest_enough()


def test_the_script_parses_on_old_pythons():
    import ast

    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    assert sys.version_info >= (3, 11)
