"""From a name to weights: hub id, folder or .gguf. Never runs a model's own code, never reads pickled weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baywindow.errors import ModelError
from baywindow.models import gguf, identity
from baywindow.models.quiet import quietly
from baywindow.models.transformers.device import device_of, dtype_of
from baywindow.models.transformers.one_row import by_row


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer on its device; ``fingerprint`` as `LanguageModel.fingerprint` says."""

    model: Any
    tokenizer: Any
    fingerprint: str


def load(where: str, device: str, dtype: str, progress: gguf.Progress | None) -> Loaded:
    """Raises ModelError with one line: not found, not reachable, not safetensors, needs code of its own, unknown architecture."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = _folder(where, progress)
    source = str(folder) if folder is not None else where
    place = device_of(device)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": folder is not None}
    try:
        with quietly():
            if folder is not None and (gguf.read_manifest(folder) or {}).get("plain_tokenizer"):
                tokenizer = gguf.plain_tokenizer(folder)
            else:
                tokenizer = AutoTokenizer.from_pretrained(source, clean_up_tokenization_spaces=False, **options)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype_of(dtype, place), use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise not_loaded(where, error) from error
    if not tokenizer.is_fast:
        raise ModelError(f"{where} has no fast tokenizer", hint="use a model with a tokenizer.json")
    model.eval().to(place)
    by_row(model)
    return Loaded(model, tokenizer, _fingerprint(where, folder, model))


def not_loaded(where: str, error: BaseException) -> ModelError:
    """What went wrong, told by the words transformers and the hub use."""
    text = str(error) or type(error).__name__
    if "trust_remote_code" in text or "custom code" in text:
        return ModelError(f"{where} needs code of its own, which is never run", hint="choose a model that transformers knows itself")
    if "safetensors" in text:
        return ModelError(f"{where} has no safetensors weights", hint="convert it with save_pretrained, or choose another")
    if "couldn't connect" in text or "offline" in text.lower() or "Connection" in text:
        return ModelError(f"{where} is not on this machine and the model hub cannot be reached", hint=HINT)
    if "is not a local folder" in text or "not a valid model identifier" in text or "Repository Not Found" in text:
        return ModelError(f"there is no model {where!r}, neither a folder nor on the hub", hint=HINT)
    return ModelError(f"{where} cannot be loaded: {text.splitlines()[0][:200]}", hint=HINT)


HINT = "`bay models` shows what is here; `--model embedded` always works"


def _folder(where: str, progress: gguf.Progress | None) -> Path | None:
    path = Path(where).expanduser()
    if path.suffix.lower() == ".gguf":
        return gguf.converted(path, progress=progress)
    if path.is_dir():
        return path
    if path.is_absolute() or where.startswith((".", "~")):
        raise ModelError(f"{where} does not exist", hint="give a folder, a .gguf file or a hub id such as Qwen/Qwen2.5-0.5B-Instruct")
    return None


def _fingerprint(where: str, folder: Path | None, model: Any) -> str:
    return identity.of_folder(folder) if folder is not None else identity.of_commit(where, getattr(model.config, "_commit_hash", None))
