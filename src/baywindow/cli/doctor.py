"""`bay doctor`: checks the installation from the ground up and says what to do about each thing that is wrong.

Exit code 0 if everything Baywindow needs is there (remarks do not count), 1 if something must be mended.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from baywindow.cli import flags, output
from baywindow.errors import BayError

if TYPE_CHECKING:
    from baywindow.config import Settings

ROOMY_BYTES = 2_000_000_000  # a converted model and an index of some thousand pages
ENDPOINT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report. ``bad`` must be mended, ``note`` is worth knowing."""

    about: str
    state: Literal["ok", "note", "bad"] = "ok"
    text: str
    hint: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    base_url: flags.BaseUrl = None,
) -> None:
    """Check the installation and say what to do."""
    findings = list(examine(base_url))
    if as_json:
        output.tell_json([vars(f) for f in findings])
    else:
        for finding in findings:
            output.say(f"{finding.state:4}  {finding.about}: {finding.text}", style=STYLES[finding.state])
            if finding.hint:
                output.say(f"      → {finding.hint}")
    if any(f.state == "bad" for f in findings):
        raise typer.Exit(1)


STYLES = {"ok": None, "note": "yellow", "bad": "bold red"}


def examine(base_url: str | None) -> Iterator[Finding]:
    """All findings, from Python up to the model. A check that fails by itself is a finding and never ends the report."""
    yield Finding(about="python", text=f"{platform.python_version()} on {platform.system()} {platform.machine()}, {_machine()}")
    yield from packages()
    try:
        settings = flags.settings_from(base_url=base_url)
    except BayError as error:
        yield Finding(about="configuration", state="bad", text=error.message, hint=error.hint)
        return
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (configuration, folders, endpoint, model)
    for check in checks:
        try:
            yield from check(settings)
        except BayError as error:
            yield Finding(about=check.__name__, state="bad", text=error.message, hint=error.hint)


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return f"{os.cpu_count()} CPUs" + (f", {output.size(memory)} memory" if memory else "")


def packages() -> Iterator[Finding]:
    """Everything that `pip install baywindow` and the extra `local` bring, by what the installed metadata says."""
    from packaging.requirements import Requirement

    missing: dict[str, list[str]] = {"": [], "local": []}
    for line in importlib.metadata.requires("baywindow") or ():
        requirement = Requirement(line)
        for extra in missing:
            asked_for = requirement.marker.evaluate({"extra": extra}) if requirement.marker else not extra
            if asked_for and (problem := _problem(requirement.name, requirement)):
                missing[extra].append(problem)
    yield (
        Finding(about="packages", state="bad", text="; ".join(missing[""]), hint='pip install --upgrade "baywindow"')
        if missing[""]
        else Finding(about="packages", text=f"baywindow {importlib.metadata.version('baywindow')} and all it needs")
    )
    if missing["local"]:
        hint = 'to run models and embeddings on this machine: pip install "baywindow[local]"'
        yield Finding(about="local models", state="note", text="; ".join(missing["local"]), hint=hint)
    else:
        yield from _torch()


def _problem(name: str, requirement: object) -> str:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    wanted = requirement.specifier  # type: ignore[attr-defined]
    return "" if wanted.contains(found, prereleases=True) else f"{name} is {found}, needed is {wanted}"


def _torch() -> Iterator[Finding]:
    version = importlib.metadata.version("torch")
    gpu = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    text = f"torch {version}, transformers {importlib.metadata.version('transformers')}"
    if gpu and "+cpu" in version:
        yield Finding(
            about="local models", state="note", text=text, hint="there is a GPU, but this PyTorch cannot use it: install a CUDA build"
        )
    else:
        yield Finding(about="local models", text=text + (", with a GPU" if gpu else ", on the CPU"))


def configuration(settings: Settings) -> Iterator[Finding]:
    """Which files and variables are in force, and variables that look like a slip."""
    from baywindow import config

    where = config.origins()
    said = ", ".join(f"{key} from {origin}" for key, origin in sorted(where.items()))
    yield Finding(about="configuration", text=said or "nothing set; defaults are in force")
    for variable, near in config.unknown_variables().items():
        yield Finding(about="configuration", state="note", text=f"{variable} is no setting", hint=f"did you mean {near}?")


def folders(settings: Settings) -> Iterator[Finding]:
    """Whether Baywindow can write where it must, and whether there is room."""
    from baywindow.home import cache_dir, data_dir

    for about, folder in (("index folder", data_dir), ("cache folder", cache_dir)):
        try:
            path = folder()
            free = shutil.disk_usage(path).free
        except OSError as error:
            yield Finding(about=about, state="bad", text=f"{error.filename}: {error.strerror}", hint="make it writable, or set BAY_HOME")
            continue
        if not os.access(path, os.W_OK):
            yield Finding(about=about, state="bad", text=f"{path} cannot be written", hint="make it writable, or set BAY_HOME")
        elif free < ROOMY_BYTES:
            yield Finding(about=about, state="note", text=f"{path}: only {output.size(free)} free", hint="make room, or set BAY_HOME")
        else:
            yield Finding(about=about, text=f"{path}, {output.size(free)} free")


def endpoint(settings: Settings) -> Iterator[Finding]:
    """Whether the configured endpoint answers, and whether its key is there. Sends no document text."""
    if not settings.base_url:
        return
    import httpx

    url = settings.base_url.rstrip("/") + "/models"
    key = os.environ.get(settings.api_key_env)
    try:
        reply = httpx.get(url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=ENDPOINT_SECONDS)
    except httpx.HTTPError as error:
        hint = "is the server running, and is base_url right (it usually ends in /v1)?"
        yield Finding(about="endpoint", state="bad", text=f"{url}: {type(error).__name__}", hint=hint)
        return
    if reply.status_code in (401, 403):
        said = "is not set" if key is None else "was refused"
        yield Finding(about="endpoint", state="bad", text=f"{url}: the key in {settings.api_key_env} {said}", hint="set it, or api_key_env")
    elif reply.is_success:
        yield Finding(about="endpoint", text=f"{url} answers{_models_in(reply.text)}")
    else:
        yield Finding(
            about="endpoint", state="note", text=f"{url}: HTTP {reply.status_code}", hint="not fatal: some servers list no models"
        )


def _models_in(text: str) -> str:
    """The models an endpoint lists, shortened; nothing if it lists none or in a form of its own."""
    try:
        names = [str(entry["id"]) for entry in json.loads(text)["data"]]
    except (ValueError, KeyError, TypeError):
        return ""
    return f"; it has {output.shorten(', '.join(names), 200)}" if names else ""


def model(settings: Settings) -> Iterator[Finding]:
    """Which model would answer, and why."""
    from baywindow.models import select

    chosen = next((c for c in select.candidates(settings) if c.usable), None)
    if chosen is None:
        yield Finding(about="model", state="bad", text="no model can be used", hint="`bay models` says why; name one with --model")
    else:
        yield Finding(about="model", text=f"{chosen.name}: {chosen.why}")
