"""What clients, models and networks do wrong: each a status and a line, and the server serves on."""

from __future__ import annotations

import json
import threading

import httpx
import openai
import pytest

CHAT = "/v1/chat/completions"
GOOD = {"model": "talker", "messages": [{"role": "user", "content": "Hi."}]}


def error_of(reply, status, code=None):
    """The error's body, checked to have OpenAI's shape."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "hint"}
    assert error["message"]
    assert code in (None, error["code"]), error
    return error


def still_serves(server):
    assert server.http.post(CHAT, json=GOOD).status_code == 200


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, "model", "invalid_type"),
        ({"model": 3}, "model", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hi."}, "messages", "invalid_type"),
        ({"messages": [{"role": "king", "content": "Hi."}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, None, None),
        ({"messages": [{"role": "assistant", "content": "Hi."}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x", "colour": 1}]}, "messages[0].colour", "unknown_parameter"),
        ({"frobnicate": 1}, "frobnicate", "unknown_parameter"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": "7"}, "max_tokens", "invalid_type"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"seed": 2**64}, "seed", None),
        ({"stop": ["a"] * 5}, None, None),
        ({"n": 17}, "n", "invalid_value"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, None, "unsupported_parameter"),
    ],
)
def test_what_is_not_allowed_is_named(serve, talker, change, param, code):
    error = error_of(serve(talker()).http.post(CHAT, json=GOOD | change), 400, code)
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("gpt-9", 404, "model_not_found"),
        ("", 404, "model_not_found"),
        ("talker|hybird", 400, "invalid_recipe"),
        ("talker|hybrid(", 400, "invalid_recipe"),
        ("talker|hybrid(k=-1)", 400, "invalid_recipe"),
        ("talker|snapkv", 422, "unsupported"),
        ("talker+hybrid", 400, "invalid_recipe"),
        ("talker+snapkv", 422, "unsupported"),
        ("talker|hybrid(rerank='/etc')", 400, "invalid_recipe"),
        ("talker|__import__('os')", 400, "invalid_recipe"),
        ("talker|" + "(" * 1900, 400, "invalid_recipe"),
        ("talker|" + "x" * 5000, 400, "invalid_recipe"),
    ],
)
def test_a_name_that_is_not_served(serve, talker, name, status, code):
    error = error_of(serve(talker()).http.post(CHAT, json=GOOD | {"model": name}), status, code)
    assert error["hint"]


def test_bodies_that_are_no_json(serve, talker):
    server = serve(talker())
    json_kind = {"content-type": "application/json"}
    for body in (b"{", b"", b"nonsense", b'{"model": "talker", "messages": [{"role": "user", "content": "\xff\xfe"}]}', b"[" * 100_000):
        error_of(server.http.post(CHAT, content=body, headers=json_kind), 400)
    half = b'{"model": "talker", "messages": [{"role": "user", "content": "\\ud800"}]}'
    assert "Unicode" in error_of(server.http.post(CHAT, content=half, headers=json_kind), 400)["message"]
    error_of(server.http.post(CHAT, content=json.dumps(GOOD).encode(), headers={"content-type": "text/plain"}), 400)
    error_of(server.http.get("/v1/nothing"), 404)
    error_of(server.http.delete(CHAT), 405)
    still_serves(server)


@pytest.mark.parametrize("chunked", [False, True])
def test_fifty_megabytes_are_too_many(serve, talker, chunked):
    server = serve(talker())
    body = json.dumps(GOOD | {"user": "x" * 50_000_000}).encode()
    content = (body[i : i + 1_000_000] for i in range(0, len(body), 1_000_000)) if chunked else body
    error_of(server.http.post(CHAT, content=content, headers={"content-type": "application/json"}), 413, "request_too_large")
    still_serves(server)


def test_a_client_that_hangs_up_in_the_middle_of_a_stream_frees_its_place(serve, talker, wait_until):
    model = talker(lambda prompt: "word " * 400, context_length=2000)
    server = serve(model, places=1)
    model.held_from = 1
    model.pace.clear()
    with server.http.stream("POST", CHAT, json=GOOD | {"stream": True}) as reply:
        next(reply.iter_lines())
    wait_until(lambda: server.service.work.busy == 0)  # the place is free although the model has not noticed yet
    model.pace.set()
    wait_until(lambda: model.closed_early == 1)
    model.reply = lambda prompt: "Hello."
    still_serves(server)


def test_a_client_that_hangs_up_before_the_first_word_frees_its_place(serve, talker, wait_until):
    model = talker()
    server = serve(model, places=1)
    model.pace.clear()
    for stream in (False, True):
        with pytest.raises(httpx.ReadTimeout):
            server.http.post(CHAT, json=GOOD | {"stream": stream}, timeout=0.3)
        wait_until(lambda: server.service.work.busy == 0)
    model.pace.set()
    still_serves(server)


def test_a_model_that_crashes_in_the_middle_of_a_stream_is_told_of_there(serve, talker, caplog):
    class Crashing(talker):
        crash = True

        def generate(self, prompt, sampling):
            stream = super().generate(prompt, sampling)

            def pieces():
                yield "half a"
                if self.crash:
                    raise RuntimeError("secret of the model")
                yield " word"

            stream._pieces = pieces()
            return stream

    model = Crashing()
    server = serve(model)
    lines = server.http.post(CHAT, json=GOOD | {"stream": True}).text.split("\n\n")
    assert json.loads(lines[0].removeprefix("data: "))["choices"][0]["delta"]["content"] == "half a"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last["error"]["code"] == "server_error"
    assert "secret" not in json.dumps(last)
    assert "[DONE]" not in lines[-2] + lines[-1]
    with pytest.raises(openai.APIError, match="server failed"):
        list(server.client.chat.completions.create(**GOOD, stream=True))
    assert error_of(server.http.post(CHAT, json=GOOD), 500)["type"] == "server_error"
    model.crash = False
    still_serves(server)


def test_too_many_requests_are_told_to_come_back(serve, talker, wait_until):
    model = talker()
    server = serve(model, places=2)
    model.pace.clear()
    waiting = [threading.Thread(target=server.http.post, args=(CHAT,), kwargs={"json": GOOD}) for _ in range(2)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: server.service.work.busy == 2)
    refused = server.http.post(CHAT, json=GOOD)
    error_of(refused, 429, "busy")
    assert int(refused.headers["retry-after"]) >= 1
    assert server.http.get("/healthz").json() == {"status": "ok"}  # the event loop is free
    model.pace.set()
    for thread in waiting:
        thread.join(20)
    still_serves(server)


def test_a_server_that_is_stopped_finishes_its_streams(serve, talker, wait_until):
    model = talker(lambda prompt: "one two three four")
    server = serve(model)
    model.held_from = 1
    model.pace.clear()
    with server.http.stream("POST", CHAT, json=GOOD | {"stream": True}) as reply:
        lines = reply.iter_lines()
        next(lines)
        server.server.should_exit = True
        threading.Timer(0.3, model.pace.set).start()
        rest = list(lines)
    assert rest[-2] == "data: [DONE]"
    wait_until(lambda: model.closed)
    with pytest.raises(httpx.ConnectError):
        server.http.get("/healthz")


def test_a_prompt_with_nothing_to_choose_from_is_refused(serve, talker):
    server = serve(talker(context_length=40))
    error_of(server.http.post(CHAT, json=GOOD | {"messages": [{"role": "user", "content": "why " * 45}]}), 413, "context_length_exceeded")
    still_serves(server)


def test_metrics_count_requests_and_tokens_and_name_nobody(serve, talker):
    server = serve(talker())
    still_serves(server)
    server.http.get("/v1/secret-path-of-somebody")
    text = server.http.get("/metrics").text
    assert 'baywindow_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert 'baywindow_tokens_total{direction="out"} 2.0' in text
    assert "secret" not in text
