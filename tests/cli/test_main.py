"""The command as a whole: its help, its weight, and how failures are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from baywindow.cli import version
from baywindow.errors import ConfigError, Interrupted


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(name: str) -> str:
        raise error

    monkeypatch.setattr(version, "version_of", fail)


def test_help_names_every_command(bay):
    done = bay("--help")
    assert done.exit_code == 0
    for name in ("ask", "search", "index", "list", "show", "models", "doctor", "version"):
        assert f"\n  {name} " in done.stdout
        assert bay(name, "--help").exit_code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["list"], ["show", "stuff"]])
def test_light_commands_load_nothing_heavy(arguments: list[str]):
    script = (
        "import sys; from baywindow.cli.main import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'lancedb', 'pyarrow', 'transformers', 'numpy', 'openai') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout


def test_an_error_is_one_line_and_a_hint_on_stderr_with_its_exit_code(bay, monkeypatch):
    fails_with(monkeypatch, ConfigError("x=3 is not allowed", hint="x must be 4"))
    done = bay("version")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr == "error: x=3 is not allowed\nhint: x must be 4\n"


def test_an_error_without_a_hint_has_one_line(bay, monkeypatch):
    fails_with(monkeypatch, ConfigError("no"))
    assert bay("version").stderr == "error: no\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("stopped")])
def test_ctrl_c_is_one_line_and_130(bay, monkeypatch, error):
    fails_with(monkeypatch, error)
    done = bay("version")
    assert done.exit_code == 130
    assert done.stderr == "stopped\n"


def test_a_fault_is_one_line_and_the_traceback_one_flag_away(bay, monkeypatch):
    fails_with(monkeypatch, ZeroDivisionError("division\nby zero"))
    done = bay("version")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == "error: ZeroDivisionError: division by zero"
    assert "--debug" in done.stderr
    assert isinstance(bay("--debug", "version").exception, ZeroDivisionError)


def test_debug_shows_the_traceback_of_an_ordinary_error_too(bay, monkeypatch):
    fails_with(monkeypatch, ConfigError("no"))
    assert isinstance(bay("--debug", "version").exception, ConfigError)


def test_wrong_usage_is_told_by_the_command_line_itself(bay):
    for arguments in (["nosuch"], ["ask"], ["search", "x", "y", "--k", "many"], ["search", "x", "y", "--k", "0"]):
        done = bay(*arguments)
        assert done.exit_code == 2
        assert "Error" in done.stderr


def test_markup_and_control_characters_in_an_error_are_harmless(bay, monkeypatch):
    fails_with(monkeypatch, ConfigError("[bold]file[/] \x1b[2Jname"))
    assert bay("version").stderr == "error: [bold]file[/] [2Jname\n"


def test_version_says_which(bay):
    assert bay("version").stdout.startswith("baywindow 0.")
