"""Opens what several commands need, saying beforehand what text would leave this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baywindow.cli import output
from baywindow.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from baywindow.config import Settings
    from baywindow.documents.base import Corpus
    from baywindow.models.base import Embedder, LanguageModel
    from baywindow.models.served import ServedModel
    from baywindow.recipe import Recipe
    from baywindow.server.announced import Announced
    from baywindow.server.kept import Kept

PATIENCE_S = 60.0


def kept(settings: Settings, plan: Recipe) -> Kept | None:
    """A server that begins now to load the model and keeps it, where that was asked for, would do, and none runs."""
    if not settings.keep_minutes or not settings.use_server or (known := _local(settings, plan)) is None:
        return None
    from baywindow.server.kept import Kept

    return Kept(*known, settings) if _running(known[1], settings) is None else None


def embedder(settings: Settings, kept: Kept | None = None) -> Embedder | None:
    """The configured one; without the packages for it there is full text only, and a line that says so."""
    from baywindow.models.embedders import load_embedder

    try:
        found = load_embedder(settings.embedder, settings)
    except MissingExtraError as missing:
        if settings.embedder:
            raise
        output.remark(f"note: words only, no vectors: {missing}")
        return None
    if found.remote:
        output.remark(f"sent to {found.remote}: all text of these documents, to be embedded{_said_by('embedder_base_url')}")
    return _through_server(found, settings, kept)


def _through_server(found: Embedder, settings: Settings, kept: Kept | None) -> Embedder:
    """The embedded embedder, of which a server of this user that runs the same one embeds the questions."""
    from baywindow.models.embedders import EMBEDDED, SentenceEmbedder

    if not settings.use_server or found.name != EMBEDDED or not isinstance(found, SentenceEmbedder) or found.folder is None:
        return found
    from baywindow.server import announced

    servers = [server for server in announced.running() if server.would_embed(found.fingerprint, settings)]
    running = next((server for server in servers if server.answers()), None)
    if running is None and kept is None:
        return found
    from baywindow.models.served_embedder import ServedEmbedder

    def server() -> tuple[str, str] | None:
        asked = running if running is not None or kept is None else kept.server()
        usable = asked is not None and asked.would_embed(found.fingerprint, settings)
        return (asked.url, asked.token) if asked is not None and usable else None

    return ServedEmbedder(found.folder, name=EMBEDDED, device=settings.device, server=server)


def corpus(sources: list[str], settings: Settings, progress: output.Progress, kept: Kept | None = None) -> Corpus:
    """The documents, read and brought up to date in the index."""
    from baywindow.documents.sources import open_corpus

    return open_corpus(sources, embedder=embedder(settings, kept), settings=settings, on_progress=progress)


def model(settings: Settings, progress: output.Progress, plan: Recipe | None = None, kept: Kept | None = None) -> LanguageModel:
    """The language model. An endpoint without a model's name is an error: another model must not answer in its place.

    For a ``plan`` a running `bay serve` that has the same model stands in where its answers are the same; ``kept`` is waited for.
    """
    from baywindow.models import select

    if settings.base_url and not settings.model:
        raise ConfigError(f"which model of {settings.base_url}?", hint="name it with --model; `bay doctor` lists what the endpoint has")
    if plan is not None and settings.use_server and (running := _served(settings, plan, kept, progress)) is not None:
        if kept is None:
            output.remark(f"using the running server at {running.endpoint.base_url}: no model is loaded")
        else:
            output.remark(f"the model stays for {settings.keep_minutes:g} minutes after its last question; `bay serve --stop` ends it")
        return running
    if kept is not None:
        output.remark(f"note: the model is loaded here and not kept: {kept.why}")
    loaded = select.load(None, settings=settings, progress=progress)
    if loaded.remote:
        output.remark(f"sent to {loaded.remote}: the question and the passages read for it{_said_by('base_url')}")
    return loaded


def _served(settings: Settings, plan: Recipe, kept: Kept | None, progress: Callable[[str], None]) -> ServedModel | None:
    """The model that would be loaded, behind a server of this user; None where there is none, or where the recipe needs more than text."""
    from baywindow.server.announced import running

    if kept is None and not running():  # the usual case costs no look at the weights
        return None
    if (known := _local(settings, plan)) is None:
        return None
    name, fingerprint = known
    server = kept.server(progress) if kept is not None else _running(fingerprint, settings)
    if server is None:
        return None
    from baywindow.models.endpoint import Endpoint
    from baywindow.models.served import ServedModel

    # The server ends a reply in its own time; the connection only has to wait longer.
    patience = server.timeout_s + PATIENCE_S
    endpoint = Endpoint(base_url=f"{server.url}/v1", token=server.token, concurrency=settings.concurrency, timeout_s=patience)
    found = ServedModel(
        name, endpoint, served=server.model, window=server.window, instructed=server.instructed, fingerprint=server.fingerprint
    )
    found.label = server.label
    return found


def _local(settings: Settings, plan: Recipe) -> tuple[str, str] | None:
    """Name and fingerprint of a model on this machine of which the recipe wants nothing but text."""
    from baywindow.models import select
    from baywindow.models.identity import fingerprint_of

    if plan.inside or plan.needs - {"text", "embedder"}:
        return None
    name = select.chosen_name(settings)
    fingerprint = None if select.is_remote(name, settings) else fingerprint_of(name)
    return None if fingerprint is None else (name, fingerprint)


def _running(fingerprint: str, settings: Settings) -> Announced | None:
    from baywindow.server.announced import running

    return next((s for s in running() if s.would_load(fingerprint, settings) and s.answers()), None)


def _said_by(setting: str) -> str:
    """Which file or variable decided that text leaves: it may have come with somebody else's project."""
    from baywindow import config

    origin = config.origins().get(setting)
    return f" (set by {origin})" if origin else ""
