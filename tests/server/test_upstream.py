"""Before another engine: a second server of ours as the upstream, and small wrong ones for faults."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest

from baywindow.config import Settings
from baywindow.server.upstream import Upstream

CHAT = "/v1/chat/completions"
GOOD = {"model": "talker", "messages": [{"role": "user", "content": "Hi."}]}
FILLER = "\n\n".join(f"On day {n} the gardener watered the beans and wrote down the weather." for n in range(60))
LONG = f"{FILLER}\n\nIda painted the fence green in spring.\n\nWho painted the fence?"


@pytest.fixture
def before(serve):
    """``before(url)``: a server that stands before the one at ``url``."""

    def start(url, **settings):
        known = Settings(base_url=f"{url}/v1", **settings)
        return serve(settings=known, upstream=Upstream(known.base_url, known))

    return start


@pytest.fixture
def faulty():
    """``faulty(reply)``: the address of a server that answers every POST by ``reply(body, handler)`` and states a window of 4000."""
    servers = []

    def start(reply):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                send(self, {"object": "list", "data": [{"id": "talker", "max_model_len": 4000}]})

            def do_POST(self):
                reply(json.loads(self.rfile.read(int(self.headers["content-length"]))), self)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(handler, body, status=200, kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def test_what_fits_is_passed_on_and_what_does_not_goes_through_the_recipe(serve, talker, before):
    behind = talker(lambda prompt: "Ida painted it. [1]", context_length=600)
    server = before(serve(behind).url)
    assert "talker" in {m.id for m in server.client.models.list()}
    said = server.client.chat.completions.create(**GOOD)
    assert said.choices[0].message.content == "Ida painted it. [1]"
    assert (said.model, said.baywindow["read"]) == ("talker", "forwarded")
    assert [m.content for m in behind.prompts[-1]] == ["Hi."]
    events = list(server.client.chat.completions.create(**GOOD, stream=True))
    assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == "Ida painted it. [1]"
    assert events[-1].baywindow["read"] == "forwarded"
    long = {"model": "talker|full_text(k=2) > rag", "messages": [{"role": "user", "content": LONG}]}
    read = server.client.chat.completions.create(**long)
    assert read.baywindow["read"] == "recipe"
    assert read.choices[0].message.annotations[0].file_citation["quote"] == "Ida painted the fence green in spring."
    assert len(behind.prompts[-1][-1].content) < len(LONG) / 2
    streamed = list(server.client.chat.completions.create(**long, stream=True))
    assert "".join(e.choices[0].delta.content or "" for e in streamed) == "Ida painted it. [1]"


def test_tools_are_passed_through_and_long_text_before_them_is_shortened(before, faulty):
    call = {"id": "c1", "type": "function", "function": {"name": "paint", "arguments": "{}"}}
    asked = []

    def reply(body, handler):
        asked.append(body)
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        send(handler, {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [
            {"index": 0, "message": message, "finish_reason": "tool_calls"}]})  # fmt: skip

    server = before(faulty(reply))
    tools = [{"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}]
    said = server.client.chat.completions.create(**GOOD, tools=tools, extra_body={"top_k": 5})
    assert said.choices[0].message.tool_calls[0].function.name == "paint"
    assert asked[0] == GOOD | {"tools": tools, "top_k": 5}
    long = GOOD | {"messages": [{"role": "system", "content": "Paint."}, {"role": "user", "content": "\n\n".join([FILLER] * 9 + [LONG])}]}
    said = server.client.chat.completions.create(**long, tools=tools, response_format={"type": "json_object"})
    assert said.choices[0].message.tool_calls[0].function.name == "paint"
    assert said.baywindow["read"] == "shortened"
    system, user = asked[1]["messages"]
    assert system["content"].startswith("Paint.")
    assert user["content"].endswith("Who painted the fence?")
    assert "Ida painted the fence green in spring." in user["content"]
    assert len(user["content"].encode()) / 3 < 4000
    assert (asked[1]["tools"], asked[1]["response_format"]) == (tools, {"type": "json_object"})


def test_an_inside_half_is_refused(serve, talker, before):
    server = before(serve(talker()).url)
    with pytest.raises(openai.UnprocessableEntityError, match="not open"):
        server.client.chat.completions.create(**GOOD | {"model": "talker+snapkv"})


def test_an_upstream_that_is_down(before):
    server = before("http://127.0.0.1:9", context=1000)
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as raised:
            server.client.chat.completions.create(**GOOD, stream=stream)
        assert raised.value.status_code == 502


def test_an_upstream_that_is_slow(before, faulty):
    server = before(faulty(lambda body, handler: time.sleep(2)), timeout_s=0.3)
    with pytest.raises(openai.InternalServerError, match="did not answer in time"):
        server.client.chat.completions.create(**GOOD)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (lambda body, handler: send(handler, b"<html>", kind="text/html"), 502),
        (lambda body, handler: send(handler, {"error": {"message": "boom"}}, 500), 502),
        (lambda body, handler: send(handler, {"error": {"message": "no such parameter"}}, 400), 400),
        (lambda body, handler: send(handler, {"error": {"message": "wrong key"}}, 401), 502),
        (lambda body, handler: send(handler, [1, 2]), 502),
    ],
)
def test_what_an_upstream_answers_wrongly(before, faulty, reply, status):
    server = before(faulty(reply))
    for stream in (False, True):
        answer = server.http.post(CHAT, json=GOOD | {"stream": stream})
        body = answer.text
        assert answer.status_code == status or (stream and '"error"' in body), body
        assert answer.status_code != 500


def test_an_upstream_that_breaks_off_is_told_of_in_the_stream(before, faulty):
    chunk = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "talker",
        "choices": [{"index": 0, "delta": {"content": "Hel"}}],
    }
    server = before(faulty(lambda body, handler: send(handler, b"data: " + json.dumps(chunk).encode() + b"\n\n", kind="text/event-stream")))
    text = server.http.post(CHAT, json=GOOD | {"stream": True}).text
    assert "Hel" in text
    assert "broke off" in text
    assert "[DONE]" not in text


def test_a_clients_key_is_not_sent_on_but_the_servers_is(before, faulty, monkeypatch):
    seen = []

    def reply(body, handler):
        seen.append(handler.headers.get("authorization"))
        send(handler, {"id": "1", "object": "chat.completion", "created": 1, "model": "talker", "choices": []})

    monkeypatch.setenv("BEHIND_KEY", "the-servers-own")
    server = before(faulty(reply), api_key_env="BEHIND_KEY")
    server.http.post(CHAT, json=GOOD, headers={"authorization": "Bearer the-clients"})
    assert seen == ["Bearer the-servers-own"]


def test_a_client_that_hangs_up_while_a_request_is_passed_on_frees_its_place(before, faulty, wait_until):
    server = before(faulty(lambda body, handler: time.sleep(3)))
    with pytest.raises(httpx.ReadTimeout):
        server.http.post(CHAT, json=GOOD, timeout=1.0)
    wait_until(lambda: server.service.work.busy == 0, seconds=2.5)  # sooner than the upstream
