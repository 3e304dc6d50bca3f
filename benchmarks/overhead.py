"""A reader's own overhead: what of a question's processor time is not the model's.

    python benchmarks/overhead.py [--model embedded] [--readers stuff,rag] [--samples 2] [--hours 0.5]

Every reader answers from about 2,000 tokens of Python's language reference with the model held to 1,024. The model's share is the processor
time inside its calls (writing, scoring, looking inside); counting tokens, packing prompts, search and checking citations are the reader's.
The embedder's work is left out of both: it is another model. Processor time, because other work on the machine does not change it.

Resumable: rows are kept as they come.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _report import table
from _rows import ROWS, Rows, shown, write

from baywindow import registry
from baywindow.bench.haystack import Haystack
from baywindow.config import Settings
from baywindow.context.ask import ask
from baywindow.documents.base import Document
from baywindow.documents.sources import open_corpus
from baywindow.errors import BayError
from baywindow.models import select
from baywindow.models.base import Embedder, LanguageModel, Prompt, Sampling, Stream
from baywindow.models.embedders import default_embedder
from baywindow.recipe import Recipe

WINDOW, CHARACTERS = 1024, 8000
QUESTION = "What does the del statement do?"
GREEDY = Sampling()
GOAL = 0.05


class Clock:
    """Processor seconds spent inside what it is put around; nested calls count once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._depth += 1
        started = time.process_time()
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.process_time() - started


def watch(model: LanguageModel, clock: Clock) -> None:
    """Put the clock around every call of the model that computes with its weights."""

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with clock():
                return call(*args, **kwargs)

        return run

    written = model.generate

    def generate(prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        with clock():
            stream = written(prompt, sampling)

        def pieces() -> Iterator[str]:
            inner = iter(stream)
            while True:
                with clock():
                    piece = next(inner, None)
                if piece is None:
                    return
                yield piece

        def finish(text: str) -> Any:
            with clock():
                return stream.completion

        return Stream(pieces(), finish)

    for name in ("generate_many", "score", "score_many", "inspect", "last_states"):
        setattr(model, name, timed(getattr(model, name)))
    model.generate = generate  # type: ignore[method-assign]


def watch_embedder(embedder: Embedder, clock: Clock) -> None:
    embed = embedder.embed

    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock():
            return embed(*args, **kwargs)

    embedder.embed = timed  # type: ignore[method-assign]


def measured(reader: str, text: str, model: LanguageModel, embedder: Embedder, calls: Clock, embeds: Clock) -> dict[str, Any]:
    settings = Settings(context=WINDOW)
    before = calls.seconds, embeds.seconds
    started = time.process_time()
    corpus = open_corpus([Document(text=text, source="reference.txt")], embedder=embedder, settings=settings)
    recipe = Recipe((), (registry.get(reader)(),))
    try:
        answer = ask(QUESTION, corpus, recipe=recipe, model=model, budget="calls=40", settings=settings)
    except BayError as error:
        return {"error": str(error)}
    whole = time.process_time() - started - (embeds.seconds - before[1])
    return {"cpu_seconds": whole, "model_seconds": calls.seconds - before[0], "calls": answer.usage.calls}


def report(rows: Rows, model: str, command: str) -> None:
    lines, shares = [], {}
    for card in registry.cards("context/read"):
        mine = [r for r in rows.rows if r["model"] == model and r["reader"] == card.name]
        good = [r for r in mine if "error" not in r]
        if not mine:
            continue
        share = [1 - r["model_seconds"] / r["cpu_seconds"] for r in good]
        shares[card.name] = sum(share) / len(share) if share else None
        seconds, calls = (f"{sum(r[key] for r in good) / len(good):.1f}" if good else "–" for key in ("cpu_seconds", "calls"))
        lines.append([f"`{card.name}`", shown(share), calls, seconds, len(mine) - len(good)])
    over = [name for name, share in shares.items() if share is not None and share >= GOAL]
    head = ["reader", "share that is not the model's", "calls", "processor seconds", "errors"]
    verdict = f"Goal: below {GOAL:.0%}. Not met by: {', '.join(over) or 'none'}."
    write(
        "overhead",
        "What readers cost beside the model",
        f"Model: {model}.\n\n{table(head, lines)}\n\n{verdict}",
        {"shares": shares},
        command,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--readers", default="", help="only these (default: all)")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--hours", type=float, default=0.5, help="no new question is asked after this time")
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    options = parser.parse_args()
    path = ROWS / "overhead.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, lambda r: (r["model"], r["reader"], r["sample"]))
    readers = options.readers.split(",") if options.readers else [card.name for card in registry.cards("context/read")]
    end = time.monotonic() + options.hours * 3600
    model, embedder = select.load(options.model, settings=Settings(context=WINDOW)), default_embedder()
    calls, embeds = Clock(), Clock()
    watch(model, calls)
    watch_embedder(embedder, embeds)
    words = " ".join(islice(Haystack.installed(), CHARACTERS * options.samples // 20))  # a sentence has at least 20 characters
    measured("rag", words[:CHARACTERS], model, embedder, calls, embeds)  # what the first question of a process loads is nobody's overhead
    for sample in range(options.samples):
        for reader in readers:
            key = {"model": options.model, "reader": reader, "sample": sample}
            if rows.has(key) or time.monotonic() > end:
                continue
            text = words[sample * CHARACTERS : (sample + 1) * CHARACTERS]
            rows.add({**key, **measured(reader, text, model, embedder, calls, embeds)})
            print(rows.rows[-1], flush=True)
    report(rows, options.model, f"python benchmarks/overhead.py --model {options.model}")


if __name__ == "__main__":
    main()
