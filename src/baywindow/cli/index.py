"""`bay index`: keep what was read, bring it up to date, list it, forget it.

Full text is searchable as soon as the files are read; vectors follow. Stopping is safe at any moment.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

import typer

from baywindow.cli import flags, opening, output
from baywindow.cli.heap import share_one_heap
from baywindow.errors import ConfigError

if TYPE_CHECKING:
    from baywindow.config import Settings
    from baywindow.documents.index import Done, Index, IndexInfo
    from baywindow.models.base import Embedder


def index(
    paths: Annotated[list[str] | None, typer.Argument(help="Files, folders or globs to bring up to date.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show what is indexed, where it lives and how large it is.")] = False,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="PATH", help="Forget a path and all below it.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Throw the index away and read everything again.")] = False,
    embedder: flags.Embedder = None,
    at: flags.Index = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: as one JSON document.")] = False,
) -> None:
    """Keep an index of files up to date."""
    share_one_heap()
    settings = flags.settings_from(embedder=embedder, index=at)
    if not (paths or listing or remove or rebuild):
        raise ConfigError("nothing to do", hint="name files or folders, or use --list, --remove PATH or --rebuild")
    for path in remove or ():
        _remove(path, settings)
    if paths or rebuild:
        _update(paths or [], settings, rebuild)
    if listing:
        info = _opened(settings).info()
        if as_json:
            output.tell_json(dataclasses.asdict(info))
        else:
            show_info(info)


def _opened(settings: Settings, embedder: Embedder | None = None, tell: output.Progress | None = None) -> Index:
    from baywindow.documents.index import Index

    return Index(settings.index, embedder=embedder, chunk_tokens=settings.chunk_tokens, on_progress=tell)


def _remove(path: str, settings: Settings) -> None:
    count = _opened(settings).remove(path)
    output.say(f"forgot {output.counted(count, 'file')} of {path}")


def _update(paths: list[str], settings: Settings, rebuild: bool) -> None:
    """Words first, then vectors, saying what each did."""
    embedder = opening.embedder(settings)
    with output.Progress() as progress:
        opened = _opened(settings, embedder, progress)
        done = opened.update(paths, rebuild=rebuild)
        progress.clear()
        _tell(done)
        if embedder is not None:
            left = opened.embed()
            progress.clear()
            output.say("every chunk has its vector" if not left else f"{left} chunks have no vector yet; run it again to go on")


def _tell(done: Done) -> None:
    output.say(f"{done.added} added, {done.changed} changed, {done.removed} removed, {done.unchanged} unchanged")
    for note in done.notes:
        output.remark(f"note: {note}")


def show_info(info: IndexInfo) -> None:
    """Where it lives and how large it is, then one row a path that was indexed."""
    if not info.exists:
        output.say(f"nothing is indexed yet; an index would be made in {info.uri}")
        return
    size = "" if info.size_bytes is None else f", {output.size(info.size_bytes)}"
    heading = f"{info.uri}: {output.counted(info.files, 'file')}, {output.counted(info.chunks, 'chunk')}{size}"
    if info.embedder:
        heading += f", vectors by {info.embedder}"
    if info.recall_at_10:
        heading += f", approximate search with recall@10 {info.recall_at_10:.3f}"
    if output.at_terminal():
        output.say(heading)
    else:
        output.remark(heading)
    table = output.new_table("path", "files", "chunks", "with vectors", "brought up to date")
    for root in info.roots:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(root.updated_at))
        table.add_row(output.clean(root.path), f"{root.files:,}", f"{root.chunks:,}", f"{root.embedded_share:.0%}", when)
    output.tabulate(table)
