"""Opens what several commands need, saying beforehand what text would leave this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baywindow.cli import output
from baywindow.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from baywindow.config import Settings
    from baywindow.documents.base import Corpus
    from baywindow.models.base import Embedder, LanguageModel


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
    return found


def corpus(sources: list[str], settings: Settings, progress: output.Progress) -> Corpus:
    """The documents, read and brought up to date in the index."""
    from baywindow.documents.sources import open_corpus

    return open_corpus(sources, embedder=embedder(settings), settings=settings, on_progress=progress)


def model(settings: Settings, progress: output.Progress) -> LanguageModel:
    """The language model. An endpoint without a model's name is an error: another model must not answer in its place."""
    from baywindow.models import select

    if settings.base_url and not settings.model:
        raise ConfigError(f"which model of {settings.base_url}?", hint="name it with --model; `bay doctor` lists what the endpoint has")
    loaded = select.load(None, settings=settings, progress=progress)
    if loaded.remote:
        output.remark(f"sent to {loaded.remote}: the question and the passages read for it{_said_by('base_url')}")
    return loaded


def _said_by(setting: str) -> str:
    """Which file or variable decided that text leaves: it may have come with somebody else's project."""
    from baywindow import config

    origin = config.origins().get(setting)
    return f" (set by {origin})" if origin else ""
