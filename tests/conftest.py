"""Shared fakes. No test needs the network; models are scripted here or tiny and random."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import platformdirs
import pytest

from baywindow import registry
from baywindow.models.base import Completion, LanguageModel, Prompt, Sampling, Stream

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
