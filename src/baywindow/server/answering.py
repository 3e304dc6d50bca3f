"""The seam: where a request's prompt is turned into model calls. Every route that generates text comes through `answered`.

What fits is asked directly, with the recipe's inside half in place. What does not fit, or has documents to be read, goes through
`bay.ask` with the whole recipe. Both give one `Outcome`, whose trace says what became of every part of the context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from baywindow.budget import Budget, Meter, Usage
from baywindow.config import Settings
from baywindow.context.ask import ask
from baywindow.context.run import ESTIMATE_MARGIN
from baywindow.documents.base import Corpus
from baywindow.documents.memory import InMemory
from baywindow.errors import ContextLengthError
from baywindow.models.base import Completion, Embedder, LanguageModel, Prompt, Sampling
from baywindow.recipe import Recipe
from baywindow.server.conversation import Asked, Conversation, Turn, taken_apart
from baywindow.server.names import Named
from baywindow.server.wrapped import Framed
from baywindow.trace import Citation, Event, Fate, Region, RegionKind, Step, Trace

LEAST_ANSWER_TOKENS = 256  # a prompt that leaves less than this, and less than was asked for, does not fit
DEFAULT_NEW_TOKENS = 1024  # of a direct reply to a request that names no limit
SURELY_TOO_LONG = 16  # characters a token of window: beyond this nothing is counted to know that it does not fit
SAMPLE_CHARACTERS = 40_000  # counted, of such a text, to tell its tokens

OnText = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A request understood, whatever route it came by.

    ``text`` is what the completions API continues, else None. ``new_tokens`` None: no limit was named. ``corpus`` is a vector store
    that the question is asked of.
    """

    named: Named
    conversation: Conversation
    sampling: Sampling
    new_tokens: int | None = None
    text: str | None = None
    corpus: Corpus | None = None
    embedder: Embedder | None = None
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A reply with its evidence. ``finish`` is OpenAI's word; ``tokens_in`` is the size of what the request held."""

    text: str
    finish: str
    usage: Usage
    trace: Trace
    tokens_in: int
    direct: bool
    citations: tuple[Citation, ...] = ()
    found: bool = True
    cached_tokens: int = 0  # of all calls, that an earlier request had the model read

    @property
    def regions(self) -> list[Region]:
        return [region for step in self.trace.steps for region in step.regions]

    def report(self) -> dict[str, Any]:
        """The ``baywindow`` field of a response."""
        kept = {(r.source, r.start, r.end): r.tokens for r in self.regions if r.kind == "passage" and r.fate == "kept"}
        tokens_kept = self.tokens_in if self.direct else sum(kept.values())
        left_out = max(0, self.tokens_in - tokens_kept) if not self.direct else 0
        return {
            "model": self.trace.model,
            "recipe": self.trace.recipe,
            "recipe_hash": self.trace.recipe_hash,
            "read": "direct" if self.direct else "recipe",
            "found": self.found,
            "tokens_in": self.tokens_in,
            "tokens_kept": tokens_kept,
            "tokens_left_out": left_out,
            "calls": self.usage.calls,
            "seconds": round(self.usage.seconds, 3),
            "estimated": self.usage.estimated,
            "cache_hit": self.cached_tokens > 0,
            "tokens_cached": self.cached_tokens,
            "notes": list(self.trace.notes),
            "steps": [_step(step) for step in self.trace.steps],
        }


def answered(task: Task, model: LanguageModel, on_text: OnText) -> Outcome:
    """Generate the reply, telling ``on_text`` its pieces as they come. Runs in a thread; raises BayError, or Cancelled from the model."""
    with _inside(model, task.named.recipe) as view:
        tokens_in = size_of(task, view)
        asked = None
        if needs_reading(task, view, tokens_in):
            asked = taken_apart(_whole(task), view.count_tokens, view.context_length)
        if asked is None or not (asked.documents or task.corpus is not None):
            return _direct(task, view, tokens_in, on_text)
    return _read(task, asked, model, tokens_in, on_text)


@contextmanager
def _inside(model: LanguageModel, recipe: Recipe) -> Iterator[LanguageModel]:
    if not recipe.inside:
        yield model
        return
    Recipe(recipe.inside).check_capabilities(model.capabilities, model.name)
    with model.attached(recipe.inside) as view:
        yield view


def _whole(task: Task) -> Conversation:
    """A text to be continued, when it does not fit, is a message like any other."""
    return task.conversation if task.text is None else Conversation((Turn("user", (task.text,)),))


def _prompt(task: Task) -> Prompt | str:
    return task.text if task.text is not None else task.conversation.messages


def size_of(task: Task, view: LanguageModel) -> int:
    """Tokens of the whole request; of one that is sure not to fit, told from a part of it."""
    prompt = _prompt(task)
    text = prompt if isinstance(prompt, str) else "\n\n".join(m.content for m in prompt)
    if len(text) > SURELY_TOO_LONG * view.context_length:
        part = text[:SAMPLE_CHARACTERS]
        return max(view.context_length + 1, round(view.count_tokens(part) * len(text) / len(part)))
    return view.count_tokens(prompt)


def needs_reading(task: Task, view: LanguageModel, tokens_in: int) -> bool:
    """Whether the outside half acts: a store is asked, the request names that half, or the prompt does not fit."""
    if task.corpus is not None or task.named.explicit:
        return True
    return _room(view, tokens_in) < min(task.new_tokens or DEFAULT_NEW_TOKENS, LEAST_ANSWER_TOKENS)


def _room(view: LanguageModel, tokens_in: int) -> int:
    window = view.context_length if view.exact_counts else int(view.context_length * (1 - ESTIMATE_MARGIN))
    return window - tokens_in


def _direct(task: Task, view: LanguageModel, tokens_in: int, on_text: OnText) -> Outcome:
    if (room := _room(view, tokens_in)) < 1:
        raise ContextLengthError(
            f"the prompt has {tokens_in} tokens, the window {view.context_length}, and no part of it is a text to choose from",
            hint="put the long text into a message or a file, and the question into the last message",
        )
    meter = Meter(prices=task.settings.token_prices())
    sampling = replace(task.sampling, max_new_tokens=min(task.new_tokens or DEFAULT_NEW_TOKENS, room))
    stream = view.generate(_prompt(task), sampling)  # type: ignore[arg-type]  # the routes send plain text only to models that take it
    for piece in stream:
        on_text(piece)
    done = stream.completion
    meter.charge(done.prompt_tokens, done.generated_tokens, estimated=done.estimated)
    remark = view.remark()
    recipe = Recipe(task.named.recipe.inside)
    step = Step(
        name="direct",
        calls=1,
        tokens_in=done.prompt_tokens,
        tokens_out=done.generated_tokens,
        seconds=meter.usage.seconds,
        regions=_regions(task, view, done),
        note=remark,
    )
    notes = (remark,) if remark else ()
    trace = Trace(recipe=str(recipe), recipe_hash=recipe.hash, model=task.named.model, steps=(step,), notes=notes)
    return Outcome(
        text=done.text,
        finish=finish_of(done),
        usage=meter.usage,
        trace=trace,
        tokens_in=tokens_in,
        direct=True,
        cached_tokens=done.cached_tokens,
    )


def _regions(task: Task, view: LanguageModel, done: Completion) -> tuple[Region, ...]:
    """System, the rest and the question, in this order, the first tokens of them from the cache; they add up to the prompt's."""
    cached, regions = done.cached_tokens, []
    for kind, tokens in _sizes(task, view, done):
        fates: tuple[tuple[Fate, int], ...] = (("cached", min(cached, tokens)), ("kept", tokens - min(cached, tokens)))
        regions += [Region(kind=kind, tokens=n, fate=fate) for fate, n in fates if n or (not tokens and fate == "kept")]
        cached -= min(cached, tokens)
    return tuple(regions)


def _sizes(task: Task, view: LanguageModel, done: Completion) -> tuple[tuple[RegionKind, int], ...]:
    if task.text is not None:
        return (("other", done.prompt_tokens),)
    system = sum(view.count_tokens(turn.text) for turn in task.conversation.turns if turn.role == "system")
    last = next((turn.text for turn in reversed(task.conversation.turns) if turn.role == "user"), "")
    question = view.count_tokens(last)
    return (("system", system), ("other", max(0, done.prompt_tokens - system - question)), ("question", question))


def _read(task: Task, asked: Asked, model: LanguageModel, tokens_in: int, on_text: OnText) -> Outcome:
    corpus = task.corpus
    if corpus is None:
        corpus = InMemory(asked.documents, chunk_tokens=task.settings.chunk_tokens, embedder=task.embedder)
    framed = Framed(model, asked.instructions, task.sampling)
    notes = ["the recipe reads the vector store; long text in the messages was left out"] if task.corpus and asked.documents else []

    def hear(event: Event) -> None:
        if event.kind == "token":
            on_text(event.text)

    answer = ask(
        asked.question,
        corpus,
        recipe=_limited(task.named.recipe, task.new_tokens),
        model=framed,
        budget=Budget(seconds=task.sampling.seconds) if task.sampling.seconds != float("inf") else None,
        on_event=hear,
        settings=task.settings,
    )
    trace = replace(answer.trace, model=task.named.model, notes=(*answer.trace.notes, *notes))
    return Outcome(
        text=answer.text,
        finish=finish_of(framed.last) if framed.last is not None else "stop",
        usage=answer.usage,
        trace=trace,
        tokens_in=tokens_in,
        direct=False,
        citations=answer.citations,
        found=answer.found,
        cached_tokens=framed.cached_tokens,
    )


def _limited(recipe: Recipe, new_tokens: int | None) -> Recipe:
    """The recipe with its reader held to the request's limit, where it has one."""
    *before, reader = recipe.outside
    if new_tokens is None or "max_new_tokens" not in reader.options():
        return recipe
    return Recipe(recipe.inside, (*before, replace(reader, max_new_tokens=new_tokens)))  # type: ignore[type-var]


def finish_of(done: Completion) -> str:
    """In OpenAI's words; a deadline cuts a reply off as a limit does."""
    return "stop" if done.finish == "stop" else "length"


def _step(step: Step) -> dict[str, Any]:
    shown = ("name", "calls", "tokens_in", "tokens_out", "note")
    regions = [{k: getattr(r, k) for k in ("kind", "tokens", "fate", "source", "start", "end")} for r in step.regions]
    return {**{name: getattr(step, name) for name in shown}, "seconds": round(step.seconds, 3), "regions": regions}
