"""Opens what several commands need, saying beforehand what text would leave this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baywindow.cli import output
from baywindow.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from baywindow.config import Settings
    from baywindow.documents.base import Corpus
    from baywindow.models.base import Embedder, LanguageModel
    from baywindow.models.served import ServedModel
    from baywindow.recipe import Recipe

PATIENCE_S = 60.0


def embedder(settings: Settings) -> Embedder | None:
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
    return _through_server(found, settings)


def _through_server(found: Embedder, settings: Settings) -> Embedder:
    """The embedded embedder, of which a server of this user that runs the same one embeds the questions."""
    from baywindow.models.embedders import EMBEDDED, SentenceEmbedder

    if not settings.use_server or found.name != EMBEDDED or not isinstance(found, SentenceEmbedder) or found.folder is None:
        return found
    from baywindow.server import announced

    servers = [server for server in announced.running() if server.would_embed(found.fingerprint, settings)]
    server = next((server for server in servers if server.answers()), None)
    if server is None:
        return found
    from baywindow.models.served_embedder import ServedEmbedder

    return ServedEmbedder(found.folder, name=EMBEDDED, device=settings.device, url=server.url, token=server.token)


def corpus(sources: list[str], settings: Settings, progress: output.Progress) -> Corpus:
    """The documents, read and brought up to date in the index."""
    from baywindow.documents.sources import open_corpus

    return open_corpus(sources, embedder=embedder(settings), settings=settings, on_progress=progress)


def model(settings: Settings, progress: output.Progress, plan: Recipe | None = None) -> LanguageModel:
    """The language model. An endpoint without a model's name is an error: another model must not answer in its place.

    For a ``plan`` a running `bay serve` that has the same model stands in where its answers are the same.
    """
    from baywindow.models import select

    if settings.base_url and not settings.model:
        raise ConfigError(f"which model of {settings.base_url}?", hint="name it with --model; `bay doctor` lists what the endpoint has")
    if plan is not None and settings.use_server and (running := _served(settings, plan)) is not None:
        output.remark(f"using the running server at {running.endpoint.base_url}: no model is loaded")
        return running
    loaded = select.load(None, settings=settings, progress=progress)
    if loaded.remote:
        output.remark(f"sent to {loaded.remote}: the question and the passages read for it{_said_by('base_url')}")
    return loaded


def _served(settings: Settings, plan: Recipe) -> ServedModel | None:
    """The model that would be loaded, behind a server of this user; None where there is none, or where the recipe needs more than text."""
    from baywindow.models import select
    from baywindow.server import announced

    if plan.inside or plan.needs - {"text", "embedder"} or not (servers := announced.running()):
        return None
    name = select.chosen_name(settings)
    if select.is_remote(name, settings):
        return None
    from baywindow.models.endpoint import Endpoint
    from baywindow.models.identity import fingerprint_of
    from baywindow.models.served import ServedModel

    fingerprint = fingerprint_of(name)
    server = next((s for s in servers if fingerprint is not None and s.would_load(fingerprint, settings) and s.answers()), None)
    if server is None:
        return None
    # The server ends a reply in its own time; the connection only has to wait longer.
    patience = server.timeout_s + PATIENCE_S
    endpoint = Endpoint(base_url=f"{server.url}/v1", token=server.token, concurrency=settings.concurrency, timeout_s=patience)
    found = ServedModel(
        name, endpoint, served=server.model, window=server.window, instructed=server.instructed, fingerprint=server.fingerprint
    )
    found.label = server.label
    return found


def _said_by(setting: str) -> str:
    """Which file or variable decided that text leaves: it may have come with somebody else's project."""
    from baywindow import config

    origin = config.origins().get(setting)
    return f" (set by {origin})" if origin else ""
