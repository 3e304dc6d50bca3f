"""`bay bench own`: a bench from a person's own documents."""

from __future__ import annotations

from typing import Annotated

import typer

from baywindow.cli import flags, output
from baywindow.cli.bench import measuring, names


def own(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs: the documents to ask about.")],
    questions: Annotated[int, typer.Option("--questions", min=1, help="How many questions are wanted.")] = 40,
    length: Annotated[str, typer.Option("--length", help="Tokens of context: documents fill so much.")] = "4k",
    model: flags.Model = None,
    writer: Annotated[str | None, typer.Option("--writer", help="Another model that writes the questions.")] = None,
    recipes: Annotated[str, typer.Option("--recipes", "-r", help="Recipes with ; between them.")] = "stock; hybrid > rag",
    name: Annotated[str | None, typer.Option("--run", help="Name or path of the run.")] = None,
    only_write: Annotated[bool, typer.Option("--only-write", help="Write the questions, for you to look at, and stop.")] = False,
    base_url: flags.BaseUrl = None,
    context: flags.Context = None,
    concurrency: flags.Concurrency = None,
) -> None:
    """Make a bench from your own documents, and run it."""
    from baywindow.bench import own as owns
    from baywindow.bench.plan import Plan, length_of, recipes_of
    from baywindow.documents.sources import documents_of
    from baywindow.errors import SourceError
    from baywindow.home import data_dir
    from baywindow.models import select

    tokens = length_of(length)
    planned = tuple(str(r) for r in recipes_of(names.recipe_lines(recipes)))
    documents = documents_of(sources)
    given = {"base_url": base_url, "context": context, "concurrency": concurrency}
    settings = flags.settings_from(**given)
    chosen = model or names.default_model(settings)
    path = data_dir("bench", "own") / f"{owns.identity(documents, tokens, writer or chosen)}.json"
    with output.Progress() as progress:
        loaded = select.load(names.converted(writer or chosen, settings), settings=settings, progress=progress)
        try:
            if path.exists():
                made = owns.OwnFile.load(path)
            else:
                parts = owns.cut(documents, tokens // owns.PARTS_A_WINDOW, loaded.count_tokens)
                made = owns.OwnFile(tokens=tokens, writer=writer or chosen, parts=parts)
            owns.write(made, path, questions, loaded, lambda done, total: progress(f"{done} of {total} questions"))
        finally:
            loaded.close()
    refused = ", ".join(f"{n} because {why}" for why, n in sorted(made.refused.items())) or "none"
    output.remark(f"{len(made.questions)} questions from {made.tried} of {len(made.parts)} parts; refused: {refused}")
    output.say(str(path))
    if not made.questions:
        raise SourceError("no question passed the checks", hint="give more documents, or a better --writer")
    if only_write:
        return
    plan = Plan(
        models=(chosen,),
        tasks=("own.position", "own.size"),
        lengths=(tokens,),
        recipes=planned,
        samples=min(questions, len(made.questions)),
        data={"own": str(path)},
        settings={k: v for k, v in given.items() if v is not None},
    )
    measuring.start(plan, measuring.How(), name)
