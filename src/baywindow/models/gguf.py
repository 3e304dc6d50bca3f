"""A .gguf file becomes an ordinary model folder, once: bf16 safetensors, configuration, tokenizer and a manifest, in the user's cache.

Transformers can read a GGUF directly, but unpacks it anew at every start (a minute for a vocabulary of 262,144). The folder is keyed
by the SHA-256 of the file, so a renamed file is found again and a changed one converted anew. It is made in a temporary folder beside
its place and moved there whole: an interrupted conversion leaves nothing that could be loaded.

Manifest (``manifest.json``): format, source, sha256, source_bytes, name, architecture, dtype, libraries,
plain_tokenizer (see `is_plain`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from baywindow.errors import MissingExtraError, ModelError
from baywindow.home import cache_dir
from baywindow.models.alignment import align
from baywindow.models.fingerprint import sha256_of, write_json
from baywindow.models.gguf_header import damaged, read_header
from baywindow.models.gguf_reading import read_once
from baywindow.models.quiet import quietly

Progress = Callable[[str], None]

FORMAT = 1  # raise when converted folders of older versions must not be used any more
MANIFEST = "manifest.json"


def converted(path: str | Path, *, progress: Progress | None = None) -> Path:
    """The model folder made from a .gguf file; converts it first if that has not been done.

    ``progress`` hears one line before each slow step. Raises ModelError for a file that is no GGUF, is cut short or of an
    architecture that transformers does not read, MissingExtraError without the ``local`` extra.
    """
    source = Path(path).expanduser()
    say = progress or (lambda line: None)
    if (done := find(source)) is not None:
        return done
    target = _place(source)
    with FileLock(f"{target}.lock"):
        if (done := find(source)) is not None:  # another process made it while this one waited
            return done
        _check_whole(source)
        _convert_into(source, target, say)
    return target


def find(path: str | Path) -> Path | None:
    """The folder already made from this file, or None. Reads the file's sum, which is remembered."""
    target = _place(Path(path).expanduser())
    manifest = read_manifest(target)
    return target if manifest is not None and manifest.get("format") == FORMAT else None


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a converted folder, or None if it is not one."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def all_converted() -> list[tuple[Path, dict[str, Any]]]:
    """Every converted folder in the cache with its manifest, in order of name (what `bay models` lists)."""
    folders = sorted(p for p in cache_dir("models").iterdir() if p.is_dir() and not p.name.startswith("."))
    return [(folder, manifest) for folder in folders if (manifest := read_manifest(folder)) is not None]


def _place(source: Path) -> Path:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem)[:80]
    digest = sha256_of(source)[:16]
    home = cache_dir("models")
    named = [p for p in home.glob(f"*-{digest}") if p.is_dir()]  # converted before under another file name
    return named[0] if named else home / f"{stem}-{digest}"


def _check_whole(source: Path) -> None:
    """Compare the file's length with what its tensor table needs, so that a file cut short is refused before minutes of work."""
    needed = read_header(source).needed_bytes
    if needed > (there := source.stat().st_size):
        raise damaged(source, f"{there:,} of {needed:,} bytes are there")


def _convert_into(source: Path, target: Path, say: Progress) -> None:
    for left in target.parent.glob(f".{target.name}.*"):  # by a process that was killed: this one holds the lock
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        _check_extra()
        with read_once(say):
            architecture = _write_model(source, temporary, say)
            _write_tokenizer(source, temporary, say)
        write_json(temporary / MANIFEST, _manifest(source, architecture) | {"plain_tokenizer": is_plain(temporary)})
        if target.exists():  # a folder of an older format
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ModelError(f"{source.name} could not be converted: {error}", hint=f"free disk space in {target.parent}") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _check_extra() -> None:
    try:
        import gguf  # noqa: F401 - transformers needs it and says so less clearly
        import transformers  # noqa: F401
    except ImportError:
        raise MissingExtraError.of("what reads GGUF files (torch, transformers, gguf)", "local") from None


def _write_model(source: Path, folder: Path, say: Progress) -> str:
    """Unpack the weights to bf16 and save them; returns the model's class name."""
    from transformers import AutoModelForCausalLM, GgufConfig

    say(f"unpacking {source.name} (once; about a minute for a small model)")
    try:
        with quietly():
            model = AutoModelForCausalLM.from_pretrained(
                str(source.parent),
                gguf_file=source.name,
                dtype="bfloat16",
                quantization_config=GgufConfig(dequantize=True),
                local_files_only=True,
            )
    except OSError:
        raise
    except Exception as error:
        detail = _first_line(error)
        raise ModelError(f"{source.name} cannot be read as a model: {detail}", hint="its architecture may be too new") from error
    # Weights that stay marked as packed are refused by save_pretrained even after they were unpacked.
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    say("writing safetensors")
    with quietly():
        model.save_pretrained(folder)
    align(folder)
    return type(model).__name__


def _write_tokenizer(source: Path, folder: Path, say: Progress) -> None:
    from transformers import AutoTokenizer

    say("reading the tokenizer")
    with quietly():
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name, local_files_only=True)
    tokenizer.save_pretrained(folder)


def plain_tokenizer(folder: Path) -> Any:
    """The saved tokenizer as it stands in its file. AutoTokenizer builds it anew from its parts, which takes longer."""
    from transformers import PreTrainedTokenizerFast

    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    names = {key: value for key, value in config.items() if key.endswith("_token")}
    template = folder / "chat_template.jinja"
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        chat_template=template.read_text(encoding="utf-8") if template.is_file() else config.get("chat_template"),
        clean_up_tokenization_spaces=False,
        **names,
    )


def is_plain(folder: Path) -> bool:
    """Whether `plain_tokenizer` is the tokenizer that AutoTokenizer makes, on a sample of scripts, blanks and control tokens."""
    from transformers import AutoTokenizer

    with quietly():
        auto = AutoTokenizer.from_pretrained(str(folder), clean_up_tokenization_spaces=False, local_files_only=True)
    plain = plain_tokenizer(folder)
    controls = [token.content for token in auto.added_tokens_decoder.values() if token.special][:50]
    sample = "The capital of France\n\n\t def f(x):  return x\n日本語 🙂 Ünï " + " ".join(controls)
    same_ids = all(auto(sample, **how).input_ids == plain(sample, **how).input_ids for how in ({}, {"split_special_tokens": True}))
    ids = auto(sample).input_ids
    return (
        same_ids
        and auto.decode(ids, skip_special_tokens=True) == plain.decode(ids, skip_special_tokens=True)
        and (auto.chat_template, auto.eos_token_id, auto.pad_token_id) == (plain.chat_template, plain.eos_token_id, plain.pad_token_id)
    )


def _manifest(source: Path, architecture: str) -> dict[str, object]:
    return {
        "format": FORMAT,
        "source": str(source.resolve()),
        "sha256": sha256_of(source),
        "source_bytes": source.stat().st_size,
        "name": source.stem,
        "architecture": architecture,
        "dtype": "bfloat16",
        "libraries": {name: metadata.version(name) for name in ("transformers", "torch", "gguf")},
    }


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
