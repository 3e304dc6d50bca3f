"""`bay ask` beside a running `bay serve`: used where the answer is the same, said in one line, and never where it was ruled out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")

QUESTION = "Who painted the fence?"
RECIPE = ["--recipe", "full_text(k=2) > rag"]
REMARK = "using the running server at http://127.0.0.1:"


@pytest.fixture
def running(monkeypatch, scripted, announced):
    """A server with a scripted model, announced; where a model is loaded nevertheless, another one answers."""
    from baywindow.config import Settings
    from baywindow.models import identity, select
    from baywindow.server.service import Options, Service

    model, loaded = scripted(lambda prompt: "Ida did. [1]"), scripted(lambda prompt: "Loaded anew. [1]")
    monkeypatch.setattr(identity, "fingerprint_of", lambda name: {"same": "scripted", "other": "sha256:1"}[name])
    monkeypatch.setattr(select, "load", lambda name=None, **rest: loaded)
    service = Service(Settings(), Options(port=0, local_token="secret"), model=model)
    with announced(service):
        yield model


def test_it_answers_in_place_of_the_model_and_says_so(bay, folder, running):
    done = bay("ask", QUESTION, ".", *RECIPE, "--model", "same")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Ida did. [1]\n\nSources\n[1] garden.md:")
    assert REMARK in done.stderr
    assert "no model is loaded" in done.stderr
    assert "sent to" not in done.stderr
    assert "1 call of same" in done.stderr
    assert "painted the fence" in running.prompts[0][-1].content


def test_it_works_in_the_middle_of_a_projects_endpoint_settings(bay, folder, running, monkeypatch):
    """The key of somebody else's endpoint stays at home."""
    monkeypatch.setenv("OPENAI_API_KEY", "not for this server")
    assert REMARK in bay("ask", QUESTION, ".", *RECIPE, "--model", "same").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-server", *RECIPE, "--model", "same"],
        [*RECIPE, "--model", "other"],
        [*RECIPE, "--model", "same", "--context", "300"],
        ["--recipe", "full_text > xl3m", "--model", "same"],
        [*RECIPE, "--model", "same", "--base-url", "http://127.0.0.1:9/v1"],
    ],
    ids=["ruled out", "another model", "another window", "log-probabilities", "an endpoint"],
)
def test_where_it_would_not_do_it_is_not_used(bay, folder, running, arguments):
    assert REMARK not in bay("ask", QUESTION, ".", *arguments).stderr
    assert running.prompts == []


def test_a_setting_rules_it_out(bay, folder, running, monkeypatch):
    monkeypatch.setenv("BAY_USE_SERVER", "false")
    assert bay("ask", QUESTION, ".", *RECIPE, "--model", "same").stdout.startswith("Loaded anew.")


def test_a_server_that_does_not_answer_is_passed_over(bay, folder, running, monkeypatch):
    from baywindow.server.announced import Announced

    monkeypatch.setattr(Announced, "answers", lambda self: False)
    assert bay("ask", QUESTION, ".", *RECIPE, "--model", "same").stdout.startswith("Loaded anew.")


@pytest.mark.slow
def test_two_processes_and_a_model(tmp_path, folder, write_qwen):
    """`bay serve` and `bay ask` as they are started from a shell, with a real tiny chat model: the same answer with and without."""
    made = write_qwen(tmp_path / "model", seed=3)
    script = "import sys; sys.argv = ['bay', *sys.argv[1:]]; from baywindow.cli.main import app; app()"
    env = {**os.environ, "BAY_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}

    def ask(*more: str) -> tuple[dict, str]:
        command = ["ask", QUESTION, "garden.md", "--recipe", "full_text > rag(max_new_tokens=16)", "--model", str(made), "--json", *more]
        done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, env=env, cwd=folder, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        for timed in (found["usage"], *found["trace"]["steps"]):
            timed.pop("seconds")
        return found, done.stderr

    serving = [sys.executable, "-c", script, "serve", "--model", str(made), "--port", "0", "--require-keys"]
    assert subprocess.run([*serving[:3], "serve", "--new-key", "ann"], env=env, capture_output=True, check=False).returncode == 0
    process = subprocess.Popen(serving, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert re.search(r" at (http://\S+)/v1", process.stdout.readline())
        through, said = ask()
        assert REMARK in said
        alone, said = ask("--no-server")
        assert REMARK not in said
        assert through == alone
        process.terminate()
        process.wait(60)
        assert list((tmp_path / "home/data/serve/running").iterdir()) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


SCRIPT = "import sys; sys.argv = ['bay', *sys.argv[1:]]; from baywindow.cli.main import app; app()"
STAYS = "the model stays for 5 minutes after its last question"


@pytest.fixture
def unloaded(monkeypatch, scripted):
    """Where a model is loaded in this process, this one answers."""
    from baywindow.models import identity, select

    monkeypatch.setattr(identity, "fingerprint_of", lambda name: "scripted")
    monkeypatch.setattr(select, "load", lambda name=None, **rest: scripted(lambda prompt: "Loaded here. [1]"))


@pytest.fixture
def started(monkeypatch):
    """``started(code)`` makes that Python code what is started to keep a model; the list has the arguments of what was started."""
    from baywindow.server import kept

    made: list[list[str]] = []
    popen = subprocess.Popen

    def use(code: str) -> list[list[str]]:
        monkeypatch.setattr(kept, "COMMAND", (sys.executable, "-c", code))
        monkeypatch.setattr(kept.subprocess, "Popen", lambda arguments, **rest: made.append(arguments) or popen(arguments, **rest))
        return made

    return use


def test_what_cannot_be_kept_is_loaded_here_and_the_reason_told(bay, folder, unloaded, started):
    started("import sys; print('error: no room', file=sys.stderr); print('hint: make some', file=sys.stderr); sys.exit(2)")
    done = bay("ask", QUESTION, ".", *RECIPE, "--model", "same", "--keep", "5")
    assert done.stdout.startswith("Loaded here.")
    assert "note: the model is loaded here and not kept: no room" in done.stderr
    assert STAYS not in done.stderr


def test_of_two_that_start_at_once_one_waits_for_the_others(bay, folder, unloaded, started, monkeypatch):
    """What this command started ends at once, for another process holds the model's lock: it waits until that one ends, too."""
    from baywindow.config import Settings
    from baywindow.server import kept

    started("raise SystemExit('error: this model is already being kept')")
    with kept.held("scripted", Settings()) as lock:  # entered once more: taken twice
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                lock.release(force=True)

        monkeypatch.setattr(kept, "time", SimpleNamespace(sleep=wait))
        done = bay("ask", QUESTION, ".", *RECIPE, "--model", "same", "--keep", "5")
    assert len(waits) >= 3
    assert done.stdout.startswith("Loaded here.")


@pytest.mark.parametrize(
    "arguments",
    [[], ["--keep", "0"], ["--keep", "5", "--no-server"], ["--keep", "5", "--base-url", "http://127.0.0.1:9/v1"]],
    ids=["unasked", "none", "ruled out", "an endpoint"],
)
def test_nothing_is_started_unless_it_is_asked_for_and_of_use(bay, folder, unloaded, started, arguments):
    made = started("")
    assert bay("ask", QUESTION, ".", *RECIPE, "--model", "same", *arguments).stdout.startswith("Loaded here.")
    assert made == []


def test_nothing_is_started_beside_a_server_that_runs(bay, folder, running, started):
    made = started("")
    assert REMARK in bay("ask", QUESTION, ".", *RECIPE, "--model", "same", "--keep", "5").stderr
    assert made == []


def test_a_setting_asks_for_it(bay, folder, unloaded, started, monkeypatch):
    monkeypatch.setenv("BAY_KEEP_MINUTES", "7.5")
    made = started("")
    bay("ask", QUESTION, ".", *RECIPE, "--model", "same")
    ((_, _, *arguments),) = made
    assert arguments[1:] == ["--model", "same", "--port", "0", "--private", "--idle", "7.5", "--recipe", "default"]


@pytest.mark.slow
def test_a_model_is_kept_asked_again_and_ended(tmp_path, folder, write_qwen):
    """From a shell, with a real tiny model: the second question finds what the first one started; then it is told to end."""
    made = write_qwen(tmp_path / "model", seed=3)
    env = {**os.environ, "BAY_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    where = tmp_path / "home/data/serve/running"

    def bay(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SCRIPT, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done

    ask = ["ask", QUESTION, "garden.md", "--recipe", "full_text > rag(max_new_tokens=16)", "--model", str(made), "--keep", "5"]
    try:
        first = bay(*ask)
        assert STAYS in first.stderr
        second = bay(*ask)
        assert REMARK in second.stderr
        assert second.stdout == first.stdout
        (announced,) = where.glob("*.json")
        assert (Path("/proc") / announced.stem).exists() or not Path("/proc").exists()
        assert bay("serve", "--stop").stdout == "1 server told to end\n"
        end = time.monotonic() + 60
        while list(where.glob("*.json")) and time.monotonic() < end:
            time.sleep(0.05)
        assert list(where.iterdir()) == []
        assert bay("serve", "--stop").stdout == "no private server runs\n"
    finally:
        subprocess.run([sys.executable, "-c", SCRIPT, "serve", "--stop"], env=env, check=False)
