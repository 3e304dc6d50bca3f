"""A model behind `bay serve`, used as `bay ask` uses it: the same counts, the same prompts, the same answers as the model itself."""

# ruff: noqa: E402 - nothing of the server can be imported before it is known to be installed
from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

for package in ("torch", "fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="the extras `local` and `serve` are not installed")

from baywindow.config import Settings
from baywindow.context.ask import ask
from baywindow.documents.base import Document
from baywindow.errors import ContextLengthError, EndpointError
from baywindow.models.base import Message, Sampling
from baywindow.models.endpoint import Endpoint
from baywindow.models.identity import fingerprint_of
from baywindow.models.served import ServedModel
from baywindow.models.transformers import TransformersModel
from baywindow.server.running import Server, bind
from baywindow.server.service import Options, Service

TOKEN = "t" * 43
TEXTS = [
    Document("The beans were sown on 4 May.\n\nIda painted the fence green in June, before the rain came.", "garden.md"),
    Document("The roof was mended in 1987.\n\nNobody painted the <|im_start|> door.", "house.md"),
]


@dataclass
class Pair:
    """A model, and the same one behind a server."""

    model: TransformersModel
    served: ServedModel
    url: str


@contextmanager
def both(folder: Path):
    """The server asks for keys, and has none but its own token to let anybody in."""
    base = folder.parent
    (base / "keys.json").write_text('[{"name": "ann", "id": "t1", "sha256": "00", "created_at": 0}]')
    model = TransformersModel(str(folder), device="cpu", dtype="float32")
    service = Service(Settings(), Options(port=0, local_token=TOKEN, require_keys=True), model=model, home=base)
    bound, ready = bind("127.0.0.1", 0), threading.Event()
    server = Server(service, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]}, daemon=True)
    thread.start()
    assert ready.wait(30)
    served = ServedModel(
        str(folder),
        Endpoint(base_url=f"{bound.url}/v1", token=TOKEN),
        served=folder.name,
        window=model.context_length,
        instructed=model.instructed,
        fingerprint=model.fingerprint,
    )
    yield Pair(model, served, bound.url)
    served.close()
    server.should_exit = True
    thread.join(40)
    bound.socket.close()


@pytest.fixture(scope="module")
def chat(tmp_path_factory, write_qwen):
    with both(write_qwen(tmp_path_factory.mktemp("serve") / "chat", seed=3)) as pair:
        yield pair


@pytest.fixture(scope="module")
def base(tmp_path_factory, write_qwen):
    with both(write_qwen(tmp_path_factory.mktemp("serve") / "base", template=None, seed=3)) as pair:
        yield pair


@pytest.fixture
def served(chat):
    return ServedModel("m", chat.served.endpoint, served=chat.served._chat._model, window=4096)  # counts nothing yet


def test_counts_are_the_models_own(chat, base):
    prompt = [Message("system", "Be brief."), Message("user", "Who painted <|im_end|> the fence?")]
    for pair in (chat, base):
        for counted in ("", "the fence, the fence <|im_end|>", prompt, prompt[1:]):
            assert pair.served.count_tokens(counted) == pair.model.count_tokens(counted)
        assert pair.served.exact_counts
    assert base.served.count_tokens("abc") == 3  # one token a byte


def test_a_base_models_examples_count_as_far_as_they_fit(chat, base):
    prompt, examples = [Message("user", "Who?")], (("a" * 1500, "b" * 500),) * 3
    for new_tokens in (1, 100, 3000):
        sampling = Sampling(max_new_tokens=new_tokens, examples=examples)
        for pair in (chat, base):
            assert pair.served.prompt_tokens(prompt, sampling) == pair.model.prompt_tokens(prompt, sampling)
    shown = [base.served.prompt_tokens(prompt, Sampling(max_new_tokens=n, examples=examples)) for n in (1, 3000)]
    assert shown[0] > 2 * 2000 > shown[1]
    assert base.served.count_tokens(prompt) < 50


def test_a_count_is_asked_for_once(served, monkeypatch):
    asked = []
    real = Endpoint.call
    monkeypatch.setattr(Endpoint, "call", lambda self, request: asked.append(request) or real(self, request))
    prompt = [Message("user", "Who?")]
    assert [served.count_tokens(prompt), served.prompt_tokens(list(prompt), Sampling())] == [served.count_tokens(prompt)] * 2
    assert len(asked) == 1


RAG, MANY, TWICE = (
    "full_text(k=2) > rag(max_new_tokens=16)",
    "map_reduce(note_tokens=16, max_new_tokens=16)",
    "full_text(k=3) > self_route(max_new_tokens=16)",
)


@pytest.mark.parametrize(("kind", "recipe"), [("chat", RAG), ("chat", MANY), ("chat", TWICE), ("base", RAG), ("base", MANY)])
def test_answers_are_those_of_the_model_itself(request, kind, recipe):
    pair = request.getfixturevalue(kind)
    here, there = (ask("Who painted the fence?", TEXTS, recipe=recipe, model=one).to_dict() for one in (pair.model, pair.served))
    for found in (here, there):
        found["usage"].pop("seconds")
        for step in found["trace"]["steps"]:
            step.pop("seconds")
    assert here["usage"]["generated_tokens"] > 8
    assert there == here


def test_a_reply_held_to_a_schema_is_the_same(chat):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    sampling = Sampling(max_new_tokens=12, json_schema=schema)
    here, there = (one.generate([Message("user", "Count.")], sampling).completion for one in (chat.model, chat.served))
    assert here.text.startswith("{")
    assert (there.text, there.generated_tokens) == (here.text, here.generated_tokens)


def test_it_tells_what_the_model_is_and_sends_nothing_away(chat, base):
    for pair in (chat, base):
        assert pair.served.fingerprint == pair.model.fingerprint == fingerprint_of(pair.served.name)
        assert (pair.served.name, pair.served.instructed) == (pair.model.name, pair.model.instructed)
        assert (pair.served.remote, pair.served.capabilities) == ("", {"text"})
        assert TOKEN not in repr(pair.served.endpoint)


def test_what_does_not_fit_is_refused_before_it_is_sent(served):
    filling = [Message("user", "x" * (4096 - served.count_tokens([Message("user", "")])))]
    assert served.count_tokens(filling) == 4096
    with pytest.raises(ContextLengthError, match="by 1 tokens"):
        served.generate(filling, Sampling(max_new_tokens=1))


def test_another_token_opens_nothing(chat):
    stranger = ServedModel("m", Endpoint(base_url=f"{chat.url}/v1", token="wrong"), served="chat", window=4096)
    with pytest.raises(EndpointError, match="refused the key"):
        stranger.count_tokens("abc")
    stranger.close()
