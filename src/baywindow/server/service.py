"""Everything that routes share: the model, who may ask, where uploads lie, and the limits that were set at the start."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from baywindow.config import Settings
from baywindow.errors import ConfigError, MissingExtraError
from baywindow.home import data_dir
from baywindow.models.base import Embedder, LanguageModel
from baywindow.models.embedders import EMBEDDED as EMBEDDED_EMBEDDER
from baywindow.models.embedders import TITLE, load_embedder
from baywindow.models.endpoint import is_loopback
from baywindow.server.engine import Engine
from baywindow.server.keys import Keys
from baywindow.server.limits import Rates
from baywindow.server.metrics import Metrics
from baywindow.server.names import Named, named, served_name
from baywindow.server.prefixes import CacheOptions, PrefixStore
from baywindow.server.roots import Root, Roots
from baywindow.server.storage import Files
from baywindow.server.stores import Stores
from baywindow.server.upstream import Upstream
from baywindow.server.work import Work
from baywindow.server.wrapped import Queued, Watched

PORT = 7370


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is decided when the server starts; nothing of it can be changed by a request."""

    host: str = "127.0.0.1"
    port: int = PORT
    require_keys: bool = False  # also on this machine's own address
    private: bool = False  # only programs of the same user, by the server's own token
    places: int = 64  # requests under way, waiting ones included
    requests_per_minute: int = 0  # of one key; 0 is no limit
    body_bytes: int = 32_000_000  # of a request that is no upload
    upload_bytes: int = 256_000_000
    quota_bytes: int = 4_000_000_000  # of one tenant's files together
    timeout_s: float = 600.0  # after which an answer is given from what there is
    patience_s: int = 30  # for streams that are under way when the server is stopped
    roots: tuple[Root, ...] = ()  # folders that can be asked about by name
    share_roots: bool = False  # with keys, too
    local_token: str = ""  # of this very server, for programs of the same user
    cache: CacheOptions | None = field(default_factory=CacheOptions)  # of what was read of long prompts; None: none

    def __post_init__(self) -> None:
        for name in ("places", "body_bytes", "upload_bytes", "quota_bytes", "timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError.bad_value(name, getattr(self, name), "greater than 0")

    @property
    def local(self) -> bool:
        return is_loopback(self.host)


class Service:
    """One server's state. ``model`` runs here and is closed with the service; without one, ``upstream`` answers."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        *,
        model: LanguageModel | None = None,
        upstream: Upstream | None = None,
        embedder: Embedder | None = None,
        home: Path | None = None,
    ) -> None:
        if (model is None) == (upstream is None):
            raise ConfigError("a server has a model of its own or an upstream", hint="name one of them")
        home = home or data_dir("serve")
        self.settings, self.options, self.model, self.upstream = settings, options, model, upstream
        self.keys = Keys(home / "keys.json")
        self.needs_key = options.require_keys or options.private or not options.local
        if self.needs_key and not len(self.keys) and not (options.private and options.local):
            raise ConfigError(f"a server at {options.host} needs API keys", hint="make one first: bay serve --new-key NAME")
        if options.roots and self.needs_key and not options.share_roots:
            raise ConfigError("keys see no folder that was named with --root", hint="add --share-roots: then all of them do")
        self.work = Work(options.places, shared=len(self.keys) > 1)
        self.engine: Engine | None = None
        if model is not None:
            prefixes = PrefixStore(home / "prefixes", options.cache) if options.cache is not None else None
            self.engine = Engine(model, lambda: self.work.busy, prefixes)
        self.rates = Rates(options.requests_per_minute)
        self.files = Files(home / "tenants", most_bytes=options.quota_bytes)
        self.stores = self._stores(home)
        self.metrics = Metrics(self)
        self._given_embedder = embedder
        self._loading = threading.Lock()

    def _stores(self, home: Path) -> Stores:
        options = self.options

        def embedder() -> Embedder | None:
            return self.embedder

        tokens = self.settings.chunk_tokens
        roots = Roots(home / "roots", options.roots, embedder=embedder, chunk_tokens=tokens, shared=options.share_roots)
        return Stores(home / "tenants", self.files, roots, embedder=embedder, chunk_tokens=tokens)

    @property
    def served(self) -> tuple[str, ...]:
        """Names of the models here; an upstream's are its own to tell."""
        return (served_name(self.model.name),) if self.model is not None else (self.settings.model,) if self.settings.model else ()

    def named(self, text: str) -> Named:
        """The model and the recipe that a request's ``model`` names."""
        is_open = self.model is not None and "weights" in self.model.capabilities
        return named(text, self.served, self.settings, any_model=self.upstream is not None, insides=is_open)

    @property
    def takes_tools(self) -> bool:
        """Whether calls of tools mean something to the model; an upstream's is taken to know them."""
        return self.model is None or "tools" in self.model.capabilities

    def model_for(self, chosen: Named, tenant: str, cancelled: threading.Event) -> LanguageModel:
        """The model as one request may use it."""
        if self.engine is not None:
            return Queued(self.engine, tenant, cancelled)
        assert self.upstream is not None  # one of the two is there, see the constructor
        return Watched(self.upstream.model(chosen.model), cancelled)

    @property
    def embedder(self) -> Embedder | None:
        """The configured one, loaded when first asked for; None where the packages for one are missing."""
        with self._loading:
            return self._embedder

    @cached_property
    def _embedder(self) -> Embedder | None:
        if self._given_embedder is not None:
            return self._given_embedder
        try:
            return load_embedder(self.settings.embedder, self.settings)
        except MissingExtraError:
            if self.settings.embedder:
                raise
            return None

    @property
    def embedder_name(self) -> str:
        """What the embedder is called in requests, without loading it."""
        given = self._given_embedder.name if self._given_embedder is not None else self.settings.embedder or EMBEDDED_EMBEDDER
        return TITLE if given == EMBEDDED_EMBEDDER else served_name(given)

    def close(self) -> None:
        """End what is under way, wait for it, and free the model."""
        self.work.close()
        self.stores.close()
        if self.engine is not None:
            self.engine.close()
        if self.model is not None:
            self.model.close()
        if self.upstream is not None:
            self.upstream.close()
