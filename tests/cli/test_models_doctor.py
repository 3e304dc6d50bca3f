"""`bay models` and `bay doctor`: what would be used, why, and what to do about what is wrong."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from baywindow.cli import doctor
from baywindow.models import select
from baywindow.models.select import Candidate

CANDIDATES = [
    Candidate(name="Org/Small", source="hub", usable=False, why="the hub does not answer", licence="Apache-2.0"),
    Candidate(name="embedded", source="embedded", usable=True, why="installed", bytes=5_000_000, label="small base model", path=Path("/x")),
    Candidate(name="old.gguf", source="converted", usable=True, why="converted from GGUF"),
]


@pytest.fixture(autouse=True)
def known_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "candidates", lambda settings=None: CANDIDATES)


@pytest.fixture
def endpoint() -> Iterator[tuple[str, dict]]:
    """A server on this machine that answers every GET with one status."""
    state: dict = {"status": 200, "asked": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["asked"].append((self.path, self.headers.get("Authorization")))
            self.send_response(state["status"])
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "small"}, {"id": "large"}]}')

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", state
    server.shutdown()
    thread.join()
    server.server_close()


def test_models_marks_the_first_usable_one_and_gives_reasons_and_terms(bay, folder):
    rows = [line.split("\t") for line in bay("models").stdout.splitlines()]
    assert rows[0] == ["", "Org/Small", "no", "the hub does not answer", "", "Apache-2.0"]
    assert rows[1] == ["→", "embedded (small base model)", "yes", "installed", "5.0 MB", ""]
    assert rows[2][0] == ""
    found = json.loads(bay("models", "--json").stdout)
    assert [c["chosen"] for c in found] == [False, True, False]
    assert found[1]["path"] == "/x"


def test_models_says_when_none_can_be_used(bay, folder, monkeypatch):
    monkeypatch.setattr(select, "candidates", lambda settings=None: CANDIDATES[:1] + CANDIDATES[2:])
    done = bay("models")
    assert "→" not in done.stdout
    assert "none can be used" in done.stderr


def test_doctor_finds_a_good_installation_good(bay, folder):
    done = bay("doctor")
    assert done.exit_code == 0, done.stdout
    assert "ok    model: embedded: installed" in done.stdout
    assert {f["state"] for f in json.loads(bay("doctor", "--json").stdout)} <= {"ok", "note"}


def test_doctor_says_what_is_wrong_and_what_to_do(bay, folder, monkeypatch):
    monkeypatch.setattr(select, "candidates", lambda settings=None: CANDIDATES[:1])
    monkeypatch.setenv("BAY_MODLE", "x")
    done = bay("doctor")
    assert done.exit_code == 1
    assert "bad   model: no model can be used\n      → " in done.stdout
    assert "note  configuration: BAY_MODLE is no setting\n      → did you mean BAY_MODEL?" in done.stdout


def test_doctor_reports_a_broken_configuration_and_stops_there(bay, folder):
    (folder / "bay.toml").write_text('modle = "x"\n')
    done = bay("doctor")
    assert done.exit_code == 1
    assert "there is no setting 'modle'" in done.stdout
    assert "nearest: model" in done.stdout
    assert "model:" not in done.stdout.replace("nearest: model", "")


def test_doctor_reports_missing_and_old_packages(bay, folder, monkeypatch):
    requires = ["surely-not-there>=1", "numpy>=999", 'also-not-there; extra == "local"', 'nor-this; extra == "serve"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: requires)
    done = bay("doctor")
    assert done.exit_code == 1
    assert "bad   packages: surely-not-there is missing; numpy is " in done.stdout
    assert "note  local models: also-not-there is missing" in done.stdout
    assert "nor-this" not in done.stdout


def test_doctor_reports_a_folder_that_cannot_be_made(bay, folder, monkeypatch):
    (folder / "file").touch()
    monkeypatch.setenv("BAY_HOME", str(folder / "file"))
    done = bay("doctor")
    assert done.exit_code == 1
    assert "bad   index folder" in done.stdout
    assert "set BAY_HOME" in done.stdout


@pytest.mark.parametrize(("status", "state", "said"), [(200, "ok", "small, large"), (401, "bad", "was refused"), (404, "note", "HTTP 404")])
def test_doctor_asks_the_endpoint_without_showing_the_key(bay, folder, endpoint, monkeypatch, status, state, said):
    url, server = endpoint
    server["status"] = status
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    done = bay("doctor", "--base-url", url)
    assert any(line.startswith(state) and "endpoint" in line and said in line for line in done.stdout.splitlines()), done.stdout
    assert server["asked"] == [("/v1/models", "Bearer sk-secret")]
    assert "sk-secret" not in done.stdout + done.stderr


def test_doctor_reports_an_endpoint_that_is_down(bay, folder):
    done = bay("doctor", "--base-url", "http://127.0.0.1:9/v1")
    assert done.exit_code == 1
    assert "ConnectError" in done.stdout
