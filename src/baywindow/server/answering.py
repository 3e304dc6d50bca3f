"""The seam: where a request's prompt is turned into model calls. Every route that generates text comes through `answered`.

What fits is asked directly, with the recipe's inside half in place. What does not fit, or has documents to be read, goes through
`bay.ask` with the whole recipe; where the reply is to have a form of its own (calls, JSON, scores, several of it), the recipe's stages
choose passages instead, and the model itself answers. All give one `Outcome`, whose trace says what became of every part of the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from baywindow.budget import Budget, Meter
from baywindow.context.ask import ask
from baywindow.context.run import ESTIMATE_MARGIN
from baywindow.documents.memory import InMemory
from baywindow.errors import ContextLengthError
from baywindow.models.base import Completion, LanguageModel, Sampling
from baywindow.recipe import Recipe
from baywindow.server.conversation import Asked, Conversation, Turn, taken_apart
from baywindow.server.outcome import Choice, Hear, Outcome, Said, Speaker, finish_of
from baywindow.server.shortening import shortened
from baywindow.server.task import LEAST_ANSWER_TOKENS, Task
from baywindow.server.wrapped import Framed
from baywindow.trace import Event, Fate, Region, RegionKind, Step, Trace

DEFAULT_NEW_TOKENS = 1024  # of a direct reply to a request that names no limit
SURELY_TOO_LONG = 16  # characters a token of window: beyond this nothing is counted to know that it does not fit
SAMPLE_CHARACTERS = 40_000  # counted, of such a text, to tell its tokens


def answered(task: Task, model: LanguageModel, hear: Hear) -> Outcome:
    """Generate the replies, telling ``hear`` their pieces as they come. Runs in a thread; raises BayError, or Cancelled from the model."""
    with _inside(model, task.named.recipe) as view:
        tokens_in = size_of(task, view)
        asked = None
        if needs_reading(task, view, tokens_in):
            asked = taken_apart(_whole(task), view.count_tokens, view.context_length)
        if asked is None or not (asked.documents or task.corpus is not None):
            return _direct(task, view, tokens_in, hear)
        if task.shaped:
            return _shortened(task, view, tokens_in, hear)
    return _read(task, asked, model, tokens_in, hear)


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


def size_of(task: Task, view: LanguageModel) -> int:
    """Tokens of the whole request; of one that is sure not to fit, told from a part of it."""
    prompt = task.prompt
    text = prompt if isinstance(prompt, str) else "\n\n".join(m.content for m in prompt)
    if len(text) > SURELY_TOO_LONG * view.context_length:
        part = text[:SAMPLE_CHARACTERS]
        return max(view.context_length + 1, round(view.count_tokens(part) * len(text) / len(part)))
    if task.sampling.tools and not isinstance(prompt, str):
        return view.prompt_tokens(prompt, task.sampling)
    return view.count_tokens(prompt)


def needs_reading(task: Task, view: LanguageModel, tokens_in: int) -> bool:
    """Whether the outside half acts: a store is asked, the request names that half, or the prompt does not fit."""
    if task.corpus is not None or task.named.explicit:
        return True
    return _room(view, tokens_in) < min(task.new_tokens or DEFAULT_NEW_TOKENS, LEAST_ANSWER_TOKENS)


def _room(view: LanguageModel, tokens_in: int) -> int:
    window = view.context_length if view.exact_counts else int(view.context_length * (1 - ESTIMATE_MARGIN))
    return window - tokens_in


def _direct(task: Task, view: LanguageModel, tokens_in: int, hear: Hear) -> Outcome:
    if (room := _room(view, tokens_in)) < 1:
        raise ContextLengthError(
            f"the prompt has {tokens_in} tokens, the window {view.context_length}, and no part of it is a text to choose from",
            hint="put the long text into a message or a file, and the question into the last message",
        )
    meter = Meter(prices=task.settings.token_prices())
    sampling = replace(task.sampling, max_new_tokens=min(task.new_tokens or DEFAULT_NEW_TOKENS, room))
    done, choices = _spoken(task, view, sampling, hear)
    for i, one in enumerate(done):  # the prompt is one, however many replies it has
        meter.charge(0 if i else one.prompt_tokens, one.generated_tokens, estimated=one.estimated)
    remark = view.remark()
    recipe = Recipe(task.named.recipe.inside)
    step = Step(
        name="direct",
        calls=len(done),
        tokens_in=meter.usage.prompt_tokens,
        tokens_out=meter.usage.generated_tokens,
        seconds=meter.usage.seconds,
        regions=_regions(task, view, done[0]),
        note=remark,
    )
    notes = (remark,) if remark else ()
    trace = Trace(recipe=str(recipe), recipe_hash=recipe.hash, model=task.named.model, steps=(step,), notes=notes)
    cached = done[0].cached_tokens
    return Outcome(choices=choices, usage=meter.usage, trace=trace, tokens_in=tokens_in, read="direct", cached_tokens=cached)


def _spoken(task: Task, view: LanguageModel, sampling: Sampling, hear: Hear) -> tuple[list[Completion], tuple[Choice, ...]]:
    """The replies to one prompt, each from a seed of its own."""
    count = range(task.choices)
    speakers = [Speaker(hear, i, sampling.tools, one_call=task.one_call) for i in count]
    together = view.together([task.prompt] * task.choices, [replace(sampling, seed=sampling.seed + i) for i in count])
    for texts in together:
        for speaker, text in zip(speakers, texts, strict=True):
            speaker.push(text)
    done = [together.completion(i) for i in count]
    scored = sampling.logprobs is not None
    return done, tuple(speaker.end(one, scored=scored) for speaker, one in zip(speakers, done, strict=True))


def _shortened(task: Task, view: LanguageModel, tokens_in: int, hear: Hear) -> Outcome:
    """Passages in the place of the long text, and the model's own reply to them."""
    made = shortened(task, view)
    turns = tuple(Turn(message.role, (message.content,)) for message in made.messages)
    short = replace(task, conversation=Conversation(turns), text=None, corpus=None)
    found = _direct(short, view, size_of(short, view), hear)
    chosen = Step(name="shortened", calls=0, tokens_in=0, tokens_out=0, seconds=0.0, regions=made.packed.regions(made.run))
    notes = (*found.trace.notes, *made.run.notes)
    trace = replace(found.trace, recipe=made.recipe, recipe_hash=task.named.recipe.hash, steps=(chosen, *found.trace.steps), notes=notes)
    return replace(found, trace=trace, tokens_in=tokens_in, read="shortened")


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


def _read(task: Task, asked: Asked, model: LanguageModel, tokens_in: int, hear: Hear) -> Outcome:
    corpus = task.corpus
    if corpus is None:
        corpus = InMemory(asked.documents, chunk_tokens=task.settings.chunk_tokens, embedder=task.embedder)
    framed = Framed(model, asked.instructions, task.sampling)
    notes = ["the recipe reads the vector store; long text in the messages was left out"] if task.corpus and asked.documents else []

    def tell(event: Event) -> None:
        if event.kind == "token":
            hear(Said(event.text))

    answer = ask(
        asked.question,
        corpus,
        recipe=_limited(task.named.recipe, task.new_tokens),
        model=framed,
        budget=Budget(seconds=task.sampling.seconds) if task.sampling.seconds != float("inf") else None,
        on_event=tell,
        settings=task.settings,
    )
    trace = replace(answer.trace, model=task.named.model, notes=(*answer.trace.notes, *notes))
    return Outcome(
        choices=(Choice(text=answer.text, finish=finish_of(framed.last) if framed.last is not None else "stop"),),
        usage=answer.usage,
        trace=trace,
        tokens_in=tokens_in,
        read="recipe",
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
