"""`bay ask`: a question, some documents, an answer with its sources.

The answer goes to stdout, as it is written when a person watches and whole when it goes to a pipe; remarks, progress and cost go
to stderr. The documents are opened before the model is loaded, so a mistyped path costs no waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from baywindow.cli import flags, opening, output

if TYPE_CHECKING:
    from baywindow.budget import Usage
    from baywindow.documents.base import Passage
    from baywindow.trace import Answer, Citation, Event

PASSAGES_FIRST = 3  # shown before the answer of a model that is known to be weak
QUOTE_WIDTH = 200


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    sources: Annotated[list[str] | None, typer.Argument(help="Files, folders, globs, or - for standard input.")] = None,
    model: flags.Model = None,
    base_url: flags.BaseUrl = None,
    context: flags.Context = None,
    recipe: flags.RecipeLine = None,
    k: Annotated[int | None, typer.Option("--k", min=1, help="How many passages the recipe's techniques take.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", "-b", help="tokens=4000,calls=8,seconds=30,usd=0.05 (any).")] = None,
    embedder: flags.Embedder = None,
    index: flags.Index = None,
    trace: Annotated[bool, typer.Option("--trace", help="Show every step and what became of the context.")] = False,
    as_json: flags.Json = False,
    no_server: flags.NoServer = False,
    keep: Annotated[
        float | None, typer.Option("--keep", min=0, metavar="MINUTES", help="Let the model stay loaded for later questions.")
    ] = None,
) -> None:
    """Answer a question from documents, with checked citations."""
    import baywindow
    from baywindow.budget import Budget

    flags.worded(question)
    named = flags.some(sources)
    settings = flags.settings_from(
        model=model,
        base_url=base_url,
        context=context,
        embedder=embedder,
        index=index,
        keep_minutes=keep,
        use_server=False if no_server else None,
    )
    plan = flags.plan(recipe, settings, k)
    limits = Budget.parse(budget) if budget is not None else None
    with output.Progress() as progress:
        kept = opening.kept(settings, plan)
        corpus = opening.corpus(named, settings, progress, kept)
        loaded = opening.model(settings, progress, plan, kept)
        try:
            teller = Teller(progress, loaded.label, quiet=as_json)
            answer = baywindow.ask(question, corpus, recipe=plan, model=loaded, budget=limits, on_event=teller, settings=settings)
        finally:
            loaded.close()
    if as_json:
        output.tell_json(answer.to_dict())
        return
    teller.finish(answer)
    if trace:
        from baywindow.cli.traces import show_trace

        show_trace(answer.trace)


class Teller:
    """Listens to a run and tells a person what matters, in this order: best passages (weak models), answer, sources, remarks."""

    def __init__(self, progress: output.Progress, label: str, *, quiet: bool) -> None:
        self._progress = progress
        self._label = "" if quiet else label
        self._live = output.at_terminal() and not quiet
        self._showed_passages = False
        self._streamed = ""

    def __call__(self, event: Event) -> None:
        if event.kind == "progress" and not self._streamed:  # its changing line would run into the answer's
            self._progress(event.text)
        elif event.kind == "passages" and self._label and not self._showed_passages:
            self._progress.clear()
            self._showed_passages = True
            show_best(event.passages[:PASSAGES_FIRST])
        elif event.kind == "token" and self._live:
            if not self._streamed:
                self._head()
            self._streamed += event.text
            output.stream(event.text)

    def finish(self, answer: Answer) -> None:
        if not self._streamed:
            self._head()
            output.say(answer.text)
        else:
            output.stream("\n")
            if " ".join(self._streamed.split()) != " ".join(answer.text.split()):
                output.remark("after its marks were checked, the answer reads:")
                output.say(answer.text)
        show_sources(answer.citations)
        for note in answer.trace.notes:
            output.remark(f"note: {note}")
        output.remark(cost(answer.usage, answer.trace.model))

    def _head(self) -> None:
        self._progress.clear()
        if self._label:
            output.say(f"Answer ({self._label})", style="bold")


def show_best(passages: tuple[Passage, ...]) -> None:
    """What was found, at once: a weak model's answer is worth less than the passages, and takes its time."""
    output.say("Best passages", style="bold")
    for passage in passages:
        output.say(f"  {passage.place}", style="cyan")
        output.say(f"    {output.shorten(passage.text, QUOTE_WIDTH)}")
    output.say()


def show_sources(citations: tuple[Citation, ...]) -> None:
    """Where each mark leads: ``path:line`` and the quoted words; those that do not occur there are marked."""
    if not citations:
        return
    output.say()
    output.say("Sources", style="bold")
    for citation in citations:
        mark = "" if citation.verified else "  (not verified: these words were not found in the source)"
        output.say(f"[{citation.n}] {citation.place}{mark}", style=None if citation.verified else "yellow")
        output.say(f'    "{output.shorten(citation.quote, QUOTE_WIDTH)}"')


def cost(usage: Usage, model: str) -> str:
    """What the answer cost, in one line."""
    about = "about " if usage.estimated else ""
    parts = [
        f"{output.counted(usage.calls, 'call')} of {model}",
        f"{about}{usage.prompt_tokens:,} tokens read, {usage.generated_tokens:,} written",
        f"{usage.seconds:.1f} s",
    ]
    return ", ".join([*parts, f"{usage.usd:.4f} USD"] if usage.usd is not None else parts)
