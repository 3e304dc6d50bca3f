"""`bay bench`: what holds up, on your model, at which length, at what cost."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baywindow.cli import flags, output
from baywindow.errors import ConfigError

if TYPE_CHECKING:
    from baywindow.bench.base import Task
    from baywindow.bench.plan import Plan
    from baywindow.bench.run import State
    from baywindow.bench.store import Store
    from baywindow.bench.summary import Summary
    from baywindow.config import Settings
    from baywindow.models.base import LanguageModel

app = typer.Typer(
    invoke_without_command=True,
    help="Measure recipes on your model: quality, time and memory, with intervals.",
    rich_markup_mode=None,
)
DEFAULT_TASKS, DEFAULT_LENGTHS, DEFAULT_RECIPES = "ruler", "1k,4k", "stock"
DEFAULT_HOURS = 1.0


@app.callback()
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
    best: Annotated[list[str] | None, typer.Option("--best", help="LENGTH:N, e.g. 4k:6: only stock and the N best recipes there.")] = None,
    no_random: Annotated[bool, typer.Option("--no-random", help="No random choice beside each selection.")] = False,
    haystack: Annotated[str, typer.Option("--haystack", help="Folder with natural text to hide needles in.")] = "",
    data: Annotated[list[str] | None, typer.Option("--data", help="SUITE=PATH of a loaded suite's files.")] = None,
    name: Annotated[str | None, typer.Option("--run", help="Name or path of the run; a new one by default.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Go on with this run, with its own plan.")] = None,
    find_best: Annotated[bool, typer.Option("--find-best", help="Only find the best recipe, with few evaluations (UCB-E).")] = False,
    low_rank: Annotated[bool, typer.Option("--low-rank", help="With --find-best: the low-rank variant (UCB-E-LRF).")] = False,
    evaluations: Annotated[int, typer.Option("--evaluations", min=0, help="With --find-best: how many (0: 15 % of all).")] = 0,
    by: Annotated[str, typer.Option("--by", help="With --find-best: score, or nll.")] = "score",
    engine: Annotated[str, typer.Option("--engine", help="local, or ray to spread samples over workers.")] = "local",
    base_url: flags.BaseUrl = None,
    context: flags.Context = None,
    embedder: flags.Embedder = None,
) -> None:
    """Measure recipes on your model."""
    if ctx.invoked_subcommand is not None:
        return
    from baywindow.bench import run as running
    from baywindow.bench import runs
    from baywindow.bench.plan import FULL_LENGTHS, FULL_SAMPLES, Plan, lengths_of, recipes_of, tasks_of
    from baywindow.bench.store import Store

    if resume:
        path = runs.path_of(resume)
        with Store(path, write=True) as store:
            plan = Plan.from_dict(store.fact("plan")) if hours is None else running.with_more_hours(store, hours)
            _run(store, plan, engine, store.fact("search"))
        return
    settings = flags.settings_from(base_url=base_url, context=context, embedder=embedder)
    named = _models(model or "") or (_default_model(settings),)
    if full or find_best:
        samples = samples or FULL_SAMPLES
    if by not in ("score", "nll"):
        raise ConfigError.bad_value("--by", by, "score or nll")
    plan = Plan(
        models=named,
        tasks=tuple(task.name for task in tasks_of(part.strip() for part in tasks.split(",") if part.strip())),
        lengths=FULL_LENGTHS if full and lengths == DEFAULT_LENGTHS else lengths_of(lengths),
        recipes=tuple(str(r) for r in recipes_of(_lines(recipes), random=not (no_random or find_best))),
        samples=samples or 0,
        hours=0.0 if samples else (DEFAULT_HOURS if hours is None else hours),
        generate=generate,
        max_new_tokens=max_new_tokens,
        best=dict(_pair(text, ":", int) for text in best or ()),
        haystack=haystack,
        data=dict(_pair(text, "=", str) for text in data or ()),
        settings={k: v for k, v in {"base_url": base_url, "context": context, "embedder": embedder}.items() if v is not None},
    )
    path = runs.path_of(name) if name else runs.new_path(datetime.now())
    with Store(path, write=True, make=True) as store:
        known, wanted = store.fact("plan"), json.loads(json.dumps(plan.to_dict()))
        if known is not None and known | {"hours": 0} != wanted | {"hours": 0}:
            raise ConfigError(f"{path} holds another run already", hint=f"bay bench --resume {name} goes on with that one")
        store.set_fact("plan", plan.to_dict())
        search = {"low_rank": low_rank, "evaluations": evaluations, "by": by} if find_best else None
        store.set_fact("search", search)
        _run(store, plan, engine, search)


def _run(store: Store, plan: Plan, engine: str, search: dict[str, Any] | None) -> None:
    from baywindow.bench import run as running
    from baywindow.bench import runs
    from baywindow.bench.engine import Local

    if engine not in ("local", "ray"):
        raise ConfigError.bad_value("--engine", engine, "local or ray")
    output.remark(f"results: {store.path}")
    with output.Progress() as progress:

        def load(name: str, settings: Settings) -> LanguageModel:
            from baywindow.models import select

            return select.load(_converted(name), settings=settings, progress=progress)

        try:
            if search is None:
                running.run(store, plan, load, lambda state: progress(_line(state)), Local)
            else:
                _search(store, plan, load, search, progress)
        finally:
            progress.clear()
            output.remark(f"bay bench --resume {runs.name_of(store.path)} goes on; bay bench report {runs.name_of(store.path)} shows it")


def _search(store: Store, plan: Plan, load: Any, search: dict[str, Any], progress: output.Progress) -> None:
    from baywindow.bench import run as running
    from baywindow.bench.engine import Local
    from baywindow.bench.find_best import Search
    from baywindow.bench.ucb_e import UcbE, UcbELowRank

    def work(run: running.ModelRun, deadline: float) -> None:
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

    running.each_model(store, plan, load, lambda state: progress(_line(state)), Local, work)


def _line(state: State) -> str:
    if state.total is None:
        return state.text
    left = "" if state.left_s is None else f", about {_duration(state.left_s)} left"
    return f"{state.text}; {state.done} of {state.total}{left}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _models(line: str) -> tuple[str, ...]:
    """Names with commas between them; one that ends with ``?`` is left out where it is not on this machine."""
    found = []
    for name in (part.strip() for part in line.split(",") if part.strip()):
        bare = name.removesuffix("?")
        if bare == name or _converted(bare) != bare or Path(bare).expanduser().exists():
            found.append(bare)
        else:
            output.remark(f"left out: {bare} is not on this machine")
    return tuple(found)


def _converted(name: str) -> str:
    """The folder of a model that was converted from a .gguf of that name; any other name as it is."""
    from baywindow.models import gguf

    return next((str(folder) for folder, manifest in gguf.all_converted() if manifest.get("name") == name), name)


def _lines(recipes: str) -> str:
    """Recipes as one line; ``@FILE`` names a file with one a line, where ``#`` begins a remark."""
    if not recipes.startswith("@"):
        return recipes
    try:
        lines = Path(recipes[1:]).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{recipes[1:]} cannot be read: {error.strerror}", hint="a text file with one recipe a line") from None
    return "; ".join(bare for line in lines if (bare := line.partition("#")[0].strip()))


def _default_model(settings: Settings) -> str:
    from baywindow.models import select

    return settings.model or select.first_usable(settings).name


def _pair(text: str, mark: str, kind: type) -> tuple[str, Any]:
    key, found, value = text.partition(mark)
    try:
        if not found:
            raise ValueError(text)
        return key.strip(), kind(value)
    except ValueError:
        raise ConfigError(f"{text!r} is not understood", hint=f"write it as NAME{mark}VALUE") from None


@app.command("tasks")
def list_tasks(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="A suite, a task or a wildcard.")] = "*",
    as_json: flags.Json = False,
) -> None:
    """List the tasks that can be measured."""
    from baywindow.bench import find
    from baywindow.bench.base import Generated, Loaded

    found = find.tasks(pattern)
    if as_json:
        output.tell_json([_task_table(task) for task in found])
        return
    table = output.new_table("task", "from", "what it asks")
    for task in found:
        least = f"{task.min_tokens:,} tokens" if isinstance(task, Generated) else "its own texts"
        table.add_row(task.name, least, task.summary)
        if isinstance(task, Loaded) and task.where and output.at_terminal():
            table.add_row("", "", f"needs {task.where}")
    output.tabulate(table)


def _task_table(task: Task) -> dict[str, Any]:
    from baywindow.bench.base import Generated, Loaded

    table: dict[str, Any] = {
        "name": task.name,
        "summary": task.summary,
        "kind": "generated" if isinstance(task, Generated) else "loaded",
        "scorer": task.scorer,
        "max_new_tokens": task.max_new_tokens,
        "options": dict(task.options),
    }
    if isinstance(task, Generated):
        table |= {"min_tokens": task.min_tokens, "has_depth": task.has_depth}
    if isinstance(task, Loaded):
        table["where"] = task.where
    return table


@app.command("show")
def show_sample(
    task: Annotated[str, typer.Argument(help="A task, e.g. ruler.niah_multikey_2.")],
    length: Annotated[str, typer.Option("--length", help="Length in tokens: 1k, 4k.")] = "1k",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Number of the sample.")] = 0,
    depth: Annotated[float | None, typer.Option("--depth", min=0.0, max=1.0, help="Where the needle is; as in a run by default.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Whose tokens count; words by default.")] = None,
    haystack: Annotated[str, typer.Option("--haystack", help="Folder with natural text to hide needles in.")] = "",
    data: Annotated[list[str] | None, typer.Option("--data", help="SUITE=PATH of a loaded suite's files.")] = None,
    as_json: flags.Json = False,
) -> None:
    """Print one sample, to look at."""
    import dataclasses

    from baywindow.bench import find, samples
    from baywindow.bench.counting import TokenCounter
    from baywindow.bench.plan import depth_of, length_of

    found = find.tasks(task)
    if len(found) > 1:
        raise ConfigError(f"{task} has {len(found)} tasks", hint=f"name one: {', '.join(t.name for t in found[:4])}")
    counter = TokenCounter(lambda text: len(text.split()), "words")
    if model:
        from baywindow.models import select

        loaded = select.load(_converted(model), settings=flags.settings_from())
        counter = TokenCounter(loaded.count_tokens, f"{model}@{loaded.fingerprint[:24]}")
    maker = samples.Maker(counter, samples.hay(haystack), dict(_pair(text, "=", str) for text in data or ()))
    sample = maker.sample(found[0], length_of(length), seed, depth=depth_of(seed) if depth is None else depth)
    if as_json:
        output.tell_json(dataclasses.asdict(sample))
        return
    output.say(sample.prompt)
    for turn in sample.asked:
        output.remark(f"question: {turn.question}")
        output.remark(f"begun with: {turn.answer_prefix or '(nothing)'}   gold: {' | '.join(turn.gold)}   scored by {turn.scorer}")
    output.remark(f"{counter(sample.prompt):,} {'tokens of ' + model if model else 'words'}; {dict(sample.metadata)}")


@app.command("runs")
def list_runs() -> None:
    """List the runs that are kept."""
    from baywindow.bench import runs
    from baywindow.bench.store import Store
    from baywindow.errors import ResultsError

    table = output.new_table("run", "rows", "failed", "models")
    for path in runs.all_runs():
        try:
            with Store(path) as store:
                rows = store.rows()
        except ResultsError as error:
            output.remark(str(error))
            continue
        table.add_row(runs.name_of(path), str(len(rows)), str(sum(bool(r.error) for r in rows)), ", ".join(sorted({r.model for r in rows})))
    output.tabulate(table)


@app.command("report")
def report(
    run: Annotated[str, typer.Argument(help="Name or path of a run.")],
    html: Annotated[Path | None, typer.Option("--html", help="Folder for report.html, report.md and pictures.")] = None,
) -> None:
    """Show what a run found."""
    from baywindow.bench import report as reports

    summary = _summary(run)
    if html is None:
        output.say(reports.text(reports.content(summary, figures=False)))
        return
    for path in reports.write(summary, html):
        output.say(str(path))


@app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="Name or path of a run.")],
    second: Annotated[str, typer.Argument(help="Another run.")],
) -> None:
    """Show two runs beside each other."""
    from baywindow.bench import report as reports
    from baywindow.bench.compare import compared

    output.say(reports.text(compared(_summary(first), _summary(second))))


def _summary(run: str) -> Summary:
    from baywindow.bench import runs
    from baywindow.bench.store import Store
    from baywindow.bench.summary import Summary

    path = runs.path_of(run)
    with Store(path) as store:
        return Summary.of(store, path.name.removesuffix(".bay.sqlite"))
