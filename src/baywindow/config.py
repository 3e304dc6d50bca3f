"""Settings: what a person may set once instead of saying it with every command.

They come from five places; a later one wins over an earlier one, key by key:

1. defaults,
2. ``bay.toml`` in the user's configuration folder,
3. ``bay.toml`` in the working folder, or in the nearest folder above it that has one,
4. environment variables ``BAY_MODEL``, ``BAY_BASE_URL``, … (``BAY_PRICES__PROMPT_USD`` for a key inside a table),
5. flags of a command, which are the constructor's arguments here.

A key that does not exist is an error naming the file and the nearest key. Secrets are never settings: ``api_key_env`` names the
environment variable that holds the key. An unknown ``BAY_…`` variable is no error, for the environment is shared with other
programs; `bay doctor` points it out.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from baywindow.budget import Prices
from baywindow.errors import ConfigError

FILE = "bay.toml"
PREFIX = "BAY_"
# Variables that are no settings: where things are kept, and what tests and the installation read.
OTHER_VARIABLES = frozenset({"BAY_HOME", "BAY_CACHE", "BAY_REQUIRE", "BAY_SHARED", "BAY_TORCH_INDEX"})


class PriceTable(BaseModel):
    """USD per million tokens, as the provider publishes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_usd: NonNegativeFloat = 0.0
    generated_usd: NonNegativeFloat = 0.0


class Settings(BaseSettings):
    """All settings, checked. Immutable; ``Settings(model="…")`` wins over every file and variable, None means not given."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, protected_namespaces=())

    model: str | None = Field(
        None, description="model that answers: a hub id, a local folder, a .gguf file, an endpoint's model, or `embedded`"
    )
    base_url: str | None = Field(None, description="OpenAI-compatible endpoint that serves the model, e.g. http://localhost:8000/v1")
    api_key_env: str = Field("OPENAI_API_KEY", description="name of the environment variable that holds the endpoint's key")
    context: int | None = Field(None, ge=256, description="window of the model in tokens, where it cannot be asked")
    tokenizer: str | None = Field(None, description="local tokenizer that counts a remote model's tokens: hub id, folder or tokenizer.json")
    embedder: str | None = Field(None, description="embedding model: hub id, folder, or `embedded`")
    embedder_base_url: str | None = Field(None, description="OpenAI-compatible endpoint that serves the embedding model")
    concurrency: int = Field(4, ge=1, le=256, description="calls to an endpoint at the same time")
    timeout_s: float = Field(120.0, gt=0, description="seconds to wait for an endpoint before giving up on a call")
    use_server: bool = Field(True, description="`bay ask` uses a running `bay serve` that has the same model, instead of loading it again")
    keep_minutes: float = Field(
        0.0, ge=0, le=1440, description="minutes that a model which `bay ask` loads stays in memory after its last question; 0: not at all"
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="where a local model runs: auto, cpu, cuda, cuda:1, mps"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="number format of a local model")
    index: str | None = Field(None, description="where the index is kept: a folder or a LanceDB URI (s3://…)")
    memory: str | None = Field(None, description="where memories are kept: a folder or a PostgreSQL URL (postgresql://…)")
    chunk_tokens: int = Field(256, ge=32, le=8192, description="largest chunk of a document in the embedder's tokens")
    orders: Literal["leave_out", "keep"] = Field(
        "leave_out", description="sentences of documents that order their reader what to reply: left out, saying so, or kept"
    )
    recipe: str | dict[str, Any] | None = Field(
        None, description="recipe used when none is named: a line, a table, or a name from `recipes`"
    )
    recipes: dict[str, str | dict[str, Any]] = Field(default_factory=dict, description="your own named recipes")
    judge: str | None = Field(None, description="model that grades where a benchmark's score is a judge's verdict: a name as for `model`")
    nli: str | None = Field(
        None, description="model that tests entailment for citation scores: hub id or folder; without one the judge does"
    )
    prices: PriceTable | None = Field(None, description="USD per million tokens: prompt_usd, generated_usd")

    def __init__(self, **flags: Any) -> None:
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise _explained(error, given) from None
        except SettingsError as error:
            raise ConfigError(
                str(error), hint="tables in the environment are written key by key, e.g. BAY_PRICES__PROMPT_USD=0.15"
            ) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Highest first, as pydantic-settings wants it. A .env file is not read: it belongs to another program."""
        files = (InitSettingsSource(settings_cls, init_kwargs=table) for _, table in reversed(read_files()))
        return (init_settings, env_settings, *files)

    def token_prices(self) -> Prices | None:
        """Prices for a run's meter, or None if none were configured."""
        return Prices(**self.prices.model_dump()) if self.prices else None

    def recipe_of(self, given: str | Mapping[str, Any] | None) -> str | Mapping[str, Any] | None:
        """What to parse: the given recipe, else the configured one; a name from ``recipes`` stands for what it names."""
        chosen = given if given is not None else self.recipe
        return self.recipes.get(chosen.strip(), chosen) if isinstance(chosen, str) else chosen


def files() -> list[Path]:
    """The configuration files that are there, the one that wins last."""
    home = os.environ.get("BAY_HOME")
    folder = Path(home).expanduser() / "config" if home else platformdirs.user_config_path("baywindow")
    here = Path.cwd()
    nearest = next((p for p in (f / FILE for f in (here, *here.parents)) if p.is_file()), None)
    return [path for path in (folder / FILE, nearest) if path is not None and path.is_file()]


def read_files() -> list[tuple[Path, dict[str, Any]]]:
    """Every configuration file with its table, unknown keys refused."""
    return [(path, _read(path)) for path in files()]


def origins(flags: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Where each setting that is set comes from: a file's path, a variable's name, or ``a flag``."""
    found = {key: str(path) for path, table in read_files() for key in table}
    for key in EnvSettingsSource(Settings)():
        found[key] = PREFIX + key.upper()
    return found | {key: f"the flag or argument {key}" for key, value in (flags or {}).items() if value is not None}


def unknown_variables() -> dict[str, str]:
    """``BAY_…`` variables that are no settings, each with the nearest that is."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    strange = [v for v in os.environ if v.startswith(PREFIX) and v.partition("__")[0] not in known]
    return {v: get_close_matches(v, known, n=1, cutoff=0.0)[0] for v in sorted(strange)}


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint='one setting a line, e.g. model = "embedded"') from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None
    _refuse_unknown(table, Settings, path, "")
    if isinstance(prices := table.get("prices"), dict):
        _refuse_unknown(prices, PriceTable, path, "prices.")
    return table


def _refuse_unknown(table: Mapping[str, Any], model: type[BaseModel], path: Path, inside: str) -> None:
    for key in table:
        if key in model.model_fields:
            continue
        if "key" in key or "token" in key.split("_") or "secret" in key:
            hint = "secrets stay out of files: put the key in an environment variable and its name in api_key_env"
        else:
            hint = f"nearest: {inside}{get_close_matches(key, model.model_fields, n=1, cutoff=0.0)[0]}"
        raise ConfigError(f"{path}: there is no setting {inside}{key!r}", hint=hint)


def _explained(error: ValidationError, flags: Mapping[str, Any]) -> ConfigError:
    """The first complaint as one line: which setting, where it was set, what it may be."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("str", "dict[")))
    top = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, Settings.model_fields, n=1, cutoff=0.0)[0]
        return ConfigError(f"there is no setting {key!r}", hint=f"nearest: {near}")
    field = Settings.model_fields.get(top)
    what = f"{top} is: {field.description}" if field else "see the configuration page of the docs"
    where = origins(flags).get(top, "")
    return ConfigError(f"{where + ': ' if where else ''}{key}={first['input']!r} is not allowed: {first['msg']}", hint=what)
