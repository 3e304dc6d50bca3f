"""A server that ends by itself: when nothing was asked for long enough, and never in the middle of a reply."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from baywindow.config import Settings
from baywindow.server.running import Server, bind
from baywindow.server.service import Options, Service

IDLE_S = 0.6
SECRET = "secret"
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "Hi."}]}


@pytest.fixture
def start(scripted):
    """``start(idle_s, reply)`` gives the address of a private server, its thread, and when it ends by itself."""
    threads = []

    def run(idle_s, reply=lambda prompt: "yes"):
        bound, ready = bind("127.0.0.1", 0), threading.Event()
        service = Service(Settings(), Options(private=True, local_token=SECRET), model=scripted(reply))
        server = Server(service, ready.set, idle_s=idle_s)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]}, daemon=True)
        thread.start()
        threads.append((server, thread, bound))
        assert ready.wait(30)
        return bound.url, thread

    yield run
    for server, thread, bound in threads:
        server.should_exit = True
        thread.join(40)
        bound.socket.close()


def ask(url, token=SECRET):
    return httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)


def test_it_ends_when_nothing_was_asked(start):
    _, thread = start(IDLE_S)
    thread.join(40)
    assert not thread.is_alive()


def test_without_a_limit_it_stays(start):
    _, thread = start(None)
    time.sleep(2 * IDLE_S)
    assert thread.is_alive()


def test_a_reply_that_takes_longer_is_finished_and_counts_as_asked(start):
    def slow(prompt):
        time.sleep(3 * IDLE_S)
        return "late"

    url, thread = start(IDLE_S, slow)
    done = ask(url)
    assert done.status_code == 200, done.text
    assert done.json()["choices"][0]["message"]["content"] == "late"
    thread.join(40)
    assert not thread.is_alive()


def test_a_private_server_answers_nobody_else(start):
    url, _ = start(None)
    assert ask(url).status_code == 200
    assert ask(url, "guess").status_code == 401
    assert httpx.get(f"{url}/v1/models", trust_env=False, timeout=60).status_code == 401
