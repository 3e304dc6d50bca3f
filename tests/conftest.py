"""Shared fakes. No test needs the network; models are scripted here or tiny and random."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest

from baywindow import registry
from baywindow.models.base import Completion, Inspection, LanguageModel, Prompt, Sampling, Score, Stream

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Reply = str | Callable[[Prompt], str]


class ScriptedModel(LanguageModel):
    """Replies from a script and records every prompt. A token is a whitespace-separated word; the template adds 2 a message."""

    name = "scripted"
    capabilities = frozenset({"text"})

    def __init__(self, replies: Sequence[Reply] | Callable[[Prompt], str], context_length: int = 4096) -> None:
        self._replies = replies if callable(replies) else list(replies)
        self.context_length = context_length
        self.prompts: list[list] = []
        self.samplings: list[Sampling] = []

    def count_tokens(self, text: str | Prompt) -> int:
        if isinstance(text, str):
            return len(text.split())
        return sum(len(m.content.split()) + 2 for m in text)

    def generate(self, prompt: Prompt, sampling: Sampling = Sampling()) -> Stream:
        assert self.count_tokens(prompt) + sampling.max_new_tokens <= self.context_length, "a call exceeds the window"
        self.prompts.append(list(prompt))
        self.samplings.append(sampling)
        if callable(self._replies):
            text = self._replies(prompt)
        else:
            reply = self._replies.pop(0)
            text = reply(prompt) if callable(reply) else reply
        words = text.split(" ")[: sampling.max_new_tokens]

        def pieces() -> Iterator[str]:
            for i, word in enumerate(words):
                yield word if i == 0 else " " + word

        def finish(said: str) -> Completion:
            return Completion(text=said, prompt_tokens=self.count_tokens(prompt), generated_tokens=len(said.split()), finish="stop")

        return Stream(pieces(), finish)


@pytest.fixture
def scripted() -> type[ScriptedModel]:
    """The class itself: ``scripted([reply, …], context_length=…)``."""
    return ScriptedModel


def plain_words(text: str) -> list[str]:
    return [w.strip(".,?!:\n").lower() for w in text.split()]


@pytest.fixture
def open_model() -> type[ScriptedModel]:
    """The scripted model with insides to show, for readers that need them: words that occur in the question attract it."""

    class OpenModel(ScriptedModel):
        capabilities = frozenset({"text", "logprobs", "weights", "kv"})
        looks = 0

        def score(self, prompt, continuation):
            self.looks += 1
            text = prompt if isinstance(prompt, str) else prompt[-1].content
            before, _, question = text.rpartition("Question:")
            open_ = 5.0 - len({*plain_words(before)} & {*plain_words(question)} - {""})
            values = np.full(len(continuation.split()), open_, dtype=np.float32)
            return Score(-values, entropies=values)

        def inspect(self, text, layers, want):
            self.looks += 1
            found = [m.span() for m in re.finditer(r"\S+", text)]
            names = np.array([text[a:b].strip(".,?!").lower() for a, b in found])
            same = np.where(names[:, None] == names[None, :], 1.0, 0.01) * np.tri(len(names))
            attention = (same / same.sum(1, keepdims=True)).astype(np.float32)[None]
            return Inspection(tuple(found), attention=dict.fromkeys(layers, attention))

    return OpenModel


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own index and settings; converted models are shared between runs, for they take a minute to make."""
    home = tmp_path_factory.mktemp("home")
    if "BAY_CACHE" not in os.environ:
        monkeypatch.setenv("BAY_CACHE", platformdirs.user_cache_dir("baywindow"))
    monkeypatch.setenv("BAY_HOME", str(home))
    return home


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Techniques without a purpose (tests/toys), found through entry points as other people's are."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "toys"))
    registry.clear()
    yield
    monkeypatch.undo()
    registry.clear()


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def write_qwen() -> Callable[..., Path]:
    """Writes a folder as `from_pretrained` takes it: two Qwen2 blocks with random weights, one token a byte. ``template`` None: a base
    model. Skips where the extra `local` is not installed."""
    torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    def write(folder: Path, *, template: str | None = CHATML, window: int = 4096, seed: int = 0) -> Path:
        special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
        vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
        inner = Tokenizer(models.BPE(vocabulary, []))
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, pad_token=special[0], eos_token=special[2], additional_special_tokens=special[1:2]
        )
        tokenizer.chat_template = template
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        config = Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=window, initializer_range=0.2,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        )  # fmt: skip
        Qwen2ForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """A skip whose reason says ``needs NAME`` fails if BAY_REQUIRE lists NAME: CI may not pass by leaving tests out."""
    report = yield
    required = os.environ.get("BAY_REQUIRE", "").replace(",", " ").split()
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if any(f"needs {name}" in reason for name in required):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nBAY_REQUIRE={os.environ['BAY_REQUIRE']}: this test may not be skipped here"
    return report


@pytest.fixture
def announced() -> Callable[[Any], AbstractContextManager[None]]:
    """A service that listens on a port of this machine and is announced for the block, as `bay serve` does it."""

    @contextmanager
    def listening(service: Any) -> Iterator[None]:
        from baywindow.server.announced import announce, announcement
        from baywindow.server.running import Server, bind

        bound, ready = bind("127.0.0.1", 0), threading.Event()
        server = Server(service, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]}, daemon=True)
        thread.start()
        assert ready.wait(30)
        withdraw = announce(announcement(service, bound.url))
        yield
        withdraw()
        server.should_exit = True
        thread.join(40)
        bound.socket.close()

    return listening
