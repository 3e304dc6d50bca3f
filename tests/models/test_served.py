"""A model behind `bay serve`, used as `bay ask` uses it: the same counts, the same prompts, the same answers as the model itself."""

# ruff: noqa: E402 - nothing of the server can be imported before it is known to be installed
from __future__ import annotations

import threading
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny chat model with random weights and a window that holds a few passages, one token a byte."""
    from importlib.util import module_from_spec, spec_from_file_location

    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    spec = spec_from_file_location("models_conftest", Path(__file__).with_name("conftest.py"))
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    tokenizer = made.byte_tokenizer(chat=True)
    torch.manual_seed(3)
    torch.set_num_threads(1)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.2,
    )
    target = tmp_path_factory.mktemp("chat")
    Qwen2ForCausalLM(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def model(folder):
    return TransformersModel(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    """A server that asks for keys, and has none but its own token to let anybody in."""
    home = tmp_path_factory.mktemp("serve")
    (home / "keys.json").write_text('[{"name": "ann", "id": "t1", "sha256": "00", "created_at": 0}]')
    service = Service(Settings(), Options(port=0, local_token=TOKEN, require_keys=True), model=model, home=home)
    bound, ready = bind("127.0.0.1", 0), threading.Event()
    server = Server(service, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]}, daemon=True)
    thread.start()
    assert ready.wait(30)
    yield bound.url
    server.should_exit = True
    thread.join(40)
    bound.socket.close()


@pytest.fixture
def served(url, folder, model):
    made = ServedModel(
        str(folder),
        Endpoint(base_url=f"{url}/v1", token=TOKEN),
        served=folder.name,
        window=model.context_length,
        fingerprint=model.fingerprint,
    )
    yield made
    made.close()


def test_counts_are_the_models_own(served, model):
    prompt = [Message("system", "Be brief."), Message("user", "Who painted <|im_end|> the fence?")]
    for counted in ("", "the fence, the fence <|im_end|>", prompt, prompt[1:]):
        assert served.count_tokens(counted) == model.count_tokens(counted)
    assert served.count_tokens("abc") == 3  # one token a byte
    assert served.exact_counts


def test_a_count_is_asked_for_once(served, monkeypatch):
    asked = []
    real = Endpoint.call
    monkeypatch.setattr(Endpoint, "call", lambda self, request: asked.append(request) or real(self, request))
    prompt = [Message("user", "Who?")]
    assert [served.count_tokens(prompt), served.prompt_tokens(list(prompt), Sampling())] == [served.count_tokens(prompt)] * 2
    assert len(asked) == 1


@pytest.mark.parametrize(
    "recipe",
    [
        "full_text(k=2) > rag(max_new_tokens=16)",
        "stuff(max_new_tokens=16)",
        "map_reduce(note_tokens=16, max_new_tokens=16)",
        "full_text(k=3) > self_route(max_new_tokens=16)",
    ],
)
def test_answers_are_those_of_the_model_itself(served, model, recipe):
    here, there = (ask("Who painted the fence?", TEXTS, recipe=recipe, model=one).to_dict() for one in (model, served))
    for found in (here, there):
        found["usage"].pop("seconds")
        for step in found["trace"]["steps"]:
            step.pop("seconds")
    there["trace"]["model"] = here["trace"]["model"]
    assert here["usage"]["generated_tokens"] > 8
    assert there == here


def test_it_tells_what_the_model_is_and_sends_nothing_away(served, model, folder):
    assert served.name == str(folder)
    assert served.fingerprint == model.fingerprint == fingerprint_of(str(folder))
    assert (served.remote, served.instructed, served.label, served.capabilities) == ("", True, "", {"text"})
    assert TOKEN not in repr(served.endpoint)


def test_what_does_not_fit_is_refused_before_it_is_sent(served):
    filling = [Message("user", "x" * (4096 - served.count_tokens([Message("user", "")])))]
    assert served.count_tokens(filling) == 4096
    with pytest.raises(ContextLengthError, match="by 1 tokens"):
        served.generate(filling, Sampling(max_new_tokens=1))


def test_another_token_opens_nothing(url, folder, model):
    stranger = ServedModel("m", Endpoint(base_url=f"{url}/v1", token="wrong"), served=folder.name, window=4096, fingerprint="")
    with pytest.raises(EndpointError, match="refused the key"):
        stranger.count_tokens("abc")
    stranger.close()
