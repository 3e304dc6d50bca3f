"""A real Uvicorn on a free port of this machine, with a scripted model behind it, and the official client before it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import numpy as np
import openai
import pytest

from baywindow.config import Settings
from baywindow.models.base import Completion, Embedder, LanguageModel, Prompt, Sampling, Stream
from baywindow.server.running import Server, bind
from baywindow.server.service import Options, Service

PATIENCE_S = 120  # the first recipe inside a model imports torch, which takes long on a busy machine


class WordHashes(Embedder):
    """A text's vector counts its words by hash: equal words, near vectors."""

    name = "word-hashes"
    dim = 64
    max_tokens = 10_000

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> np.ndarray:
        found = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.lower().split():
                row[hashlib.blake2b(word.encode()).digest()[0] % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class Talker(LanguageModel):
    """Says what ``reply`` makes of a prompt, word by word; a token is a word, a message adds two.

    ``pace`` is waited for before every word from the one numbered ``held_from`` on: a test clears it to keep a reply under way.
    """

    name = "talker"
    capabilities = frozenset({"text"})

    def __init__(self, reply: Callable[[Prompt], str] = lambda prompt: "Hello there.", context_length: int = 512) -> None:
        self.reply = reply
        self.context_length = context_length
        self.pace = threading.Event()
        self.pace.set()
        self.held_from = 0
        self.prompts: list[Prompt] = []
        self.samplings: list[Sampling] = []
        self.closed_early = 0
        self.closed = False

    def count_tokens(self, text: str | Prompt) -> int:
        return len(text.split()) if isinstance(text, str) else sum(len(m.content.split()) + 2 for m in text)

    def generate(self, prompt: Prompt, sampling: Sampling = Sampling()) -> Stream:
        assert self.count_tokens(prompt) + sampling.max_new_tokens <= self.context_length, "a call exceeds the window"
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        words = self.reply(prompt).split(" ")
        limit = sampling.max_new_tokens

        def pieces() -> Iterator[str]:
            try:
                for i, word in enumerate(words[:limit]):
                    if i >= self.held_from:
                        self.pace.wait(20)
                    yield word if i == 0 else " " + word
            except GeneratorExit:
                self.closed_early += 1
                raise

        def finish(said: str) -> Completion:
            ended = "length" if len(words) > limit else "stop"
            return Completion(text=said, prompt_tokens=self.count_tokens(prompt), generated_tokens=len(said.split()), finish=ended)

        return Stream(pieces(), finish)

    def close(self) -> None:
        self.closed = True


@dataclass
class Running:
    """A server that runs. ``client`` is OpenAI's own, unmodified; ``http`` says what no client would."""

    service: Service
    server: Server
    url: str
    client: openai.OpenAI
    http: httpx.Client

    def client_of(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=httpx.Client(trust_env=False, timeout=PATIENCE_S)
        )


@contextmanager
def running(service: Service, *, key: str = "none") -> Iterator[Running]:
    bound = bind("127.0.0.1", 0)
    ready = threading.Event()
    server = Server(service, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]}, daemon=True)
    thread.start()
    assert ready.wait(30)
    http = httpx.Client(base_url=bound.url, trust_env=False, timeout=PATIENCE_S, headers={"authorization": f"Bearer {key}"})
    client = openai.OpenAI(
        base_url=f"{bound.url}/v1", api_key=key, max_retries=0, http_client=httpx.Client(trust_env=False, timeout=PATIENCE_S)
    )
    try:
        yield Running(service, server, bound.url, client, http)
    finally:
        http.close()
        client.close()
        server.should_exit = True
        thread.join(40)
        bound.socket.close()
        assert not thread.is_alive()


@pytest.fixture
def talker() -> type[Talker]:
    return Talker


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """``serve(model, places=4, …)`` starts a server with these options; all are stopped afterwards, in turn from the last."""
    with ExitStack() as stack:

        def start(model: LanguageModel | None = None, *, settings: Settings | None = None, key: str = "none", **options: Any) -> Running:
            upstream = options.pop("upstream", None)
            made = Service(
                settings or Settings(), Options(**options), model=model, upstream=upstream, embedder=options.pop("embedder", WordHashes())
            )
            return stack.enter_context(running(made, key=key))

        yield start


def eventually(true: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until something holds; fails if it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return eventually
