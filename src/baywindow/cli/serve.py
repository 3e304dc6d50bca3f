"""`bay serve`: the OpenAI-compatible API, and the keys for it."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baywindow.cli import flags, opening, output
from baywindow.errors import ConfigError, MissingExtraError
from baywindow.models.prefixes import Level

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from baywindow.config import Settings
    from baywindow.server.running import Bound
    from baywindow.server.service import Options, Service

MEGA = 1_000_000


def serve(
    model: flags.Model = None,
    upstream: Annotated[str | None, typer.Option("--upstream", help="OpenAI-compatible endpoint to stand before, e.g. vLLM's.")] = None,
    recipe: flags.RecipeLine = None,
    context: flags.Context = None,
    embedder: flags.Embedder = None,
    root: Annotated[list[str] | None, typer.Option("--root", metavar="[NAME=]FOLDER", help="A folder to be asked about by name.")] = None,
    share_roots: Annotated[bool, typer.Option("--share-roots", help="Let every key ask about the folders of --root.")] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; any but this machine's own asks for keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes any free one.")] = 7370,
    require_keys: Annotated[bool, typer.Option("--require-keys", help="Ask for keys on this machine's own address too.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Serve only your own `bay ask`, which finds it by itself.")] = False,
    idle: Annotated[
        float | None, typer.Option("--idle", min=0.01, metavar="MINUTES", help="End when nothing was asked for so long.")
    ] = None,
    places: Annotated[int, typer.Option("--places", min=1, max=4096, help="Requests under way, waiting ones included; more get 429.")] = 64,
    rate: Annotated[int, typer.Option("--rate", min=0, help="Requests a minute of one key; 0 is no limit.")] = 0,
    body_mb: Annotated[int, typer.Option("--body-mb", min=1, help="Largest request that is no upload.")] = 32,
    upload_mb: Annotated[int, typer.Option("--upload-mb", min=1, help="Largest upload.")] = 256,
    quota_mb: Annotated[int, typer.Option("--quota-mb", min=1, help="Uploads of one key together.")] = 4000,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds after which a reply ends with what there is.")] = 600.0,
    cache_mb: Annotated[int, typer.Option("--cache-mb", min=0, help="Memory for what was read of long prompts; 0 for none.")] = 1000,
    disk_cache_mb: Annotated[int, typer.Option("--disk-cache-mb", min=0, help="Disk for the same, kept between starts.")] = 8000,
    cache_level: Annotated[Level, typer.Option("--cache-level", help="On disk: exactly, or coded, from 4 (finest) to 1.")] = "3",
    share_cache: Annotated[bool, typer.Option("--share-cache", help="Let a key have what another key's text has made.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing of what was read.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the private servers that keep a model for `bay ask`, and end.")] = False,
    new_key: Annotated[str | None, typer.Option("--new-key", metavar="NAME", help="Make a key, print it once, and end.")] = None,
    revoke_key: Annotated[str | None, typer.Option("--revoke-key", metavar="NAME", help="End a key, at once, and end.")] = None,
    keys: Annotated[bool, typer.Option("--keys", help="List the keys' names, and end.")] = False,
) -> None:
    """Serve the OpenAI API with a longer window."""
    if new_key or revoke_key or keys:
        _tend_keys(new_key, revoke_key, keys)
        return
    if stop:
        _stop()
        return
    settings = flags.settings_from(model=model, base_url=upstream, context=context, embedder=embedder, recipe=recipe)
    flags.plan(None, settings, None)  # a recipe that does not parse shows before a model is loaded
    try:
        from baywindow.server.prefixes import CacheOptions
        from baywindow.server.roots import Root
        from baywindow.server.running import bind
        from baywindow.server.service import Options
    except ModuleNotFoundError as missing:
        raise MissingExtraError.of(f"what serves ({missing.name})", "serve") from None
    kept = CacheOptions(memory_bytes=cache_mb * MEGA, disk_bytes=disk_cache_mb * MEGA, level=cache_level, shared=share_cache)
    options = Options(
        host=host,
        port=port,
        require_keys=require_keys,
        private=private,
        places=places,
        requests_per_minute=rate,
        body_bytes=body_mb * MEGA,
        upload_bytes=upload_mb * MEGA,
        quota_bytes=quota_mb * MEGA,
        timeout_s=timeout,
        roots=tuple(map(Root.of, root or ())),
        share_roots=share_roots,
        local_token=secrets.token_urlsafe(32),
        cache=None if no_cache else kept,
    )
    only = _held(settings) if private else None  # for as long as this process lives
    bound = bind(host, port)
    try:
        _run(_opened(settings, options), bound, idle)
    finally:
        bound.socket.close()
        if only is not None:
            only.release()


def _held(settings: Settings) -> BaseFileLock:
    """The lock of the one private server of a model. ConfigError where there is one already, or where the model runs elsewhere."""
    from baywindow.models import identity, select
    from baywindow.server.kept import held

    name = select.chosen_name(settings)
    fingerprint = None if select.is_remote(name, settings) else identity.fingerprint_of(name)
    if fingerprint is None:
        raise ConfigError(f"{name} has no weights here to keep", hint="leave out --private, or name a model that is on this machine")
    return held(fingerprint, settings)


def _stop() -> None:
    from baywindow.server.announced import stop_private

    ended = stop_private()
    output.say(f"{output.counted(ended, 'server')} told to end" if ended else "no private server runs")


def _opened(settings: Settings, options: Options) -> Service:
    """The service with its model loaded, or before its upstream."""
    from baywindow.server.keys import Keys
    from baywindow.server.service import Service
    from baywindow.server.upstream import Upstream

    if not options.local and not len(Keys()):
        raise ConfigError(f"a server at {options.host} needs API keys", hint="make one first: bay serve --new-key NAME")
    if settings.base_url is not None and not options.private:  # a private server's model has its weights here
        output.remark(f"sent to {settings.base_url}: what clients send here")
        return Service(settings, options, upstream=Upstream(settings.base_url, settings))
    with output.Progress() as progress:
        loaded = opening.model(settings, progress)
    return Service(settings, options, model=loaded)


def _run(service: Service, bound: Bound, idle_minutes: float | None) -> None:
    from baywindow.server.announced import announce, announcement
    from baywindow.server.running import Server

    ended = ExitStack()
    if service.options.private and announcement(service, bound.url) is None:
        raise ConfigError("nobody would find this private server", hint="leave out --private, or the recipe that acts inside the model")

    def ready() -> None:
        if (found := announcement(service, bound.url)) is not None:
            ended.callback(announce(found))
        what = ", ".join(service.served) or f"what {service.settings.base_url} has"
        output.say(f"{what} at {bound.url}/v1")
        output.remark(_who_may(service) + "; Ctrl-C ends it")

    Server(service, ready, ended.close, idle_s=None if idle_minutes is None else idle_minutes * 60).run(sockets=[bound.socket])


def _who_may(service: Service) -> str:
    if service.options.private:
        return "only your own `bay ask` is answered"
    return "keys are asked for" if service.needs_key else "no key is asked for on this machine"


def _tend_keys(new: str | None, revoke: str | None, listing: bool) -> None:
    from baywindow.server.keys import Keys

    known = Keys()
    if new:
        token = known.new(new)
        output.remark("shown only now; what is kept cannot be turned back into it:")
        output.say(token)
    if revoke:
        known.revoke(revoke)
        output.say(f"the key {revoke} opens nothing any more")
    if listing:
        table: Any = output.new_table("key", "made")
        for name, made in known.names():
            table.add_row(name, time.strftime("%Y-%m-%d %H:%M", time.localtime(made)))
        output.tabulate(table)
