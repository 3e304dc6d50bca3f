"""A small suite of made-up tasks and a model that answers from its prompt, so that a run takes milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from baywindow.bench import engine, find
from baywindow.bench.base import Generated, Order, Sample, Suite, Turn
from baywindow.documents.base import Document
from baywindow.models.base import Completion, Embedder, LanguageModel, Message, Prompt, Sampling, Score, Stream


def build(task: str) -> Callable[[Order], Sample]:
    def made(order: Order) -> Sample:
        code = f"code{order.seed}x{order.tokens}"
        filler = ["filler"] * (order.tokens - 12)
        at = round((order.depth or 0.0) * len(filler))
        text = " ".join([*filler[:at], f"The secret is {code}.", *filler[at:]])
        return Sample(
            id=f"{task}-{order.tokens}-{order.seed}",
            documents=(Document(text, "hay"),),
            question="What is the secret?",
            gold=(code,),
            scorer="includes_all",
            max_new_tokens=8,
            metadata={"task": task, "tokens": order.tokens, "length": order.tokens, "seed": order.seed, "depth": order.depth},
        )

    return made


def two_turns(order: Order) -> Sample:
    first = build("toy.turns")(order)
    again = Turn(question="And again: what is the secret?", gold=first.gold, scorer="includes_all", max_new_tokens=8)
    return Sample(**{**vars(first), "turns": (again,)})


def fails(order: Order) -> Sample:
    raise ValueError(f"no sample {order.seed}")


TOY = Suite(
    name="toy",
    summary="made up",
    tasks=(
        Generated(name="toy.find", summary="find a code", scorer="includes_all", build=build("toy.find"), min_tokens=32, has_depth=True),
        Generated(name="toy.also", summary="find a code", scorer="includes_all", build=build("toy.also"), min_tokens=32, has_depth=True),
        Generated(name="toy.turns", summary="ask twice", scorer="includes_all", build=two_turns, min_tokens=32, has_depth=True),
        Generated(name="toy.broken", summary="cannot be made", scorer="includes_all", build=fails, min_tokens=32),
    ),
)


class Nothing(Embedder):
    """Every text has the same vector: full text needs no embedder, and none shall be loaded for it."""

    name, dim, max_tokens = "nothing", 2, 1000

    def embed(self, texts: Sequence[str], kind: str = "passage") -> np.ndarray:
        return np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(texts), 1))


class Answerer(LanguageModel):
    """Says the secret if its prompt holds it. Tokens are words. ``fails_on`` makes generation fail on prompts with that text."""

    capabilities = frozenset({"text", "logprobs"})

    def __init__(self, name: str = "answerer", context_length: int = 4096, fails_on: str = "") -> None:
        self.name, self.context_length, self.fails_on = name, context_length, fails_on
        self.calls = 0

    def count_tokens(self, text: str | Prompt) -> int:
        return len(text.split()) if isinstance(text, str) else sum(len(m.content.split()) for m in text)

    def generate(self, prompt: Prompt, sampling: Sampling = Sampling()) -> Stream:
        self.calls += 1
        text = "\n".join(m.content for m in prompt)
        if self.fails_on and self.fails_on in text:
            raise RuntimeError(f"cannot read {self.fails_on}")
        found = re.search(r"The secret is (\S+)\.", text)
        reply = f"It is {found[1]}" if found else "no idea"

        def finish(said: str) -> Completion:
            return Completion(text=said, prompt_tokens=self.count_tokens(prompt), generated_tokens=len(said.split()), finish="stop")

        return Stream(iter([reply]), finish)

    def score(self, prompt: str | Prompt, continuation: str) -> Score:
        text = prompt if isinstance(prompt, str) else "\n".join(m.content for m in prompt)
        return Score(np.full(2, -0.5 if continuation.strip() in text else -2.5, dtype=np.float32))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The made-up suite in the place of all others."""
    monkeypatch.setattr(find, "suites", lambda: {"toy": TOY})
    monkeypatch.setattr(engine, "_embedder", lambda settings: Nothing())
    find._load_metrics.cache_clear()
    yield TOY
    find._load_metrics.cache_clear()


@pytest.fixture
def answerer() -> type[Answerer]:
    return Answerer


def messages(*texts: str) -> Sequence[Message]:
    return [Message("user", text) for text in texts]


def unused(*_: Any, **__: Any) -> None:
    """A listener that does not listen."""
