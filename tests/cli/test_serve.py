"""`bay serve` from the command line: keys, refusals before anything is loaded, and a server that answers and ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")

import httpx  # noqa: E402


def test_a_key_is_shown_once_and_ends_when_it_is_revoked(bay):
    made = bay("serve", "--new-key", "ann")
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert re.fullmatch(r"bay-[\w-]{43}", token)
    listed = bay("serve", "--keys").stdout
    assert "ann" in listed
    assert token not in listed
    assert bay("serve", "--revoke-key", "ann").exit_code == 0
    assert bay("serve", "--keys").stdout == ""
    assert bay("serve", "--revoke-key", "ann").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0", "--port", "0"], "needs API keys"),
        (["--recipe", "hybird"], "no technique is called"),
        (["--host", "203.0.113.9", "--port", "0"], "cannot be listened on"),
    ],
)
def test_what_cannot_be_served_is_told_before_a_model_is_loaded(bay, arguments, said):
    done = bay("serve", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_port_that_is_taken(bay):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = bay("serve", "--port", str(taken.getsockname()[1]))
    assert done.exit_code == 2
    assert "--port" in done.stderr


@pytest.mark.slow
def test_it_starts_says_where_and_ends_at_a_signal(tmp_path):
    """Before an upstream that is not there: no model is needed to start."""
    arguments = ["bay", "serve", "--upstream", "http://127.0.0.1:9/v1", "--context", "1000", "--port", "0"]
    script = f"import sys; sys.argv = {arguments!r}; from baywindow.cli.main import app; app()"
    env = {**os.environ, "BAY_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        url = re.search(r" at (http://\S+)/v1", process.stdout.readline())[1]
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            chat = {"model": "m", "messages": [{"role": "user", "content": "Hi."}]}
            assert client.post("/v1/chat/completions", json=chat).status_code == 502
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        assert process.returncode is not None
    finally:
        process.kill()
        process.communicate()


def test_a_private_server_holds_the_model_also_where_a_project_names_an_endpoint(scripted, monkeypatch):
    """Before an upstream it would never be announced, and who started it would wait for that without end."""
    from baywindow.cli import serve
    from baywindow.config import Settings
    from baywindow.models import select
    from baywindow.server.service import Options

    model = scripted(["yes"])
    monkeypatch.setattr(select, "load", lambda name=None, **rest: model)
    settings = Settings(model="embedded", base_url="http://127.0.0.1:9/v1")
    assert serve._opened(settings, Options(private=True, local_token="secret")).model is model
    assert serve._opened(settings, Options(local_token="secret")).model is None


def test_a_private_server_that_nobody_would_find_does_not_start(scripted):
    from baywindow.cli import serve
    from baywindow.config import Settings
    from baywindow.errors import ConfigError
    from baywindow.server.running import Bound
    from baywindow.server.service import Options, Service

    service = Service(Settings(), Options(private=True), model=scripted(["yes"]))
    with socket.socket() as unused, pytest.raises(ConfigError, match="nobody would find"):
        serve._run(service, Bound(unused, "127.0.0.1", 0), None)
