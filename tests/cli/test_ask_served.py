"""`bay ask` beside a running `bay serve`: used where the answer is the same, said in one line, and never where it was ruled out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys

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
