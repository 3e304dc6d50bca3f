"""How a server lets itself be found: by whom, for how long, and which servers say nothing."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from baywindow import home
from baywindow.config import Settings
from baywindow.errors import ConfigError
from baywindow.server import announced
from baywindow.server.announced import Announced, announce, announcement, running
from baywindow.server.service import Options, Service
from baywindow.server.upstream import Upstream

WHAT = Announced(
    url="http://127.0.0.1:7370",
    model="m",
    label="",
    instructed=True,
    fingerprint="sha256:12",
    embedder="sha256:34",
    window=512,
    device="auto",
    dtype="auto",
    context=None,
    timeout_s=600.0,
    version=announced.version(),
    private=False,
    token="secret",
)


def test_it_is_found_while_it_runs_and_by_its_user_only():
    withdraw = announce(WHAT)
    path = home.data_dir("serve", "running") / f"{os.getpid()}.json"
    assert running() == [WHAT]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in repr(WHAT)
    withdraw()
    assert running() == []
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_server_left_is_passed_over_and_removed():
    script = (
        "import os; from baywindow.server.announced import Announced, announce, running;"
        f"kept = announce(Announced(**{WHAT.__dict__!r})); assert len(running()) == 1; os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 9
    folder = home.data_dir("serve", "running")
    (left,) = folder.glob("*.json")
    # Its number may be another process's by now: ours, for instance.
    left.rename(folder / f"{os.getpid()}.json")
    assert running() == []
    assert list(folder.glob("*.json")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"url": "http://127.0.0.1:1"}',
        json.dumps(WHAT.__dict__ | {"url": "http://models.example:7370"}),
        json.dumps(WHAT.__dict__ | {"more": 1}),
    ],
)
def test_a_file_that_is_damaged_or_leads_away_from_this_machine_is_no_server(text):
    withdraw = announce(WHAT)
    (home.data_dir("serve", "running") / f"{os.getpid()}.json").write_text(text)
    assert running() == []
    withdraw()


@pytest.mark.parametrize(
    ("settings", "fingerprint", "same"),
    [
        ({}, "sha256:12", True),
        ({}, "sha256:13", False),
        ({"dtype": "float32"}, "sha256:12", False),
        ({"device": "cpu"}, "sha256:12", False),
        ({"context": 512}, "sha256:12", False),
    ],
)
def test_only_the_same_model_held_in_the_same_way_will_do(settings, fingerprint, same):
    assert WHAT.would_load(fingerprint, Settings(**settings)) is same


@pytest.mark.parametrize(
    ("settings", "fingerprint", "same"),
    [({}, "sha256:34", True), ({"dtype": "float32"}, "sha256:34", True), ({}, "sha256:12", False), ({"device": "cpu"}, "sha256:34", False)],
)
def test_only_the_same_embedder_on_the_same_device_will_do(settings, fingerprint, same):
    assert WHAT.would_embed(fingerprint, Settings(**settings)) is same


def test_another_release_of_baywindow_may_answer_otherwise():
    assert not replace(WHAT, version="0.0.0").would_load("sha256:12", Settings())
    assert not replace(WHAT, version="0.0.0").would_embed("sha256:34", Settings())


def test_what_a_server_says_of_itself(talker):
    model = talker()
    model.label, model.instructed = "base model", False
    made = Service(Settings(dtype="float32"), Options(local_token="secret", timeout_s=9), model=model)
    found = announcement(made, "http://127.0.0.1:1")
    made.close()
    assert found == replace(
        WHAT,
        url="http://127.0.0.1:1",
        model="talker",
        fingerprint="talker",
        embedder=made.embedder.fingerprint if made.embedder is not None else "",
        dtype="float32",
        timeout_s=9,
        label="base model",
        instructed=False,
    )


@pytest.mark.parametrize(
    ("token", "recipe"),
    [
        ("", None),  # nothing would tell this user from others
        ("secret", "streaming_llm(budget_tokens=64) | stuff"),  # acts inside, whoever asks
    ],
)
def test_where_answers_would_differ_nothing_is_announced(talker, token, recipe):
    made = Service(Settings(recipe=recipe), Options(local_token=token), model=talker())
    assert announcement(made, "http://127.0.0.1:1") is None
    made.close()


def test_a_server_before_an_upstream_announces_nothing():
    made = Service(Settings(model="m", context=1000), Options(local_token="secret"), upstream=Upstream("http://127.0.0.1:9/v1", Settings()))
    assert announcement(made, "http://127.0.0.1:1") is None
    made.close()


def test_whether_it_answers_is_asked(serve, talker):
    server = serve(talker())
    assert replace(WHAT, url=server.url).answers()
    assert not replace(WHAT, url="http://127.0.0.1:9").answers()


def test_counts(serve, talker):
    server = serve(talker())
    ask = lambda **body: server.http.post("/v1/tokens", json={"model": "talker"} | body)  # noqa: E731
    assert ask(text="one two three").json() == {"tokens": 3}
    assert ask(messages=[{"role": "system", "content": ""}, {"role": "user", "content": "one two"}]).json() == {"tokens": 6}
    for wrong in ({}, {"text": "a", "messages": [{"role": "user", "content": "a"}]}, {"text": "a", "texts": []}):
        assert ask(**wrong).status_code == 400
    assert ask(model="nobody", text="a").status_code == 404


def test_a_private_server_says_that_it_is_one_and_is_told_to_end(scripted, monkeypatch):
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(announced.os, "kill", lambda pid, sign: told.append((pid, sign)))
    assert announced.stop_private() == 0
    service = Service(Settings(), Options(private=True, local_token="secret"), model=scripted(["yes"]))
    assert service.needs_key
    for private, number in ((True, 1), (False, 0)):
        withdraw = announce(replace(WHAT, private=private))
        assert announced.stop_private() == number
        withdraw()
    assert announcement(service, WHAT.url).private
    assert told == [(os.getpid(), signal.SIGTERM)]


def test_a_private_server_on_another_address_still_needs_keys(scripted):
    with pytest.raises(ConfigError, match="needs API keys"):
        Service(Settings(), Options(host="0.0.0.0", private=True, local_token="secret"), model=scripted(["yes"]))
