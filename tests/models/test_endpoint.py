"""What a server may do wrong, each a line with a hint. Small servers on this machine, for faults and for forms that are rare.

The ordinary way is proved against a real server in tests/contracts/test_models.py.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError, EndpointError, ModelError
from baywindow.models.base import Message, Sampling
from baywindow.models.endpoint import Endpoint, is_loopback
from baywindow.models.openai_compatible import EndpointEmbedder, OpenAIModel

PROMPT = [Message("user", "hello")]
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def chunk(text=None, finish=None, usage=None):
    choice = [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}]
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choice, "usage": usage}
    return f"data: {json.dumps(body)}\n\n".encode()


class Server:
    """Answers by ``reply(path, body, handler)`` and remembers what was asked."""

    def __init__(self, reply):
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_POST(self):
                size = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(size) or b"{}")
                outer.asked.append((self.path, body, dict(self.headers)))
                reply(self.path, body, self)

            do_GET = do_POST

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@contextmanager
def serving(reply):
    server = Server(reply)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def send(handler, body, status=200, kind="application/json", headers=()):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in (("content-type", kind), ("content-length", str(len(data))), *headers):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def stream(*chunks):
    return lambda path, body, handler: send(handler, b"".join(chunks), kind="text/event-stream")


OK = (chunk("Hel"), chunk("lo"), chunk(finish="stop", usage=USAGE), b"data: [DONE]\n\n")


@contextmanager
def model_at(url, *, context=500, tokenizer=None, **endpoint):
    model = OpenAIModel("m", Endpoint(base_url=url, retries=0, **endpoint), context=context, tokenizer=tokenizer)
    yield model
    model.close()


def failure(reply, sampling=Sampling(max_new_tokens=8), **endpoint):
    """The error of one call to a server that answers so; always one line."""
    with serving(reply) as server, model_at(server.url, **endpoint) as model, pytest.raises(EndpointError) as raised:
        _ = model.generate(PROMPT, sampling).completion
    assert "\n" not in raised.value.message
    assert raised.value.hint
    assert server.url in raised.value.message
    return raised.value.message


def test_a_reply_with_usage():
    with serving(stream(*OK)) as server, model_at(server.url) as model:
        reply = model.generate(PROMPT, Sampling(max_new_tokens=8, seed=3))
        assert list(reply) == ["Hel", "lo"]
        assert (reply.completion.prompt_tokens, reply.completion.generated_tokens, reply.completion.estimated) == (9, 2, False)
        assert model.remote == ""  # a server on this machine: nothing leaves it
    path, body, _ = server.asked[0]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert (body["max_tokens"], body["seed"], body["temperature"]) == (8, 3, 0.0)
    assert body["stream_options"] == {"include_usage": True}


def test_without_usage_counts_are_estimates():
    with serving(stream(chunk("Hello"), chunk(finish="stop"))) as server, model_at(server.url) as model:
        done = model.generate(PROMPT, Sampling(max_new_tokens=8)).completion
    assert done.estimated
    assert done.generated_tokens == 2  # five bytes at three a token


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with model_at(url) as model, pytest.raises(EndpointError, match="cannot be reached") as raised:
        _ = model.generate(PROMPT).completion
    assert "running" in raised.value.hint
    with pytest.raises(EndpointError, match="cannot be reached"):
        OpenAIModel("m", Endpoint(base_url=url, retries=0))


def test_a_web_page_instead_of_the_api():
    page = b"<!doctype html><html>Welcome</html>"
    assert "web page" in failure(lambda p, b, h: send(h, page, kind="text/html"))
    assert "HTTP 404: a web page" in failure(lambda p, b, h: send(h, page, 404, "text/html"))
    assert "instead of an event stream" in failure(lambda p, b, h: send(h, {"choices": []}))


def test_a_rate_limit():
    assert "rate-limited: slow down" in failure(lambda p, b, h: send(h, {"error": {"message": "slow down"}}, 429))


def test_a_refused_key():
    assert "refused the key" in failure(lambda p, b, h: send(h, {"error": {"message": "bad"}}, 401))


def test_a_server_error_in_its_own_words():
    assert "HTTP 500: boom" in failure(lambda p, b, h: send(h, {"detail": "boom\nand a trace"}, 500))


def test_an_error_inside_the_stream():
    assert "out of memory" in failure(stream(chunk("Hel"), b'data: {"error": {"message": "out of memory"}}\n\n'))


def test_a_reply_that_breaks_off():
    assert "breaks off" in failure(stream(chunk("Hel")))

    def dropped(path, body, handler):
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("content-length", "100000")
        handler.end_headers()
        handler.wfile.write(chunk("Hel"))

    assert "cannot be reached" in failure(dropped)


def test_a_server_that_hangs_is_given_up():
    done = threading.Event()
    try:
        assert "did not answer in time" in failure(lambda p, b, h: done.wait(5), timeout_s=0.2)
    finally:
        done.set()


def test_the_deadline_ends_a_slow_reply_and_keeps_its_text():
    done = threading.Event()

    def slow(path, body, handler):
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(chunk("Hel"))
        handler.wfile.flush()
        done.wait(5)

    with serving(slow) as server, model_at(server.url) as model:
        reply = model.generate(PROMPT, Sampling(max_new_tokens=8, seconds=1.5)).completion
        done.set()
        assert (reply.text, reply.finish) == ("Hel", "deadline")
        late = model.generate_many([PROMPT] * 3, Sampling(max_new_tokens=8, seconds=0))
        assert [c.finish for c in late] == ["deadline"] * 3
    assert len(server.asked) == 1  # nothing was asked after the deadline


@pytest.mark.parametrize("seconds", [float("inf"), 30.0])
def test_a_rate_limit_that_passes_is_waited_for(seconds):
    answers = iter([429, 200])

    def reply(path, body, handler):
        if next(answers) == 429:
            send(handler, {"error": {"message": "slow down"}}, 429, headers=(("retry-after", "0.05"),))
        else:
            stream(*OK)(path, body, handler)

    with serving(reply) as server:
        model = OpenAIModel("m", Endpoint(base_url=server.url, retries=2), context=500)
        assert model.generate(PROMPT, Sampling(max_new_tokens=8, seconds=seconds)).completion.text == "Hello"
        model.close()
    assert len(server.asked) == 2


def test_what_a_server_refuses_by_name_is_left_out_from_then_on():
    def strict(path, body, handler):
        for name in ("stream_options", "seed", "response_format", "max_tokens"):
            if name in body:
                return send(handler, {"error": {"message": f"Unknown parameter: '{name}'"}}, 400)
        return stream(*OK)(path, body, handler)

    sampling = Sampling(max_new_tokens=8, json_schema={"type": "object"})
    with serving(strict) as server, model_at(server.url) as model:
        assert [model.generate(PROMPT, sampling).completion.text for _ in range(2)] == ["Hello", "Hello"]
    assert len(server.asked) == 4 + 1 + 1
    assert server.asked[-1][1]["max_completion_tokens"] == 8


def test_a_schema_is_asked_for():
    with serving(stream(*OK)) as server, model_at(server.url) as model:
        _ = model.generate(PROMPT, Sampling(max_new_tokens=8, json_schema={"type": "object"})).completion
    assert server.asked[0][1]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_refusal_that_names_nothing_is_an_error():
    assert "HTTP 400: no such model" in failure(lambda p, b, h: send(h, {"error": {"message": "no such model"}}, 400))


def test_too_long_for_the_server_or_by_our_count():
    message = {"error": {"message": "This model's maximum context length is 100 tokens"}}
    with serving(lambda p, b, h: send(h, message, 400)) as server, model_at(server.url) as model:
        with pytest.raises(ContextLengthError, match="maximum context length"):
            _ = model.generate(PROMPT, Sampling(max_new_tokens=8)).completion
        with pytest.raises(ContextLengthError, match=r"by 42 tokens \(as estimated\)"):
            model.generate(PROMPT, Sampling(max_new_tokens=500))  # 2 of the text, 40 of the template
    assert len(server.asked) == 1


def test_stop_strings_are_cut_here_too():
    pieces = [chunk(p) for p in ("one\n", "Us", "er: two", " three")]
    with serving(stream(*pieces, chunk(finish="stop", usage=USAGE))) as server, model_at(server.url) as model:
        done = model.generate(PROMPT, Sampling(max_new_tokens=8, stop=("\nUser:", "a", "b", "c", "d"))).completion
    assert (done.text, done.finish, done.estimated) == ("one", "stop", False)
    assert len(server.asked[0][1]["stop"]) == 4


def test_a_server_that_ignores_stop_strings_is_hung_up_on():
    pieces = [chunk("END")] + [chunk("x")] * 50
    with serving(stream(*pieces, chunk(finish="length", usage=USAGE))) as server, model_at(server.url) as model:
        done = model.generate(PROMPT, Sampling(max_new_tokens=80, stop=("END",))).completion
    assert (done.text, done.finish, done.estimated) == ("", "stop", True)


def test_the_window_is_what_the_server_states():
    listed = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x", "max_model_len": 4096}]}
    with serving(lambda p, b, h: send(h, listed)) as server, model_at(server.url, context=None) as model:
        assert model.context_length == 4096


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_window_nobody_states_is_asked_for(status):
    with serving(lambda p, b, h: send(h, b"<html>", status, "text/html")) as server:
        endpoint = Endpoint(base_url=server.url, retries=0)
        with pytest.raises(ModelError, match="window of m is not known") as raised:
            OpenAIModel("m", endpoint)
        endpoint.close()
    assert "--context" in raised.value.hint


def echo(path, body, handler):
    """As vLLM does: the prompt's tokens (here its words) with log-probabilities, and one generated token."""
    words = body["prompt"].replace(" ", "| ").split("|")
    starts = [sum(map(len, words[:i])) for i in range(len(words) + 1)]
    logprobs = {"tokens": [*words, "!"], "token_logprobs": [None, *[-float(i) for i in range(1, len(words))], -99.0], "text_offset": starts}
    choice = {"index": 0, "text": body["prompt"] + "!", "logprobs": logprobs, "finish_reason": "length"}
    send(handler, {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})


def test_score_takes_the_continuations_tokens_only():
    with serving(echo) as server, model_at(server.url) as model:
        assert model.capabilities == {"text", "logprobs"}
        score = model.score("a b", " c d")
        assert (score.tokens, score.logprobs.tolist()) == ((" c", " d"), [-2.0, -3.0])
        across = model.score("a b", "bb d")  # the token " bbb" spans the border and belongs to the continuation
        assert (across.tokens, across.logprobs.tolist()) == ((" bbb", " d"), [-1.0, -2.0])
        assert model.score("", "a b").tokens == (" b",)  # nothing stands before the first token
        with pytest.raises(CapabilityError, match="plain text only"):
            model.score(PROMPT, "x")


@pytest.mark.parametrize("status", [400, 404, 422])
def test_no_log_probabilities_no_score(status):
    with serving(lambda p, b, h: send(h, {"error": {"message": "echo is not supported"}}, status)) as server, model_at(server.url) as model:
        assert model.capabilities == {"text"}
        with pytest.raises(CapabilityError, match="gives no log-probabilities"):
            model.score("a", "b")
    assert len(server.asked) == 1  # probed once


def test_calls_at_once_stay_within_the_limit_and_keep_their_order():
    lock, now, most = threading.Lock(), [0], [0]

    def reply(path, body, handler):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        stream(chunk(body["messages"][0]["content"]), chunk(finish="stop", usage=USAGE))(path, body, handler)
        with lock:
            now[0] -= 1

    prompts = [[Message("user", str(i))] for i in range(12)]
    with serving(reply) as server, model_at(server.url, concurrency=3) as model:
        assert [c.text for c in model.generate_many(prompts, Sampling(max_new_tokens=8))] == [str(i) for i in range(12)]
    assert 1 < most[0] <= 3


def test_the_first_error_of_many_is_raised():
    fault = serving(lambda p, b, h: send(h, {"error": "no"}, 500))
    with fault as server, model_at(server.url, concurrency=2) as model, pytest.raises(EndpointError, match="HTTP 500"):
        model.generate_many([PROMPT] * 5, Sampling(max_new_tokens=8))


def test_ctrl_c_ends_calls_that_nobody_answers():
    """The server takes requests and says nothing, for as long as the test runs: a program that waited for it would not end."""
    silent = socket.create_server(("127.0.0.1", 0))
    program = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background begins with Ctrl-C ignored
        "from baywindow.models.base import Message, Sampling\n"
        "from baywindow.models.endpoint import Endpoint\n"
        "from baywindow.models.openai_compatible import OpenAIModel\n"
        f"endpoint = Endpoint(base_url='http://127.0.0.1:{silent.getsockname()[1]}/v1', timeout_s=600)\n"
        "model = OpenAIModel('m', endpoint, context=1000)\n"
        "try:\n"
        "    model.generate_many([[Message('user', 'hello')]] * 3, Sampling(max_new_tokens=8))\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    with silent, subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as started:
        try:
            taken = [silent.accept()[0] for _ in range(3)]  # all three calls are under way
            started.send_signal(signal.SIGINT)
            assert started.communicate(timeout=60)[0] == "interrupted\n"
        finally:
            started.kill()
            for one in taken:
                one.close()


def test_the_key_comes_from_the_named_variable_and_is_never_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-1234")
    with serving(lambda p, b, h: send(h, {"error": {"message": "no"}}, 401)) as server:
        with model_at(server.url, api_key_env="MY_KEY") as model, pytest.raises(EndpointError) as raised:
            _ = model.generate(PROMPT).completion
        assert {k.lower(): v for k, v in server.asked[0][2].items()}["authorization"] == "Bearer sk-secret-1234"
        assert "secret" not in str(raised.value) + repr(model.endpoint)


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="no key"):
        _ = OpenAIModel("gpt", Endpoint(), context=500).generate(PROMPT).completion


def test_embeddings_are_unit_vectors_in_order():
    def reply(path, body, handler):
        rows = [{"object": "embedding", "index": i, "embedding": [3.0 * len(t), 4.0 * len(t), 0.0]} for i, t in enumerate(body["input"])]
        rows[0]["embedding"][2] = float(len(body["input"][0]))
        send(handler, {"object": "list", "model": "m", "data": rows[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}})

    with serving(reply) as server:
        endpoint = Endpoint(base_url=server.url, retries=0)
        embedder = EndpointEmbedder("m", endpoint)
        assert embedder.dim == 3
        found = embedder.embed(["x"] * 70)
        assert embedder.embed([]).shape == (0, 3)
        endpoint.close()
    assert found.shape == (70, 3)
    np.testing.assert_allclose(found[1], [0.6, 0.8, 0.0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert [len(body["input"]) for _, body, _ in server.asked[1:]] in ([64, 6], [6, 64])
    np.testing.assert_allclose(found[[0, 64], 2], 1 / 26**0.5, atol=1e-6)  # the first of each batch


def test_embeddings_that_are_none():
    with serving(lambda p, b, h: send(h, {"object": "list", "model": "m", "data": []})) as server:
        endpoint = Endpoint(base_url=server.url, retries=0)
        with pytest.raises(EndpointError):
            EndpointEmbedder("m", endpoint).embed(["x"])
        endpoint.close()


@pytest.mark.parametrize(("host", "here"), [("localhost", True), ("127.0.0.9", True), ("::1", True), ("10.0.0.1", False), ("a.com", False)])
def test_what_counts_as_this_machine(host, here):
    assert is_loopback(host) is here


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://"])
def test_an_address_must_be_one(url):
    with pytest.raises(ConfigError, match="base_url"):
        Endpoint(base_url=url)
