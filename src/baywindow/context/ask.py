"""The two entry points of the text rooms: `ask` and `search`. The CLI, the bench, the server and the chat all call these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, cast

from baywindow import recipe as recipes
from baywindow.budget import Budget, Meter
from baywindow.config import Settings
from baywindow.context.base import Reader, Retriever
from baywindow.context.cite import cite, quote_best
from baywindow.context.remembered import Recollector, Remembered, memory_of
from baywindow.context.reply import NOT_FOUND_TEXT, declined
from baywindow.context.run import Run
from baywindow.context.screened import Screened, tell_left_out, whole
from baywindow.context.stages import DEFAULT_RETRIEVER, run_stages
from baywindow.documents.base import Corpus, Passage
from baywindow.documents.sources import Sources, open_corpus
from baywindow.errors import ConfigError, RecipeError
from baywindow.models import select
from baywindow.models.base import LanguageModel
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.trace import Answer, Event, Trace

RecipeLike = str | Recipe | Mapping[str, Any]
DEFAULT_RECIPE = "default"
SHOWN_WITHOUT_ANSWER = 3
NO_ANSWER_TEXT = "The budget ended before an answer was written; the passages nearest to the question are cited below."


def ask(
    question: str,
    sources: Sources,
    *,
    recipe: RecipeLike | None = None,
    model: str | LanguageModel | None = None,
    budget: str | Budget | None = None,
    memory: Recollector | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
) -> Answer:
    """Answer a question from documents, with citations that were checked against them.

    ``sources`` is a path, glob, ``-`` or a list of them, an Index, or Documents in memory. Without ``recipe`` and ``model`` the settings
    decide. What a ``memory`` (`Memory`) recalls stands before the passages. ``on_event`` hears tokens, steps and remarks while they come.
    Raises a `BayError` with a hint for anything that a person can mend: a recipe the model cannot run, a budget below the least possible
    cost, a source that cannot be read.
    """
    if not question.strip():
        raise ConfigError("the question is empty", hint='bay ask "What is …?" FILES')
    settings = settings or Settings()
    plan = recipes.parse(_chosen(recipe, settings)).with_defaults()
    limits = Budget.parse(budget) if isinstance(budget, str) else budget or Budget()
    meter = Meter(budget=limits, prices=settings.token_prices())
    # Sources first: a missing path shows at once, a model takes seconds to load.
    corpus = _opened_corpus(sources, settings, on_event)
    with _opened_model(model, settings, plan) as opened:
        plan.check_capabilities(opened.capabilities, opened.name)
        read = Screened(corpus, question) if settings.orders == "leave_out" else corpus
        return _answer(Run(question, read, opened, meter=meter, on_event=on_event), plan, memory)


def search(
    query: str,
    sources: Sources,
    *,
    recipe: RecipeLike = DEFAULT_RETRIEVER,
    k: int = 10,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[Passage]:
    """The best ``k`` passages for a query, best first. No model is needed; retrievers that need one are refused with the reason."""
    if not query.strip():
        raise ConfigError("the query is empty", hint='bay search "words" FILES')
    if k < 1:
        raise ConfigError.bad_value("k", k, "at least 1")
    settings = settings or Settings()
    plan = recipes.parse(_chosen(recipe, settings))
    if plan.inside or any(not isinstance(part, Retriever) for part in plan.outside) or not plan.outside:
        raise RecipeError("`search` takes retrievers only", hint="e.g. hybrid, full_text or vectors; `bay list retrieve` shows all")
    run = Run(query, _opened_corpus(sources, settings, on_event), on_event=on_event)
    found = run_stages(run, [_at_least(part, k) for part in plan.outside]) or []
    _pass_on_notes(run)
    return found[:k]


def _at_least(part: Any, k: int) -> Any:
    """A retriever that returns at least ``k`` passages: what the caller asks for wins over its default."""
    return replace(part, k=k) if getattr(part, "k", k) < k else part


def _answer(run: Run, plan: Recipe, memory: Recollector | None) -> Answer:
    reader = cast(Reader, plan.outside[-1])
    run.meter.refuse_if_above(reader.least(run))
    part, stages = memory_of(plan.outside[:-1])
    _remember(run, part, memory)
    passages = run_stages(run, stages)
    text = reader.read(run, passages)
    _pass_on_notes(run)
    tell_left_out(run, found=bool(text.strip()) and not declined(text))
    if run.remembered is not None and not run.remembered.shown:
        run.note(f"{reader.card.name} answered without what was remembered: its last call has no place for it")
    if not text.strip():
        return _without_answer(run, plan, passages)
    if declined(text):
        run.say(NOT_FOUND_TEXT)
        return Answer(text=NOT_FOUND_TEXT, usage=run.meter.usage, trace=_trace(run, plan), found=False)
    cited = cite(text, run.question, run.numbered, whole(run.corpus))
    for note in cited.notes:
        run.note(note)
    if cited.text.startswith(text.rstrip()):
        run.say(cited.text[len(text.rstrip()) :])  # a mark that was added after the text had streamed
    return Answer(text=cited.text, citations=cited.citations, usage=run.meter.usage, trace=_trace(run, plan))


def _remember(run: Run, part: Technique | None, memory: Recollector | None) -> None:
    """Recall for the question, at most half of what window and budget leave: the documents need room too."""
    if memory is None:
        if part is not None:
            raise RecipeError(
                f"{part.card.name} needs a memory to recall from", hint="`bay chat` keeps one; from Python: ask(…, memory=bay.Memory(…))"
            )
        return
    with run.stage(part.card.name if part is not None else "memory") as regions:
        block = memory.recall_for(part, run.question, run.model, run.meter, run.room(0, 0) // 2)
        regions += block.regions
    for note in block.notes:
        run.note(note)
    if block.text:
        run.remembered = Remembered(block.text, block.regions, run.model.count_tokens(block.text))


def _without_answer(run: Run, plan: Recipe, passages: list[Passage] | None) -> Answer:
    """The budget ended before any text: point at the best passages instead of staying silent."""
    if not run.cut_short:
        run.note("the model replied with nothing")
        return Answer(text=NOT_FOUND_TEXT, usage=run.meter.usage, trace=_trace(run, plan), found=False)
    nearest = passages if passages is not None else run.corpus.full_text(run.question, SHOWN_WITHOUT_ANSWER)
    shown = {run.number(p): p for p in nearest[:SHOWN_WITHOUT_ANSWER]}
    text = " ".join([NO_ANSWER_TEXT, *(f"[{n}]" for n in shown)])
    run.say(text)
    citations = quote_best(shown, run.question, whole(run.corpus))
    return Answer(text=text, citations=citations, usage=run.meter.usage, trace=_trace(run, plan), found=False)


def _trace(run: Run, plan: Recipe) -> Trace:
    return Trace(recipe=str(plan), recipe_hash=plan.hash, model=run.model.name, steps=tuple(run.steps), notes=tuple(run.notes))


def _pass_on_notes(run: Run) -> None:
    for note in run.corpus.notes:
        run.note(note)


def _chosen(recipe: RecipeLike | None, settings: Settings) -> RecipeLike:
    """The recipe that was given, else the configured one, else the package's default; configured names are resolved."""
    if isinstance(recipe, Recipe):
        return recipe
    return settings.recipe_of(recipe) or DEFAULT_RECIPE


@contextmanager
def _opened_model(model: str | LanguageModel | None, settings: Settings, plan: Recipe) -> Iterator[LanguageModel]:
    """The model, loaded if it was named (and then closed again), with the recipe's inside half attached for the time of the run."""
    with ExitStack() as stack:
        if not isinstance(model, LanguageModel):
            model = select.load(model, settings=settings)
            stack.callback(model.close)
        if plan.inside:
            plan.check_capabilities(model.capabilities, model.name)
            model = stack.enter_context(model.attached(plan.inside))
        yield model


def _opened_corpus(sources: Sources, settings: Settings, on_event: Callable[[Event], None] | None) -> Corpus:
    tell = None if on_event is None else (lambda text: on_event(Event(kind="progress", text=text)))
    return open_corpus(sources, settings=settings, on_progress=tell)
