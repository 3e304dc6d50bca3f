"""`bay bench tasks`, `show`, `runs`, `report` and `compare`: looking without measuring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baywindow.cli import flags, output
from baywindow.cli.bench import names
from baywindow.errors import ConfigError

if TYPE_CHECKING:
    from baywindow.bench.base import Task
    from baywindow.bench.summary import Summary


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

        loaded = select.load(names.converted(model), settings=flags.settings_from())
        counter = TokenCounter(loaded.count_tokens, f"{model}@{loaded.fingerprint[:24]}")
    maker = samples.Maker(counter, samples.hay(haystack), dict(names.pair(text, "=", str) for text in data or ()))
    sample = maker.sample(found[0], length_of(length), seed, depth=depth_of(seed) if depth is None else depth)
    if as_json:
        output.tell_json(dataclasses.asdict(sample))
        return
    output.say(sample.prompt)
    for turn in sample.asked:
        output.remark(f"question: {turn.question}")
        output.remark(f"begun with: {turn.answer_prefix or '(nothing)'}   gold: {' | '.join(turn.gold)}   scored by {turn.scorer}")
    output.remark(f"{counter(sample.prompt):,} {'tokens of ' + model if model else 'words'}; {dict(sample.metadata)}")


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
