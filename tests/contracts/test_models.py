"""What every language model must do: the scripted fake, tiny local models with and without a chat template, and a tiny model behind
`transformers serve`, a server nobody here wrote.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from baywindow.errors import CapabilityError, ContextLengthError, EndpointError, ModelError
from baywindow.models.base import LanguageModel, Message, Sampling

_spec = importlib.util.spec_from_file_location("models_conftest", Path(__file__).parents[1] / "models" / "conftest.py")
_tiny = importlib.util.module_from_spec(_spec)  # type: ignore[arg-type]
_spec.loader.exec_module(_tiny)  # type: ignore[union-attr]

PROMPT = [Message("system", "Be kind."), Message("user", "Say it.")]
SHORT = Sampling(max_new_tokens=40)
LOCAL = ["chat", "base"]
ALL = ["scripted", *LOCAL, "served"]
START_SECONDS = 180  # importing torch on a busy machine


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    make = _tiny.write_tiny
    return {
        "chat": make(tmp_path_factory.mktemp("chat"), chat=True, saying=_tiny.SAYING),
        "base": make(tmp_path_factory.mktemp("base"), chat=False, saying=_tiny.SAYING),
    }


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of `transformers serve` with the tiny chat model, offline, as a process of its own."""
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package, reason="`transformers serve` needs fastapi and uvicorn (extra `dev`)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    command = [sys.executable, "-c", "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"]
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "serve", str(folders["chat"]), *options], stdout=out, stderr=out, env=environment)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < end and process.poll() is None:
            try:
                if client.get(url, timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    pytest.fail(f"`transformers serve` did not start:\n{log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
def make(request: pytest.FixtureRequest, scripted: Any) -> Iterator[Callable[..., LanguageModel]]:
    """Makes a model of a kind; all are closed afterwards."""
    made: list[LanguageModel] = []

    def build(kind: str, **options: Any) -> LanguageModel:
        if kind == "scripted":
            model: LanguageModel = scripted(lambda prompt: _tiny.SAYING)
        elif kind == "served":
            from baywindow.models.endpoint import Endpoint
            from baywindow.models.openai_compatible import OpenAIModel

            url, folder = request.getfixturevalue("server"), request.getfixturevalue("folders")["chat"]
            options = {"context": _tiny.WINDOW, "tokenizer": str(folder)} | options
            model = OpenAIModel(str(folder), Endpoint(base_url=url, concurrency=3, retries=0), **options)
        else:
            from baywindow.models.transformers import TransformersModel

            folder = request.getfixturevalue("folders")[kind]
            model = TransformersModel(str(folder), device="cpu", dtype="float32", **options)
        made.append(model)
        return model

    yield build
    for model in made:
        model.close()


@pytest.mark.parametrize("kind", ALL)
def test_the_stream_is_the_completion(make, kind):
    stream = make(kind).generate(PROMPT, SHORT)
    pieces = list(stream)
    assert "".join(pieces) == stream.completion.text == _tiny.SAYING
    assert len(pieces) > 1
    assert stream.completion.finish == "stop"
    assert stream.completion is stream.completion  # asking again generates nothing


@pytest.mark.parametrize("kind", ALL)
def test_the_completion_alone_reads_the_stream(make, kind):
    assert make(kind).generate(PROMPT, SHORT).completion.text == _tiny.SAYING


@pytest.mark.parametrize("kind", ALL)
def test_characters_of_several_bytes_come_whole(make, kind):
    pieces = list(make(kind).generate(PROMPT, SHORT))
    assert not any("\ufffd" in piece for piece in pieces)
    assert any("🙂" in piece for piece in pieces)


@pytest.mark.parametrize("kind", [*LOCAL, "served"])
def test_a_character_the_limit_cuts_is_left_out(make, kind):
    done = make(kind).generate(PROMPT, Sampling(max_new_tokens=7)).completion  # b ä(2) c k and half of the emoji
    assert (done.text, done.generated_tokens, done.finish) == ("bäck", 7, "length")


@pytest.mark.parametrize("kind", ALL)
def test_counts(make, kind):
    model = make(kind)
    done = model.generate(PROMPT, SHORT).completion
    assert done.prompt_tokens == model.count_tokens(PROMPT) == model.prompt_tokens(PROMPT, SHORT)  # the served one has learned by now
    assert not done.estimated
    assert model.exact_counts
    assert model.count_tokens("") == 0
    assert 0 < model.count_tokens("the and") < model.count_tokens(PROMPT)
    if kind != "scripted":
        assert done.generated_tokens == 14  # 13 bytes and the end of the turn


@pytest.mark.parametrize("kind", [*LOCAL, "served"])
def test_what_does_not_fit_is_refused_and_says_by_how_much(make, kind):
    model = make(kind)
    _ = model.generate(PROMPT, SHORT).completion
    room = model.context_length - model.count_tokens(PROMPT)
    assert model.generate(PROMPT, Sampling(max_new_tokens=room)).completion.text == _tiny.SAYING  # exactly full
    with pytest.raises(ContextLengthError, match="by 3 tokens"):
        model.generate(PROMPT, Sampling(max_new_tokens=room + 3))


@pytest.mark.parametrize("kind", [*LOCAL, "served"])
@pytest.mark.parametrize(("stop", "text"), [("k🙂", "bäc"), (" ", "bäck🙂"), ("END", "bäck🙂 "), ("b", ""), ("no", _tiny.SAYING)])
def test_stop_strings_across_tokens(make, kind, stop, text):
    stream = make(kind).generate(PROMPT, Sampling(max_new_tokens=40, stop=("never", stop)))
    assert "".join(stream) == text
    assert stream.completion.finish == "stop"


@pytest.mark.parametrize("kind", [*LOCAL, "served"])
def test_a_seed_fixes_what_is_drawn(make, kind):
    model = make(kind)

    def said(seed: int) -> str:
        return model.generate(PROMPT, Sampling(max_new_tokens=12, temperature=50.0, seed=seed)).completion.text

    assert said(1) == said(1)
    assert len({said(seed) for seed in (1, 2, 3)}) > 1


@pytest.mark.parametrize("kind", [*LOCAL, "served"])
def test_a_deadline_ends_it(make, kind):
    model = make(kind)
    none = model.generate(PROMPT, Sampling(max_new_tokens=40, seconds=0)).completion
    assert (none.text, none.finish, none.generated_tokens) == ("", "deadline", 0)
    assert [c.finish for c in model.generate_many([PROMPT] * 3, Sampling(max_new_tokens=40, seconds=0))] == ["deadline"] * 3
    ample = model.generate(PROMPT, Sampling(max_new_tokens=40, seconds=500)).completion
    assert (ample.text, ample.finish) == (_tiny.SAYING, "stop")


@pytest.mark.parametrize("kind", [*LOCAL, "served"])
def test_closing_early_ends_it(make, kind):
    stream = make(kind).generate(PROMPT, SHORT)
    assert next(iter(stream)) == "b"
    stream.close()
    assert (stream.completion.text, stream.completion.finish) == ("b", "cancelled")


@pytest.mark.parametrize("kind", ALL)
def test_many_in_order(make, kind):
    model = make(kind)
    prompts = [[Message("user", "x" * (n * 7 % 50))] for n in range(7)]
    done = model.generate_many(prompts, SHORT)
    assert [c.text for c in done] == [_tiny.SAYING] * 7
    assert [c.prompt_tokens for c in done] == [model.generate(p, SHORT).completion.prompt_tokens for p in prompts]
    assert model.generate_many([], SHORT) == []


@pytest.mark.parametrize("kind", ALL)
def test_two_streams_at_once_do_not_mix(make, kind):
    model = make(kind)
    one, two = model.generate(PROMPT, SHORT), model.generate([Message("user", "other")], SHORT)
    first, second = iter(one), iter(two)
    heads = next(first), next(second)
    assert heads[0] + "".join(first) == heads[1] + "".join(second) == _tiny.SAYING


@pytest.mark.parametrize("kind", ALL)
def test_capabilities_are_kept(make, kind):
    model = make(kind)
    assert "text" in model.capabilities
    if "logprobs" in model.capabilities:
        assert model.score("abc", "de").logprobs.shape == (2,)
    else:
        with pytest.raises(CapabilityError, match="log-probabilities"):
            model.score("abc", "de")
    if "weights" in model.capabilities:
        assert len(model.inspect("abc", [0], frozenset({"hidden"})).offsets) == 3
    else:
        with pytest.raises(CapabilityError):
            model.inspect("abc", [0], frozenset({"hidden"}))


# The real server alone


def test_the_served_model_has_no_log_probabilities_and_does_not_state_its_window(make):
    assert make("served").capabilities == {"text"}
    with pytest.raises(ModelError, match="window"):  # its /v1/models fails offline, which is no fault where the window is given
        make("served", context=None)


def test_without_a_tokenizer_counts_are_estimates_that_learn(make):
    model = make("served", tokenizer=None)
    assert not model.exact_counts
    guess = model.count_tokens(PROMPT)
    used = model.generate(PROMPT, SHORT).completion.prompt_tokens
    assert guess != used == model.count_tokens(PROMPT)


def test_a_wrong_name_is_the_servers_word_in_one_line(make):
    model = make("served")
    wrong = type(model)("nope", model.endpoint, context=256)
    with pytest.raises(EndpointError, match="nope") as raised:
        _ = wrong.generate(PROMPT, SHORT).completion
    assert "\n" not in raised.value.message
