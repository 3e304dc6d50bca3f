"""Which reader, retriever and compressor for which task: through a window four times, and sixteen times, shorter than the text.

    python benchmarks/readers.py [--hours 2] [--model qwen2.5-coder-0.5b-instruct-q4_k_m] [--report]
    bay serve --model MODEL --port 7371 --no-cache &
    python benchmarks/readers.py --base-url http://127.0.0.1:7371/v1 [--at-once 8] [--hours 2]

The model is held to 1,024 tokens. It reads 4,096 (10 samples a task) and 16,384 (5 samples, at most 40 calls a question): one fact in an
essay, and a question over many documents of which one holds the answer. All are asked as `bay ask` asks them, with their defaults:
readers alone, retrievers before `rag`, compressors, with a budget that the window holds, before `stuff`.

With --base-url the same model is asked through an endpoint, several questions at a time: `bay serve` decodes them in one batch. What
looks inside the model is left to the other way, and seconds are those under this load.

Resumable: what is measured is kept as `bay bench` keeps it (runs ``readers-4k``, ``readers-4k-served`` and so on, in ``results/runs``),
sample after sample over all recipes, so that a run stopped early is balanced. --report only writes the table from what is there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _models import QWEN
from _report import RESULTS, table
from _rows import shown, write

from baywindow import registry
from baywindow.bench import run as running
from baywindow.bench.plan import Plan
from baywindow.bench.store import SUFFIX, Row, Store
from baywindow.cli.bench import names
from baywindow.errors import BayError
from baywindow.models import gguf, select

WINDOW = 1024
TASKS = ("ruler.niah_single_2", "ruler.qa_1")
LENGTHS = {"readers-4k": (4096, 10, ""), "readers-16k": (16384, 5, "calls=40")}
SERVED = "-served"
RUNS = RESULTS / "runs"
COMPRESSED_TOKENS = 400  # with the fences of many short passages what is left of the window beside instructions and an answer
ROOMS = {"Readers": "context/read", "Retrievers": "context/retrieve", "Compressors": "context/compress"}


def recipes() -> dict[str, str]:
    """Every recipe that is asked, with the room it is to tell of."""
    found = {"hybrid(k=3) > rag": "Readers"}
    for title, room in ROOMS.items():
        for card in registry.cards(room):
            name = card.name
            made = {"Readers": name, "Retrievers": f"{name} > rag", "Compressors": f"{name}(budget_tokens={COMPRESSED_TOKENS}) > stuff"}
            found[made[title]] = title
    return found


def plan_of(model: str, name: str, served: dict[str, Any], chosen: Sequence[str]) -> Plan:
    tokens, samples, budget = LENGTHS[name]
    return Plan(
        models=(f"openai:{model}.gguf" if served else model,),
        tasks=TASKS,
        lengths=(tokens,),
        recipes=tuple(chosen),
        samples=samples,
        budget=budget,
        settings={"context": WINDOW, **served},
    )


def measure(model: str, name: str, end: float, served: dict[str, Any], chosen: Sequence[str]) -> list[Row]:
    """What the store lacks, until the time is over; all rows that are there then."""
    with Store(path_of(name + SERVED if served else name), write=True, make=True) as store:
        plan = plan_of(model, name, served, chosen)
        store.set_fact("plan", {**plan.to_dict(), "settings": {"context": WINDOW}})  # without what only this machine has: folder, address
        if time.monotonic() < end:
            running.each_model(
                store,
                plan,
                lambda named, settings: select.load(names.converted(named, settings), settings=settings),
                lambda state: print(state.text, f"{state.done} of {state.total}", flush=True),
                running.engine_for,
                lambda run, deadline: run.until(min(deadline, end)),
            )
        return store.rows()


def served_by(options: argparse.Namespace) -> dict[str, Any]:
    """Settings that reach the endpoint, with the model's own tokenizer: samples and windows are counted as in this process."""
    folder = next((f for f, manifest in gguf.all_converted() if manifest.get("name") == options.model.removesuffix(".gguf")), None)
    if folder is None:
        raise SystemExit(f"error: no converted {options.model} to count with; `bay ask --model` converts it")
    return {"base_url": options.base_url, "concurrency": options.at_once, "tokenizer": str(folder), "timeout_s": 900.0}


def path_of(run: str) -> Path:
    return RUNS / f"{run}{SUFFIX}"


def kept(run: str) -> tuple[list[Row], str]:
    """The rows of a run, and the processors they were measured on."""
    if not path_of(run).exists():
        return [], ""
    with Store(path_of(run)) as store:
        return store.rows(), ", ".join(sorted({str(one.get("cpu", "")) for one in store.machines().values()}))


def body(rows: Sequence[Row]) -> str:
    """One table a room; one row a recipe, best score first; what was measured on fewer samples says so."""
    by_recipe: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_recipe[row.recipe].append(row)
    rooms = recipes()
    made = []
    for title in ROOMS:
        lines = [line_of(recipe, mine) for recipe, mine in by_recipe.items() if rooms.get(recipe) == title]
        head = [title.lower(), "n a task", *(f"{task.split('.')[1]}" for task in TASKS), "gold NLL", "calls", "tokens read", "seconds"]
        if lines:
            made.append(table([*head, "errors"], [line[1] for line in sorted(lines, key=lambda line: -line[0])]))
    return "\n\n".join(made)


def line_of(recipe: str, rows: Sequence[Row]) -> tuple[float, list[object]]:
    good = [r for r in rows if not r.error]
    scores = {task: [float(r.score or 0.0) for r in good if r.task == task] for task in TASKS}
    cells = [shown(values) for values in scores.values()]
    mean = statistics.fmean([statistics.fmean(v) for v in scores.values() if v] or [-1.0])
    nll = [r.nll for r in good if r.nll is not None]
    figures = [f"{statistics.fmean(nll):.2f}" if nll else "–"]
    for field in ("calls", "prompt_tokens", "seconds"):
        values = [float(getattr(r, field)) for r in good if getattr(r, field) is not None]
        figures.append(f"{statistics.median(values):.0f}" if values else "–")
    fewest = min(len(values) for values in scores.values())
    return mean, [f"`{recipe}`", fewest, *cells, *figures, len(rows) - len(good)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0, help="stop asking after this time and report what there is")
    parser.add_argument("--model", default=QWEN.removesuffix(".gguf"))
    parser.add_argument("--base-url", default="", help="an endpoint that serves the model")
    parser.add_argument("--at-once", type=int, default=8, help="questions that an endpoint is asked at a time")
    parser.add_argument("--lengths", default=",".join(LENGTHS), help="runs to go on with")
    parser.add_argument("--recipes", default="", help="only these, separated by ';'")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    end = time.monotonic() + (0.0 if options.report else options.hours * 3600)
    served = served_by(options) if options.base_url else {}
    chosen = [one for one in recipes() if not options.recipes or one in options.recipes.split(";")]
    for name in () if options.report else options.lengths.split(","):
        try:
            measure(options.model, name, end, served, chosen)
        except BayError as error:
            raise SystemExit(f"error: {error}") from error
    parts = []
    for name, (tokens, samples, budget) in LENGTHS.items():
        limit = f", {budget} a question" if budget else ""
        parts += [f"## Held to {WINDOW:,} tokens, text of {tokens:,} ({samples} samples wanted{limit})", ""]
        for way, run in (("Asked alone, in this process", name), ("Through `bay serve`, several at a time", name + SERVED)):
            rows, where = kept(run)
            told = f"{way}: {', '.join(sorted({r.model for r in rows}))}. Measured on {where}."
            parts += [told, "", body(rows), ""] if rows else [f"{way}: not measured yet.", ""]
    legend = (
        "Scores with 95 % bootstrap intervals where there are enough samples; calls, tokens and seconds are medians; the gold answer's NLL "
        f"follows the last call's prompt. Compressors may leave {COMPRESSED_TOKENS} tokens of text; where that is many short passages, "
        "their fences take room too, and `stuff` leaves the last ones out."
    )
    told = f"python benchmarks/readers.py --hours {options.hours:g}"
    write("readers", "Which reader, retriever and compressor for which task", "\n".join([*parts, legend]), {}, told)


if __name__ == "__main__":
    main()
