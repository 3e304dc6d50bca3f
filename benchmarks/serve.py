"""What the server costs and what it stands: overhead, four requests at once, and many connections held open.

    python benchmarks/serve.py [--model embedded] [--parts overhead,parallel,load] [--minutes 5] [--connections 200] [--fresh]

Parts (each kept as it is finished; the same command goes on where it stopped):
  overhead   an answer of 256 tokens by the model in this process, and by a server of the same model, in turn; medians and their ratio
  parallel   four requests one after the other, and the same four at once; ratio of the times
  load       so many connections, each asking again and again: what was completed, refused (429) and broken, tokens a second, memory

All traffic stays on this machine (127.0.0.1) and ends by itself. The server is a process of its own, as a person starts it.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
from _report import RESULTS, Parts, table

from baywindow.models import select
from baywindow.models.base import Message, Sampling

NEW_TOKENS = 256
ROUNDS = 3
LOAD_TOKENS = 16
PROMPTS = [f"Once upon a time, in town number {n}, there lived" for n in range(8)]


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
def server(model: str) -> Iterator[Served]:
    script = f"import sys; sys.argv = ['bay', 'serve', '--model', {model!r}, '--port', '0']; from baywindow.cli.main import app; app()"
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
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
            serial.append(_rate(served, http, workers=1))
            at_once.append(_rate(served, http, workers=4))
    return {"serial_tokens_per_s": serial, "at_once_tokens_per_s": at_once, "ratio": statistics.median(at_once) / statistics.median(serial)}


def _rate(served: Served, http: httpx.Client, workers: int) -> float:
    started = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        replies = list(pool.map(lambda prompt: served.complete(http, prompt, 64).json(), PROMPTS[:4]))
    return float(sum(reply["usage"]["completion_tokens"] for reply in replies) / (time.monotonic() - started))


def load(name: str, connections: int, minutes: float) -> dict[str, Any]:
    """Every connection streams one reply after the other; a 429 is waited out as its header says."""
    outcomes: Counter[str] = Counter()
    tokens = [0]
    lock = threading.Lock()
    with server(name) as served, client() as http:
        alone = _rate(served, http, workers=1)
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


def report(parts: Parts, model: str) -> str:
    """The page for the docs, from the parts that there are."""
    rows: list[Sequence[object]] = []
    if (found := parts.get("overhead")) is not None:
        rows.append(("time of a token, served against in process (256 tokens)", f"{found['ratio']:.3f}", "below 1.05"))
    if (found := parts.get("parallel")) is not None:
        rows.append(("tokens a second, four at once against one by one", f"{found['ratio']:.2f}", "at least 1.5"))
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
    command = f"Model: {model}. Printed by `python benchmarks/serve.py --model {model}`."
    return "\n".join(["# The server", "", command, "", table(("what", "measured", "wanted"), rows), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the server.")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--parts", default="overhead,parallel,load")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    parts = Parts("serve", only=options.parts.split(","), fresh=options.fresh)
    parts.run("overhead", lambda: overhead(options.model))
    parts.run("parallel", lambda: parallel(options.model))
    parts.run("load", lambda: load(options.model, options.connections, options.minutes))
    text = report(parts, options.model)
    (RESULTS / "serve.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
