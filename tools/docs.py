"""Write the generated pages of the docs, or check that they are what would be written.

    python tools/docs.py            write them
    python tools/docs.py --check    exit 1 and name those that differ (a stage of `make test`)

Generated are: the table of techniques (from their cards), the command line reference (from the commands' own flags), the table of
settings (from their fields), the JSON schema of an answer (from its classes), and the pages of measurements (copies of what the
benchmarks wrote to benchmarks/results, and of the reference run's report in results, without its pictures). Only the table of what
combines imports torch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from baywindow import registry
from baywindow.cli import describe
from baywindow.config import PREFIX, Settings
from baywindow.registry import Card

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
REFERENCE = ROOT / "results" / "report.md"
GENERATED = "<!-- Written by tools/docs.py. Change the source it names, then run: make docs -->\n\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the generated pages of the docs, or check them.")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    wanted = {DOCS / name: text for name, text in pages().items()}
    stale = [p for p in sorted((DOCS / "measured").glob("*.md")) if p not in wanted]
    different = [p for p, text in wanted.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if options.check:
        for path in [*different, *stale]:
            print(f"{path.relative_to(ROOT)} is not what tools/docs.py writes; run: make docs")
        return 1 if different or stale else 0
    for path in different:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    for path in stale:
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    return 0


def pages() -> dict[str, str]:
    """Every generated page: its path under docs, and its text."""
    return {
        "reference/techniques.md": techniques(),
        "reference/combines.md": combines(),
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "reference/answer.schema.json": json.dumps(answer_schema(), indent=2, ensure_ascii=False) + "\n",
        **measured(),
    }


def techniques() -> str:
    """One table a room, then one section a technique."""
    cards = registry.cards()
    lines = ["# Techniques", "", "Every technique is one file; its name is the file's. `bay show NAME` prints what stands here.", ""]
    for room, group in itertools.groupby(cards, key=lambda c: c.room):
        lines += [f"## {room}: {registry.ROOMS[room].what}", "", "| name | what it does | paper | needs |", "|---|---|---|---|"]
        members = list(group)
        lines += [f"| [`{c.name}`](#{c.name}) | {cell(c.summary)} | {paper(c)} | {', '.join(c.needs)} |" for c in members]
        lines += [""]
        for card in members:
            lines += one_technique(card)
    lines += ["## Presets", "", "A preset is a recipe with a name.", "", "| name | recipe | for |", "|---|---|---|"]
    lines += [f"| `{p.name}` | `{p.recipe}` | {cell(p.summary)} |" for p in registry.presets().values()]
    return GENERATED + "\n".join(lines) + "\n"


def one_technique(card: Card) -> Iterator[str]:
    yield from (f"### {card.name} {{#{card.name}}}", "", f"{sentence(card.summary)}", "")
    if card.claim:
        yield from (f"The paper's claim: {sentence(card.claim)}", "")
    if card.departures:
        yield from ("Departs from the paper:", "", *(f"- {sentence(d)}" for d in card.departures), "")
    elif card.paper:
        yield from ("No departure from the paper is known.", "")
    if options := describe.options_of(card):
        yield from ("| option | type | default | |", "|---|---|---|---|")
        for option in options:
            default = f"`{cell(option.default)}`" if option.default else "must be given"
            yield f"| `{option.name}` | `{cell(option.type)}` | {default} | {cell(option.comment)} |"
        yield ""


def combines() -> str:
    """Which techniques inside the model stand together in one recipe."""
    from baywindow.window import pairs

    lines = ["# What combines", "", "Two techniques in one recipe: ✓ if they work together, else a number whose reason stands below.", ""]
    return GENERATED + "\n".join(lines) + "\n" + pairs.table() + "\n"


def paper(card: Card) -> str:
    """The paper with every arXiv number linked, and its year."""
    linked = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", cell(card.paper))
    return f"{linked}, {card.year}" if card.paper else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def commands() -> str:
    """Each command with its arguments and flags: from what they declare, so that no release of Typer changes the page."""
    from baywindow.cli.main import app

    group: Any = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "All commands with their arguments and flags, as `bay COMMAND --help` tells them. Errors come with a [hint](../errors.md).",
        "",
    ]
    lines += ["`bay --debug COMMAND …` shows the traceback of an error.", ""]
    for name, command in sorted(group.commands.items()):
        flags = [p for p in command.params if p.param_type_name == "option"]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join([f"bay {name}", *map(placeholder, arguments), *(["[FLAGS]"] if flags else [])])
        lines += [f"## bay {name}", "", command.help, "", "```text", usage, "```", ""]
        lines += ["| | |", "|---|---|"] if command.params else []
        lines += [f"| `{placeholder(a)}` | {cell(a.help or '')} |" for a in arguments]
        lines += [f"| {', '.join(f'`{o}`' for o in reversed(f.opts))} | {cell(f.help or '')} |" for f in flags]
        lines += [""]
    return GENERATED + "\n".join(lines)


def placeholder(argument: Any) -> str:
    name = (argument.metavar or argument.name).strip("[]").upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def settings() -> str:
    lines = ["# Settings", "", "See [configuration](../configuration.md) for where they are set.", ""]
    lines += ["| setting | what it is | default | variable |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default is None else f"`{default}`"
        variable = f"`{PREFIX}{name.upper()}`" if name not in ("recipes", "prices") else f"`{PREFIX}{name.upper()}__…`"
        lines.append(f"| `{name}` | {cell(field.description or '')} | {shown} | {variable} |")
    return GENERATED + "\n".join(lines) + "\n"


def answer_schema() -> dict[str, Any]:
    """The JSON schema of what `bay ask --json` prints."""
    from pydantic import TypeAdapter

    from baywindow.trace import Answer

    schema = TypeAdapter(Answer).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Answer", **schema}


def measured() -> dict[str, str]:
    """What the benchmarks wrote, page by page, and an index that names those there are."""
    results = sorted(RESULTS.glob("*.md")) if RESULTS.is_dir() else []
    found = {f"measured/{path.name}": path.read_text(encoding="utf-8") for path in results}
    if REFERENCE.is_file():
        found["measured/reference.md"] = reference(REFERENCE.read_text(encoding="utf-8"))
    lines = ["# Measured", "", "Each page is what a benchmark command wrote, unchanged; the page names the command.", ""]
    for name, text in found.items():
        heading = next((line for line in text.splitlines() if line.startswith("# ")), name)
        lines.append(f"- [{heading.removeprefix('# ')}]({name.removeprefix('measured/')})")
    if not found:
        lines.append("No benchmark has written a page yet.")
    return found | {"measured/index.md": GENERATED + "\n".join(lines) + "\n"}


def reference(report: str) -> str:
    """The reference run's report. Its pictures stand in the page with the tables, which is in the repository."""
    told = "Made by `make bench-reference`. With its heat maps and Pareto plots it is `results/report.html` in the repository."
    head, _, rest = re.sub(r"^!\[.*\n\n?", "", report, flags=re.MULTILINE).partition("\n")
    return f"{head.replace('# Bench: ', '# The reference run: ')}\n\n{told}\n{rest}"


if __name__ == "__main__":
    sys.exit(main())
