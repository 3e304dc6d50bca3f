"""What the report says, in order."""

from __future__ import annotations

from baywindow.bench import ledger
from baywindow.bench.plan import length_text
from baywindow.bench.report import figures as drawn
from baywindow.bench.report import tables
from baywindow.bench.report.blocks import Block, heading, table, words
from baywindow.bench.summary import Summary

HOW = (
    "Every figure is a mean over samples with a 95 % bootstrap interval in square brackets and the number of samples in round ones; "
    "averages over tasks weigh tasks alike. Differences are paired: both recipes on the same samples. A difference whose interval holds 0, "
    "or whose p (of a paired test by random sign changes) is not below 0.05, is printed as no difference, and none is claimed below 5 "
    "samples. Answer NLL is the "
    "mean negative log-likelihood of the gold answer's tokens in nats (lower is better); score is each task's own, from 0 to 1."
)
PROTOCOL = (
    "Recipes without an outside part read the published prompt: instruction and documents first, compressed before any question is known, "
    "then each question. Recipes with an outside part go through `ask`, whose prompts differ from the published ones; they are compared "
    "with `stuff` (the whole text through `ask`) where the run has it. `random` keeps as much as the recipe above it, chosen by chance."
)


def content(summary: Summary, *, figures: bool) -> list[Block]:
    """All blocks; ``figures`` draws (matplotlib) or leaves the pictures out."""
    blocks = [heading(f"Bench: {summary.name}", 1), words(_made_on(summary)), words(HOW), words(PROTOCOL)]
    for model in summary.models:
        blocks += _of_model(summary, model, figures)
    return [*blocks, *_ledger(summary)]


def _made_on(summary: Summary) -> str:
    machines = []
    for described in summary.machines.values():
        packages = ", ".join(f"{name} {version}" for name, version in described.get("packages", {}).items())
        machines.append(
            f"{described.get('cpu')}, {described.get('cores')} cores, {described.get('memory_gib')} GiB, "
            f"threads {described.get('threads')}; "
            f"Python {described.get('python')}, {packages}"
        )
    good = sum(not r.error for r in summary.rows)
    return f"{good} replies measured, {len(summary.rows) - good} failed. Machine: " + " | ".join(machines) + "."


def _of_model(summary: Summary, model: str, figures: bool) -> list[Block]:
    known = summary.facts.get(f"model:{model}", {})
    label = f" ({known['label']})" if known.get("label") else ""
    blocks = [heading(f"{model}{label}")]
    if known:
        blocks.append(words(f"Window {known.get('window'):,} tokens, fingerprint {str(known.get('fingerprint'))[:24]}."))
    for length in summary.lengths(model):
        blocks += [
            heading(f"{model}, {length_text(length)}", 3),
            tables.quality(summary, model, length),
            tables.cost(summary, model, length),
        ]
        if len(summary.tasks) > 1:
            blocks += [words("By task: answer NLL · score."), tables.by_task(summary, model, length)]
        if figures:
            blocks += drawn.pareto(summary, model, length)
    if figures:
        blocks += drawn.heat_maps(summary, model)
    if (found := tables.effective(summary, model)) is not None:
        rule = f"Effective length: the longest at which the average over this run's RULER tasks is at least {tables.EFFECTIVE_ABOVE:.1%}."
        blocks += [words(rule + _ruler_tasks(summary)), found]
    if (gone := tables.left_out(summary, model)) is not None:
        blocks.append(gone)
    return blocks


def _ruler_tasks(summary: Summary) -> str:
    count = sum(t.startswith("ruler.") for t in summary.tasks)
    return "" if count == 13 else f" The official average is over 13 tasks; this run has {count} of them."


def _ledger(summary: Summary) -> list[Block]:
    entries = ledger.ledger(summary)
    if not entries:
        return []
    rows = [(e.technique, e.claim, e.measured, e.verdict) for e in entries]
    return [
        heading("Ledger: what the techniques claim, and what was seen here"),
        words(ledger.RULES),
        table(("technique", "claim", "measured here", "verdict"), rows),
    ]
