"""One sample through one recipe: replies, scores, and what they cost.

Which way a question goes depends on the recipe alone and stands in every row as its *protocol*:

``prompt, context first``  no outside part, a model whose weights are open: the published prompt (instruction, documents, question, the
                           reply's given beginning after the assistant mark). Instruction and documents are read and compressed before
                           any question is known; every question is then asked of a copy of what was kept.
``prompt``                 no outside part, any other model: the published prompt as one message, the reply's beginning at its end.
``ask``                    an outside part: `ask` with the documents in memory. With an inside part too, that acts on the prompts that
                           `ask` makes, question included. The gold answer is scored after the prompt of the last call.
``evidence``               a sample that is about what is found, whatever the recipe: see `bench.evidence`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from baywindow.bench import asking, evidence, find
from baywindow.bench.base import Sample, Turn
from baywindow.bench.machine import Peak
from baywindow.bench.store import Row
from baywindow.config import Settings
from baywindow.documents.sources import open_corpus
from baywindow.errors import BayError
from baywindow.models.base import Completion, Embedder, LanguageModel, Message, Sampling, Stream
from baywindow.models.reading import Reader, Reading
from baywindow.recipe import Recipe

CONTEXT_FIRST, PROMPT, ASK = "prompt, context first", "prompt", "ask"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How rows are measured: whether a reply is written (else only the gold answer's likelihood), its greatest length (0: the task's
    own), and what one question may spend on its way through `ask` (as `Budget.parse` reads it)."""

    generate: bool = True
    max_new_tokens: int = 0
    budget: str = ""

    def sampling(self, turn: Turn) -> Sampling:
        return Sampling(max_new_tokens=min(turn.max_new_tokens, self.max_new_tokens or turn.max_new_tokens))


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What every measurement of a run uses. ``embedder`` is loaded by the first recipe that searches, and only then; ``memories`` are
    filled by the first sample that asks them, and closed with the run."""

    model: LanguageModel
    settings: Settings
    embedder: Callable[[], Embedder | None] = lambda: None
    memories: evidence.Memories = field(default_factory=evidence.Memories)
    stop: threading.Event = field(default_factory=threading.Event)  # set: nobody waits for what is under way

    def embedder_for(self, recipe: Recipe) -> Embedder | None:
        """Ready to work where the recipe needs one: loading it is no part of what a sample costs."""
        found = self.embedder()
        if found is not None and "embedder" in recipe.needs:
            found.embed(["ready"])
        return found


def protocol_of(recipe: Recipe, model: LanguageModel) -> str:
    if recipe.outside:
        return ASK
    return CONTEXT_FIRST if "weights" in model.capabilities else PROMPT


def measured(sample: Sample, recipes: Sequence[tuple[Recipe, Row]], desk: Desk, way: Way) -> Iterator[list[Row]]:
    """The rows of one sample, recipe after recipe; each comes with a row that already says what it is of.

    What fails is a row with its error; only Ctrl-C and the like end the iteration.
    """
    text = "" if sample.metadata.get("finds") else "\n".join(part for part in (sample.instruction, sample.context) if part)
    with _reader(desk.model, text) as reader:
        for recipe, blank in recipes:
            with Peak() as peak:
                rows = _rows(_each(sample, recipe, blank, desk, way, reader), blank, len(sample.asked))
            yield [replace(row, peak_rss_bytes=peak.bytes) for row in rows]


def _rows(measuring: Iterator[Row], blank: Row, turns: int) -> list[Row]:
    """All rows that came; from the turn that failed on, rows with the error."""
    rows: list[Row] = []
    try:
        for row in measuring:
            rows.append(row)
    except Exception as error:  # of any technique or backend: a failing sample is a recorded error, not a stopped run
        rows += [replace(blank, turn=i, error=told_error(error)) for i in range(len(rows), turns)]
    return rows


def _each(sample: Sample, recipe: Recipe, blank: Row, desk: Desk, way: Way, reader: Reader | None) -> Iterator[Row]:
    if sample.metadata.get("finds"):
        yield from (_merged(blank, figures, turn=i) for i, figures in enumerate(evidence.found(sample, recipe, desk)))
    elif recipe.outside:
        yield from _asked(sample, recipe, blank, desk, way)
    elif reader is not None:
        yield from _context_first(sample, recipe, blank, reader, way)
    else:
        yield from _prompted(sample, blank, desk.model, way)


# -- the published prompt, context first --------------------------------------------------------------------------------------------


def _context_first(sample: Sample, recipe: Recipe, blank: Row, reader: Reader, way: Way) -> Iterator[Row]:
    with reader.through(recipe.inside) as reading:
        for i, turn in enumerate(sample.asked):
            cpu = time.process_time()
            found = _after(reading, turn, way)
            yield _merged(blank, found, turn=i, cpu_seconds=reading.cpu_seconds + time.process_time() - cpu)


def _after(reading: Reading, turn: Turn, way: Way) -> dict[str, object]:
    """The figures of one question after a text that was read."""
    asked = reading.ask(turn.question, turn.answer_prefix)
    score = asked.score(answer_text(turn))
    found: dict[str, object] = {
        "nll": score.nll,
        "nll_tokens": len(score.logprobs),
        "kv_bytes": reading.nbytes,
        "prompt_tokens": reading.tokens + asked.tokens,
        "calls": 1,
        "notes": "; ".join(reading.notes),
    }
    before = reading.seconds + asked.seconds
    if not way.generate:
        return found | {"seconds": before}
    return found | _timed(asked.generate(way.sampling(turn)), turn, before)


def answer_text(turn: Turn) -> str:
    """The gold answer as the text whose likelihood is measured: what the task names, else all gold answers where the scorer wants all.

    It continues the reply's given beginning, so it starts with a blank where that does not end with one.
    """
    named = turn.metadata.get("answer")
    options = [str(named)] if named else [turn.gold[0], ", ".join(turn.gold)]
    chosen = next((text for text in options if find.score(text, turn) >= 1.0), options[-1])
    begun = turn.answer_prefix
    return chosen if begun.endswith((" ", "\n")) else f" {chosen}"


def _timed(stream: Stream, turn: Turn, before: float) -> dict[str, object]:
    """Reply, score and times; ``before`` is what passed before the stream began."""
    started, first = time.perf_counter(), None
    for _ in stream:
        first = first or time.perf_counter()
    ended = time.perf_counter()
    done: Completion = stream.completion
    found: dict[str, object] = {
        "reply": done.text.strip(),
        "score": find.score(done.text, turn),
        "generated_tokens": done.generated_tokens,
        "seconds": before + ended - started,
    }
    if first is not None:
        found["first_token_s"] = before + first - started
        if done.generated_tokens > 1 and ended > first:
            found["tokens_per_s"] = (done.generated_tokens - 1) / (ended - first)
    return found


# -- the published prompt in one piece ----------------------------------------------------------------------------------------------


def _prompted(sample: Sample, blank: Row, model: LanguageModel, way: Way) -> Iterator[Row]:
    for i, turn in enumerate(sample.asked):
        text = "\n".join(part for part in (sample.instruction, sample.context, turn.question) if part)
        prompt = [Message("user", text + _gap(turn.answer_prefix) + turn.answer_prefix)]
        stream = model.generate(prompt, way.sampling(turn))
        found = _timed(stream, turn, 0.0)
        found |= {"prompt_tokens": stream.completion.prompt_tokens, "calls": 1}
        if "logprobs" in model.capabilities:
            score = model.score(prompt, answer_text(turn))
            found |= {"nll": score.nll, "nll_tokens": len(score.logprobs)}
        yield _merged(blank, found, turn=i)


def _gap(begun: str) -> str:
    return "" if not begun or begun[0].isspace() else " "


# -- through ask ----------------------------------------------------------------------------------------------------------------------


def _asked(sample: Sample, recipe: Recipe, blank: Row, desk: Desk, way: Way) -> Iterator[Row]:
    model = desk.model
    recipe.check_capabilities(model.capabilities, model.name)
    recipe = _at_most(recipe, way.max_new_tokens)
    place: AbstractContextManager[LanguageModel] = model.attached(recipe.inside) if recipe.inside else nullcontext(model)
    with place as view:
        corpus = open_corpus(list(sample.documents), embedder=desk.embedder_for(recipe), settings=desk.settings)
        for i, turn in enumerate(sample.asked):
            cpu = time.process_time()
            told = asking.told(turn.question, corpus, recipe, view, desk.settings, way.budget, desk.stop)
            cpu = time.process_time() - cpu
            found: dict[str, object] = {
                "reply": told.text,
                "score": find.score(told.text, turn),
                "first_token_s": told.first_token_s,
                "tokens_per_s": told.tokens_per_s,
                "seconds": told.seconds,
                "cpu_seconds": cpu,
                "prompt_tokens": told.usage.prompt_tokens,
                "generated_tokens": told.usage.generated_tokens,
                "calls": told.usage.calls,
                "usd": told.usage.usd,
                "notes": "; ".join(told.notes),
            }
            # A compressed prompt cannot be scored as it was read: the question took part in the compression.
            if "logprobs" in model.capabilities and told.prompt and not recipe.inside:
                score = view.score(told.prompt, answer_text(replace(turn, answer_prefix="")))
                found |= {"nll": score.nll, "nll_tokens": len(score.logprobs)}
            yield _merged(blank, found, turn=i)


def _at_most(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe with a reader that writes no more than the run lets a reply have (0: what the reader is set to)."""
    recipe = recipe.with_defaults()
    reader: Any = recipe.outside[-1]
    if not 0 < tokens < getattr(reader, "max_new_tokens", 0):
        return recipe
    return replace(recipe, outside=(*recipe.outside[:-1], replace(reader, max_new_tokens=tokens)))


# -- small things ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def _reader(model: LanguageModel, text: str) -> Iterator[Reader | None]:
    if "weights" in model.capabilities and text.strip():
        with model.read(text) as reader:
            yield reader
    else:
        yield None


def _merged(blank: Row, found: dict[str, object], **more: object) -> Row:
    return replace(blank, **{**found, **more})  # type: ignore[arg-type]


def told_error(error: Exception) -> str:
    """What a row says of a failure, in one line."""
    text = str(error) if isinstance(error, BayError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
