"""Baywindow and the mem0ai package, one after the other, on the same conversations with the same embedder; with a model, the same model."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _locomo import Question, Talk, recall, talks
from _memory_retrieval import DEPTHS, asked, percentiles, refs_of, timed, turns_under
from _peer_mem0 import Peer, environment

from baywindow.home import cache_dir
from baywindow.memory.mem0 import SAID
from baywindow.memory.memory import Memory
from baywindow.memory.records import Record, Scope
from baywindow.models.base import Embedder, LanguageModel
from baywindow.models.embedders import embedded_folder

NO_MODEL = ("http://127.0.0.1:9/v1", "none")  # nobody answers there, and nobody is asked
START_S = 120.0


def as_said(embedder: Embedder, most: int) -> dict[str, Any]:
    """No language model on either side (mem0ai: ``infer=False``): turns are added one by one as they were said, then searched."""
    python = environment(cache_dir("bench"), sysconfig.get_path("purelib"))
    if not isinstance(python, Path):
        return {"error": python}
    wanted = asked(most)
    named = [talks()[name] for name in dict.fromkeys(q.talk for q in wanted)]
    return {"n": len(wanted), "ours": _ours(embedder, named, wanted), "mem0ai": _theirs(python, named, wanted)}


def _ours(embedder: Embedder, named: Sequence[Talk], wanted: Sequence[Question]) -> dict[str, Any]:
    add_s: list[float] = []
    search_s: list[float] = []
    found = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, Memory(folder, "turn_retrieval", embedder=embedder) as memory:
        memory.add("Hello.", Scope("warm up"))
        for talk in named:
            for message in talk.messages:
                with timed(add_s):
                    memory.add(message, Scope(talk.name))
        refs = {turn: ref for talk in named for turn, ref in refs_of(memory, Scope(talk.name)).items()}
        for question in wanted:
            with timed(search_s):
                hits = memory.search(question.text, Scope(question.talk), max(DEPTHS))
            found.append(turns_under(refs, hits))
    return told(wanted, found, add_s, search_s)


def _theirs(python: Path, named: Sequence[Talk], wanted: Sequence[Question]) -> dict[str, Any]:
    with peer(python, NO_MODEL) as worker:
        worker.ask({"add": [{"role": "user", "content": "Hello."}], "user": "warm up", "refs": [], "infer": False})
        add_s, search_s, found = [], [], []
        for talk in named:
            for message in talk.messages:
                said = {"add": [as_theirs(message)], "user": talk.name, "refs": [message["ref"]], "infer": False}
                add_s.append(answered(worker, said)["seconds"])
        for question in wanted:
            answer = answered(worker, {"search": question.text, "user": question.talk, "k": max(DEPTHS)})
            search_s.append(answer["seconds"])
            found.append(answer["found"])
    return told(wanted, found, add_s, search_s)


def told(wanted: Sequence[Question], found: Sequence[Any], add_s: Sequence[float], search_s: Sequence[float]) -> dict[str, Any]:
    recalls = {str(k): [recall(q.evidence, one, k) for q, one in zip(wanted, found, strict=True)] for k in DEPTHS}
    return {"recall": recalls, "add_ms": percentiles(add_s), "search_ms": percentiles(search_s)}


@dataclass(frozen=True)
class Beginning:
    """The first turns of a conversation, two a step, the questions that they answer, and when to stop (`time.monotonic`)."""

    user: str
    steps: tuple[tuple[dict[str, Any], ...], ...]
    questions: tuple[Question, ...]
    end: float

    @classmethod
    def of(cls, turns: int, most: int, end: float) -> Beginning:
        """Of the conversation whose beginning answers the most questions."""

        def answered(talk: Talk) -> tuple[Question, ...]:
            held = {str(message["ref"]) for message in talk.messages[:turns]}
            return tuple(q for q in asked(0) if q.talk == talk.name and held.issuperset(q.evidence))

        talk = max(talks().values(), key=lambda one: len(answered(one)))
        some = tuple(talk.messages[:turns])
        return cls(talk.name, tuple(some[at : at + 2] for at in range(0, len(some), 2)), answered(talk)[: most or None], end)


def facts(embedder: Embedder, model: LanguageModel, model_name: str, task: Beginning) -> dict[str, Any]:
    """Both extract facts with the same model, two turns a call, until the time is over."""
    python = environment(cache_dir("bench"), sysconfig.get_path("purelib"))
    if not isinstance(python, Path):
        return {"error": python}
    told_of = {"turns": sum(map(len, task.steps)), "n": len(task.questions)}
    theirs = _their_facts(python, model_name, task)
    return told_of | {"mem0ai": theirs, "ours": _our_facts(embedder, model, task)}


def _our_facts(embedder: Embedder, model: LanguageModel, task: Beginning) -> dict[str, Any]:
    add_s: list[float] = []
    search_s: list[float] = []
    found, scope = [], Scope(task.user)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, Memory(folder, "mem0", model=model, embedder=embedder) as memory:
        for step in task.steps:
            if time.monotonic() > task.end:
                break
            with timed(add_s):
                memory.add(step, scope)
        made = [one for one in memory.list(scope) if isinstance(one, Record)]
        refs = refs_of(memory, scope)
        for question in task.questions:
            with timed(search_s):
                hits = memory.search(question.text, scope, max(DEPTHS))
            found.append(turns_under(refs, hits))
    if not add_s:
        return {"error": "no time was left"}
    return told(task.questions, found, add_s, search_s) | {"made": len(made), "as_said": sum(one.kind == SAID for one in made)}


def _their_facts(python: Path, model_name: str, task: Beginning) -> dict[str, Any]:
    with served(model_name) as endpoint, peer(python, endpoint) as worker:
        answers = []
        for step in task.steps:
            if time.monotonic() > task.end:
                break
            refs = [message["ref"] for message in step]
            answers.append(worker.ask({"add": [as_theirs(m) for m in step], "user": task.user, "refs": refs, "infer": True}))
        hits = [answered(worker, {"search": q.text, "user": task.user, "k": max(DEPTHS)}) for q in task.questions]
    errors = [answer["error"] for answer in answers if "error" in answer]
    add_s = [answer["seconds"] for answer in answers if "seconds" in answer]
    if not add_s:
        return {"error": errors[0] if errors else "no time was left"}
    made = sum(answer.get("made", 0) for answer in answers)
    scored = told(task.questions, [hit["found"] for hit in hits], add_s, [hit["seconds"] for hit in hits])
    return scored | {"made": made, "errors": errors}


def as_theirs(message: dict[str, Any]) -> dict[str, str]:
    """A turn for mem0ai, with the speaker's name in its text, by which ours is found too."""
    return {"role": "user", "content": f"{message['name']}: {message['content']}"}


@contextmanager
def peer(python: Path, endpoint: tuple[str, str]) -> Iterator[Peer]:
    """mem0ai with an empty store of its own, and a model: an address and a name there."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        worker = Peer(python, embedded_folder(), Path(folder), *endpoint)
        try:
            answered(worker, {"embed": "warm up"})
            yield worker
        finally:
            worker.close()


def answered(worker: Peer, request: dict[str, Any]) -> dict[str, Any]:
    answer = worker.ask(request)
    if "error" in answer:
        raise RuntimeError(f"mem0ai: {answer['error']}")
    return answer


@contextmanager
def served(model: str) -> Iterator[tuple[str, str]]:
    """`bay serve` with a model on a free port of this machine, ended afterwards: its address, and the model's name there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("bay")), "serve", "--model", model, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/v1", _first_model(port, server)
    finally:
        server.terminate()
        server.wait(timeout=30)


def _first_model(port: int, server: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as reply:
                return str(json.load(reply)["data"][0]["id"])
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError("bay serve did not start")


def ratio(theirs: dict[str, float], ours: dict[str, float], at: str) -> str:
    """How many times longer theirs takes; medians or tails of the same run."""
    return f"{theirs[at] / ours[at]:.1f}" if ours[at] else "–"


def difference(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return list(np.asarray(ours) - np.asarray(theirs))
