"""`bay bench` itself: a run, new or resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baywindow.cli import flags, output
from baywindow.cli.bench import names
from baywindow.errors import ConfigError

if TYPE_CHECKING:
    from baywindow.bench.engine import Engine
    from baywindow.bench.plan import Plan
    from baywindow.bench.run import MakeEngine, ModelRun, State
    from baywindow.bench.store import Store
    from baywindow.config import Settings
    from baywindow.models.base import LanguageModel

DEFAULT_TASKS, DEFAULT_LENGTHS, DEFAULT_RECIPES = "ruler", "1k,4k", "stock"
DEFAULT_HOURS = 1.0


def bench(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model, or several with commas between them.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="Suites, tasks or wildcards: ruler,needlebench.single.")] = DEFAULT_TASKS,
    lengths: Annotated[str, typer.Option("--lengths", help="Lengths in tokens, with commas: 1k,4k,128k.")] = DEFAULT_LENGTHS,
    recipes: Annotated[
        str, typer.Option("--recipes", "-r", help='Recipes with ; between them: "stock; snapkv(budget_tokens=512)".')
    ] = DEFAULT_RECIPES,
    hours: Annotated[float | None, typer.Option("--hours", min=0.0, help="Time for the run; it chooses the number of samples.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Samples a task, length and recipe, whatever the time.")] = None,
    full: Annotated[bool, typer.Option("--full", help="What a larger machine runs: 4k to 128k, 100 samples.")] = False,
    generate: Annotated[int, typer.Option("--generate", min=0, help="Write replies for so many samples of a cell only (0: all).")] = 0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=0, help="Longest reply (0: as each task says).")] = 0,
    budget: Annotated[str, typer.Option("--budget", help="What a question may spend: tokens=4000,calls=40,seconds=30.")] = "",
    best: Annotated[list[str] | None, typer.Option("--best", help="LENGTH:N, e.g. 4k:6: only stock and the N best recipes there.")] = None,
    no_random: Annotated[bool, typer.Option("--no-random", help="No random choice beside each selection.")] = False,
    haystack: Annotated[str, typer.Option("--haystack", help="Folder with natural text to hide needles in.")] = "",
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE of the tasks that have it: turns=3.")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="SUITE=PATH of a loaded suite's files.")] = None,
    name: Annotated[str | None, typer.Option("--run", help="Name or path of the run; a new one by default.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Go on with this run, with its own plan.")] = None,
    find_best: Annotated[bool, typer.Option("--find-best", help="Only find the best recipe, with few evaluations (UCB-E).")] = False,
    low_rank: Annotated[bool, typer.Option("--low-rank", help="With --find-best: the low-rank variant (UCB-E-LRF).")] = False,
    evaluations: Annotated[int, typer.Option("--evaluations", min=0, help="With --find-best: how many (0: 15 % of all).")] = 0,
    by: Annotated[str, typer.Option("--by", help="With --find-best: score, or nll.")] = "score",
    engine: Annotated[str, typer.Option("--engine", help="local, or ray to spread samples over workers.")] = "local",
    workers: Annotated[int, typer.Option("--workers", min=0, help="With --engine ray: how many (0: one a processor or card).")] = 0,
    base_url: flags.BaseUrl = None,
    context: flags.Context = None,
    concurrency: flags.Concurrency = None,
    embedder: flags.Embedder = None,
    judge: Annotated[str | None, typer.Option("--judge", help="Model that grades where a score is a verdict.")] = None,
    nli: Annotated[str | None, typer.Option("--nli", help="Model that tests entailment for citation scores.")] = None,
) -> None:
    """Measure recipes on your model."""
    if ctx.invoked_subcommand is not None:
        return
    how = How(engine=engine, workers=workers, search=_search_of(find_best, low_rank, evaluations, by))
    if resume:
        _resume(resume, hours, how)
        return
    from baywindow.bench.plan import FULL_LENGTHS, FULL_SAMPLES, Plan, lengths_of, recipes_of, tasks_of

    given = {
        "base_url": base_url,
        "context": context,
        "concurrency": concurrency,
        "embedder": embedder,
        "judge": judge and names.converted(judge, flags.settings_from(base_url=base_url)),
        "nli": nli,
    }
    settings = flags.settings_from(**given)
    if full or find_best:
        samples = samples or FULL_SAMPLES
    chosen = tasks_of(part.strip() for part in tasks.split(",") if part.strip())
    plan = Plan(
        models=names.models(model or "") or (names.default_model(settings),),
        tasks=tuple(task.name for task in chosen),
        lengths=FULL_LENGTHS if full and lengths == DEFAULT_LENGTHS else lengths_of(lengths),
        recipes=tuple(str(r) for r in recipes_of(names.recipe_lines(recipes), random=not (no_random or find_best))),
        samples=samples or 0,
        hours=0.0 if samples else (DEFAULT_HOURS if hours is None else hours),
        generate=generate,
        max_new_tokens=max_new_tokens,
        budget=budget,
        best=dict(names.pair(text, ":", int) for text in best or ()),
        haystack=haystack,
        options=names.options(option or (), chosen),
        data=dict(names.pair(text, "=", str) for text in data or ()),
        settings={k: v for k, v in given.items() if v is not None},
    )
    start(plan, how, name)


@dataclass(frozen=True, kw_only=True)
class How:
    """What is not part of a plan: who measures, and whether a bandit chooses. ``search`` is kept with the run."""

    engine: str = "local"
    workers: int = 0
    search: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ConfigError.bad_value("--engine", self.engine, "local or ray")


def _search_of(find_best: bool, low_rank: bool, evaluations: int, by: str) -> dict[str, Any] | None:
    if by not in ("score", "nll"):
        raise ConfigError.bad_value("--by", by, "score or nll")
    return {"low_rank": low_rank, "evaluations": evaluations, "by": by} if find_best else None


def _resume(run: str, hours: float | None, how: How) -> None:
    from baywindow.bench import run as running
    from baywindow.bench import runs
    from baywindow.bench.plan import Plan
    from baywindow.bench.store import Store

    with Store(runs.path_of(run), write=True) as store:
        plan = Plan.from_dict(store.fact("plan")) if hours is None else running.with_more_hours(store, hours)
        _measure(store, plan, replace(how, search=store.fact("search")))


def start(plan: Plan, how: How, name: str | None) -> None:
    """A new run; or one of that name with the same plan, which goes on."""
    from baywindow.bench import runs
    from baywindow.bench.store import Store

    path = runs.path_of(name) if name else runs.new_path(datetime.now())
    with Store(path, write=True, make=True) as store:
        known, wanted = store.fact("plan"), json.loads(json.dumps(plan.to_dict()))
        if known is not None and known | {"hours": 0} != wanted | {"hours": 0}:
            raise ConfigError(f"{path} holds another run already", hint=f"bay bench --resume {name} goes on with that one")
        store.set_fact("plan", plan.to_dict())
        store.set_fact("search", how.search)
        _measure(store, plan, how)


def _measure(store: Store, plan: Plan, how: How) -> None:
    from baywindow.bench import run as running
    from baywindow.bench import runs

    output.remark(f"results: {store.path}")
    with output.Progress() as progress:

        def load(name: str, settings: Settings) -> LanguageModel:
            from baywindow.models import select

            return select.load(names.converted(name, settings), settings=settings, progress=progress)

        try:
            work = running.ModelRun.until if how.search is None else _searching(how.search, progress)
            running.each_model(store, plan, load, lambda state: progress(_line(state)), _engine(how), work)
        finally:
            progress.clear()
            name = runs.name_of(store.path)
            output.remark(f"bay bench --resume {name} goes on; bay bench report {name} shows it")


def _engine(how: How) -> MakeEngine:
    from baywindow.bench.threads import engine_for

    def make(model: LanguageModel, settings: Settings) -> Engine:
        if how.engine == "local":
            return engine_for(model, settings)
        from baywindow.bench.ray_engine import RayEngine

        given = settings.model_dump(exclude_unset=True)
        return RayEngine(str(settings.model), given, _load_there, how.workers)

    return make


def _load_there(name: str, settings: Settings) -> LanguageModel:
    """On a Ray worker."""
    from baywindow.models import select

    return select.load(names.converted(name, settings), settings=settings)


def _searching(search: dict[str, Any], progress: output.Progress) -> Callable[[ModelRun, float], None]:
    from baywindow.bench.find_best import Search
    from baywindow.bench.ucb_e import UcbE, UcbELowRank

    def work(run: ModelRun, deadline: float) -> None:
        bandit = UcbELowRank() if search["low_rank"] else UcbE()
        found = Search(run, bandit, search["by"], search["evaluations"])
        ranking = found.go(deadline, lambda done, total: progress(f"{run.name}: {done} of {total} evaluations"))
        progress.clear()
        whole = len(found.recipes) * len(found.samples)
        output.remark(f"{run.name}: {sum(r.evaluations for r in ranking)} evaluations of {whole} possible ones")
        table = output.new_table("recipe", search["by"], "evaluations", title=run.name)
        for ranked in ranking:
            table.add_row(ranked.recipe, f"{ranked.value:.3f}", str(ranked.evaluations))
        output.tabulate(table)

    return work


def _line(state: State) -> str:
    if state.total is None:
        return state.text
    left = "" if state.left_s is None else f", about {_duration(state.left_s)} left"
    return f"{state.text}; {state.done} of {state.total}{left}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
