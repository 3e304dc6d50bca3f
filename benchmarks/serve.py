"""What the server costs and what it stands: overhead, requests at once, and many connections held open; and what its cache spares.

    python benchmarks/serve.py [--model embedded] [--parts overhead,parallel,unlike,load,cache] [--minutes 5] [--connections 200] [--fresh]

Parts (each kept as it is finished; the same command goes on where it stopped):
  overhead   an answer of 256 tokens by the model in this process, and by a server of the same model, in turn; medians and their ratio
  parallel   four requests one after the other, and the same four at once; ratio of the times
  unlike     sixteen requests with prompts and limits of unlike length, one after the other and all at once; ratio of tokens a second
  cache      two questions about each of some texts of 4K tokens, and again after a restart: times to the first token, bytes, answers
  load       so many connections, each asking again and again: what was completed, refused (429) and broken, tokens a second, memory

All traffic stays on this machine (127.0.0.1) and ends by itself. The server is a process of its own, as a person starts it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from _models import path_of
from _report import RESULTS, Parts, table

from baywindow.models import select
from baywindow.models.base import Message, Sampling

NEW_TOKENS = 256
ROUNDS = 3
LOAD_TOKENS = 16
TEXTS, TEXT_TOKENS = 2, 4096
PLACES = ("harbour", "mill", "school", "tower", "market", "bridge")
UNLIKE = [(25, 16), (300, 96), (120, 160), (25, 48)]  # words of a prompt, tokens of its reply at most
PROMPTS = [f"Once upon a time, in town number {n}, there lived" for n in range(8)]
FOUR = [(prompt, 64) for prompt in PROMPTS[:4]]


@dataclass(frozen=True)
class Served:
    """A running server of one model."""

    url: str
    model: str
    process: psutil.Process

    def complete(self, client: httpx.Client, prompt: str, new_tokens: int, *, stream: bool = False) -> httpx.Response:
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": new_tokens, "stream": stream}
        return client.post(f"{self.url}/v1/chat/completions", json=body)


@contextmanager
def server(model: str, **variables: str) -> Iterator[Served]:
    script = f"import sys; sys.argv = ['bay', 'serve', '--model', {model!r}, '--port', '0']; from baywindow.cli.main import app; app()"
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        found = re.match(r"(.+) at (http://\S+)/v1", process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        yield Served(found[2], found[1], psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(120)


def client() -> httpx.Client:
    return httpx.Client(trust_env=False, timeout=1200)


def overhead(name: str) -> dict[str, Any]:
    """In turn, so that a machine that slows down slows both down. Seconds a token: base models may end early, the same in both."""
    model = select.load(name)
    here: list[float] = []
    there: list[float] = []
    with server(name) as served, client() as http:
        for n in range(ROUNDS + 1):  # the first round warms both up
            prompt = PROMPTS[n % len(PROMPTS)]
            started = time.monotonic()
            done = model.generate([Message("user", prompt)], Sampling(max_new_tokens=NEW_TOKENS)).completion
            mine = (time.monotonic() - started) / done.generated_tokens
            started = time.monotonic()
            reply = served.complete(http, prompt, NEW_TOKENS, stream=False).json()
            other = (time.monotonic() - started) / reply["usage"]["completion_tokens"]
            if n:
                here.append(mine)
                there.append(other)
    model.close()
    return {"here_s_per_token": here, "served_s_per_token": there, "ratio": statistics.median(there) / statistics.median(here)}


def parallel(name: str) -> dict[str, Any]:
    """Tokens a second of four requests one after the other and at once; the first is under way when the others come, so two batches run."""
    with server(name) as served, client() as http:
        served.complete(http, PROMPTS[0], 4)
        serial, at_once = [], []
        for _ in range(ROUNDS):
            serial.append(_rate(served, http, 1, FOUR))
            at_once.append(_rate(served, http, 4, FOUR))
    return {"serial_tokens_per_s": serial, "at_once_tokens_per_s": at_once, "ratio": statistics.median(at_once) / statistics.median(serial)}


def unlike(name: str) -> dict[str, Any]:
    """Rows that are done leave the batch and others join it, so a long reply does not hold up short ones. Every prompt begins otherwise."""
    text = "The harbour is old and the boats are small. "
    asked = [(f"Town number {n}. {text * (words // 9)}", most) for n, (words, most) in enumerate(UNLIKE * 4)]
    with server(name) as served, client() as http:
        served.complete(http, PROMPTS[0], 4)
        serial = _rate(served, http, 1, asked)
        at_once = _rate(served, http, len(asked), [(f"Again. {prompt}", most) for prompt, most in asked])
    found = {"serial_tokens_per_s": serial, "at_once_tokens_per_s": at_once, "ratio": at_once / serial}
    return {"model": Path(name).stem, **found}


def _rate(served: Served, http: httpx.Client, workers: int, asked: Sequence[tuple[str, int]]) -> float:
    started = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        replies = list(pool.map(lambda one: served.complete(http, *one).json(), asked))
    return float(sum(reply["usage"]["completion_tokens"] for reply in replies) / (time.monotonic() - started))


def load(name: str, connections: int, minutes: float) -> dict[str, Any]:
    """Every connection streams one reply after the other; a 429 is waited out as its header says."""
    outcomes: Counter[str] = Counter()
    tokens = [0]
    lock = threading.Lock()
    with server(name) as served, client() as http:
        alone = _rate(served, http, 1, FOUR)
        memory = [served.process.memory_info().rss]
        end = time.monotonic() + 60 * minutes
        threads = [threading.Thread(target=_hold, args=(served, end, outcomes, tokens, lock)) for _ in range(connections)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(5)
            memory.append(served.process.memory_info().rss)
        seconds = time.monotonic() - started
    accepted = sum(outcomes.values()) - outcomes["refused"]
    return {
        "connections": connections,
        "seconds": seconds,
        "outcomes": dict(outcomes),
        "completed_of_accepted": outcomes["completed"] / max(1, accepted),
        "tokens_per_s": tokens[0] / seconds,
        "alone_tokens_per_s": alone,
        "memory_mb": [round(m / 1e6) for m in (memory[len(memory) // 4], memory[len(memory) // 2], memory[-1], max(memory))],
    }


def _hold(served: Served, end: float, outcomes: Counter[str], tokens: list[int], lock: threading.Lock) -> None:
    with client() as http:
        turn = 0
        while time.monotonic() < end:
            turn += 1
            try:
                reply = served.complete(http, PROMPTS[turn % len(PROMPTS)], LOAD_TOKENS, stream=True)
            except httpx.HTTPError as error:
                outcome, wait = type(error).__name__, 1.0
            else:
                outcome, wait = _outcome(reply)
            with lock:
                outcomes[outcome] += 1
                tokens[0] += reply.text.count('"content":') if outcome == "completed" else 0
            time.sleep(wait)


def _outcome(reply: httpx.Response) -> tuple[str, float]:
    if reply.status_code == 429:
        return "refused", float(reply.headers["retry-after"])
    if reply.status_code == 200 and reply.text.endswith("data: [DONE]\n\n"):
        return "completed", 0.0
    return f"broken ({reply.status_code})", 1.0


@dataclass(frozen=True)
class Asked:
    """A text and two questions about it, each with the number that answers it."""

    text: str
    questions: tuple[str, str]
    answers: tuple[str, str]


def texts(count: Callable[[str], int]) -> list[Asked]:
    """Prose of Python's documentation of `TEXT_TOKENS` tokens each, with two numbers planted at a third and two thirds of it."""
    from pydoc_data import topics

    lines = [" ".join(p.split()) for name in sorted(topics.topics) for p in re.split(r"\n\s*\n", topics.topics[name])]
    lines = [line for line in lines if 80 < len(line) < 400]
    found = []
    for n in range(TEXTS):
        draw = random.Random(n)
        chosen, size = [], 0
        while size < TEXT_TOKENS - 60:
            chosen.append(draw.choice(lines))
            size += count(chosen[-1] + "\n\n")
        places, numbers = PLACES[2 * n : 2 * n + 2], [str(draw.randrange(1_000_000, 10_000_000)) for _ in range(2)]
        for i, (place, number) in enumerate(zip(places, numbers, strict=True), 1):
            chosen.insert(i * len(chosen) // 3, f"The secret number of the {place} is {number}.")
        questions = [f"What is the secret number of the {place}? Reply with the number only." for place in places]
        found.append(Asked("\n\n".join(chosen), (questions[0], questions[1]), (numbers[0], numbers[1])))
    return found


def cache(name: str) -> dict[str, Any]:
    """Of each text the first question is asked of what was not read yet, the second of what is in memory, and both again after a restart:
    the first of what lies on disk, which then is in memory. Bytes on disk stand against those of keys and values in 16 bits."""
    model = select.load(name)
    asked = texts(model.count_tokens)
    model.close()
    with tempfile.TemporaryDirectory() as home, client() as http:
        variables = {"BAY_HOME": home, "BAY_DTYPE": "bfloat16"}  # 16 bits in memory too
        with server(name, **variables) as served:
            served.complete(http, PROMPTS[0], 4)
            before = [[_first_token(served, http, one, i) for i in (0, 1, 0)] for one in asked]
            memory = _metric(served, http, "memory_bytes")
        with server(name, **variables) as served:  # the first one wrote what waited before it ended
            served.complete(http, PROMPTS[0], 4)
            disk = _metric(served, http, "disk_bytes")
            after = [[_first_token(served, http, one, i) for i in (0, 1)] for one in asked]
            damaged = _metric(served, http, "damaged")
    return {
        "before": before,
        "after": after,
        "memory_bytes": memory,
        "disk_bytes": disk,
        "damaged": damaged,
        "answers": [a.answers for a in asked],
    }


def _first_token(served: Served, http: httpx.Client, one: Asked, i: int) -> dict[str, Any]:
    """Seconds to the first text of a reply, the whole reply, and its tokens from the cache."""
    message = {"role": "user", "content": f"{one.text}\n\n{one.questions[i]}"}
    options = {"include_usage": True}
    body = {"model": served.model, "messages": [message], "max_tokens": 12, "stream": True, "stream_options": options}
    said, seconds = "", 0.0
    usage: dict[str, Any] = {}
    started = time.monotonic()
    with http.stream("POST", f"{served.url}/v1/chat/completions", json=body) as reply:
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                said += choice["delta"].get("content") or ""
                seconds = seconds or (time.monotonic() - started if said else 0.0)
    tokens = {"tokens": usage["prompt_tokens"], "cached": usage["prompt_tokens_details"]["cached_tokens"]}
    return {"seconds": seconds, "said": said, **tokens}


def _metric(served: Served, http: httpx.Client, name: str) -> float:
    found = re.search(rf"^baywindow_cache_{name} (\S+)$", http.get(f"{served.url}/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def cache_rows(found: dict[str, Any]) -> list[Sequence[object]]:
    first = [one[0]["seconds"] for one in found["before"]]
    pairs = list(zip(found["before"], found["after"], strict=True))
    second = [one[1]["seconds"] / one[0]["seconds"] for one in found["before"]]
    restarted = [after[0]["seconds"] / before[0]["seconds"] for before, after in pairs]
    same = sum(before[i]["said"] == after[i]["said"] for before, after in pairs for i in (0, 1))
    right = sum(
        answer in one[i]["said"] for one, both in zip(found["after"], found["answers"], strict=True) for i, answer in enumerate(both)
    )
    tokens = ", ".join(str(one[0]["tokens"]) for one in found["before"])
    from_disk = all(after[0]["cached"] for _, after in pairs)
    return [
        (f"prompts of {tokens} tokens: seconds to the first token", _each(first, 1), ""),
        ("second question, against the first", _each(second, 3), "at most 0.1"),
        ("from disk after a restart, against reading" + ("" if from_disk else " (NOT ALL FROM DISK)"), _each(restarted, 3), "at most 0.25"),
        ("16-bit bytes in memory, against bytes on disk", f"{found['memory_bytes'] / found['disk_bytes']:.2f}", "at least 3.5"),
        ("answers from disk that are those from memory; that hold the number", f"{same} of {2 * len(pairs)}; {right}", "all"),
    ]


def _each(values: Sequence[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def report(parts: Parts, model: str) -> str:
    """The page for the docs, from the parts that there are."""
    rows: list[Sequence[object]] = []
    if (found := parts.get("overhead")) is not None:
        rows.append(("time of a token, served against in process (256 tokens)", f"{found['ratio']:.3f}", "below 1.05"))
    if (found := parts.get("parallel")) is not None:
        rows.append(("tokens a second, four at once against one by one", f"{found['ratio']:.2f}", "at least 1.5"))
    if (found := parts.get("unlike")) is not None:
        rows.append(
            (f"tokens a second, sixteen of unlike length at once against one by one ({found['model']})", f"{found['ratio']:.2f}", "")
        )
    if (found := parts.get("load")) is not None:
        name = f"{found['connections']} connections for {found['seconds']:.0f} s"
        others = {k: v for k, v in found["outcomes"].items() if k not in ("completed", "refused")}
        rows += [
            (f"{name}: completed of accepted", f"{found['completed_of_accepted']:.1%}", "at least 95 %"),
            (f"{name}: errors other than 429", sum(others.values()), "0"),
            (
                f"{name}: pieces a second, and tokens a second of one alone",
                f"{found['tokens_per_s']:.1f}, {found['alone_tokens_per_s']:.1f}",
                "no less",
            ),
            (f"{name}: memory after a quarter, half, at the end, most (MB)", ", ".join(map(str, found["memory_mb"])), "flat"),
        ]
    if (found := parts.get("cache")) is not None:
        rows += cache_rows(found)
    command = f"Model: {model}. Printed by `python benchmarks/serve.py --model {model}`."
    return "\n".join(["# The server", "", command, "", table(("what", "measured", "wanted"), rows), ""])


def _reader(given: str) -> str:
    """A model that can be asked about a text, if it is there."""
    found = Path(path_of("qwen"))
    return str(found) if found.exists() else given


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the server.")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--parts", default="overhead,parallel,unlike,load,cache")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    parts = Parts("serve", only=options.parts.split(","), fresh=options.fresh)
    parts.run("overhead", lambda: overhead(options.model))
    parts.run("parallel", lambda: parallel(options.model))
    parts.run("unlike", lambda: unlike(_reader(options.model)))
    parts.run("load", lambda: load(options.model, options.connections, options.minutes))
    parts.run("cache", lambda: cache(_reader(options.model)))
    text = report(parts, options.model)
    (RESULTS / "serve.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
