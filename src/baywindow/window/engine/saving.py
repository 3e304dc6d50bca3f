"""A cache as a folder and back: ``manifest.json`` says what is there and what it is bound to, safetensors hold the tensors.

Nothing in it is executable, and nothing is trusted: version, model, tokenizer, recipe, checksums and shapes are checked before a
tensor is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from baywindow.errors import ModelError, SourceError
from baywindow.window.block import Block
from baywindow.window.caches.base import Codec, Segment
from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.holding import Watched
from baywindow.window.engine.shelf import Shelf
from baywindow.window.engine.store import Store
from baywindow.window.engine.tail import Tail, own

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime

FORMAT = 2
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
ON_CPU = ".counts"  # segments keep their counts there by contract
Described = dict[str, Any]


def save(cache: WindowCache, folder: Path, bound_to: Described, codec: Codec | None = None) -> None:
    """Write the cache, by its recipe's codec if that has one, else by ``codec``, else plainly. The folder appears complete or not at all;
    an older one of that name is replaced."""
    layers: list[Described] = []
    tensors: dict[str, Tensor] = {}
    for i, store in enumerate(cache.stores):
        layers.append(_describe(store, f"{i}", tensors))
    if cache.ids:
        tensors["ids"] = torch.cat(cache.ids, dim=1)
    if cache.row_tokens is not None:
        tensors["row_tokens"] = cache.row_tokens
    if cache.protect_from is not None:
        tensors["protect_from"] = cache.protect_from
    body = {**bound_to, "mode": cache.mode, "question_tokens": cache.question_tokens, "layers": layers}
    write(folder, body, tensors, cache.runtime.parts.codec or codec)


def write(folder: Path, described: Described, tensors: dict[str, Tensor], codec: Codec | None) -> None:
    """Tensors and what there is to say of them, with checksums; complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    try:
        tensors, same = without_repeats(tensors)
        plain = {name: own(t.detach().cpu()) for name, t in tensors.items()}
        files = codec.write(beside, plain) if codec is not None else _write_plain(beside, plain)
        body = {"format": FORMAT, **described, "same": same, "files": {name: checksum(beside / name) for name in files}}
        (beside / MANIFEST).write_text(json.dumps({**body, "checksum": _digest(body)}, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def read_manifest(folder: Path, bound_to: Described) -> Described:
    """The manifest, if it is whole and bound to the same things. Raises SourceError (damaged, other version) or ModelError (other model,
    tokenizer or recipe), naming which."""
    path = folder / MANIFEST
    if not path.is_file():
        raise SourceError(f"{folder} is not a saved context: it has no {MANIFEST}", hint="give the folder that Prefilled.save made")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        claimed = found.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise SourceError(f"the saved context {folder} is damaged: its {MANIFEST} cannot be read", hint="make it again") from None
    if found.get("format") != FORMAT:
        raise SourceError(
            f"the saved context {folder} has format {found.get('format')!r}; this version reads format {FORMAT}", hint="make it again"
        )
    if claimed != _digest(found):
        raise SourceError(f"the saved context {folder} is damaged: its {MANIFEST} was changed", hint="make it again")
    for name, what in (("model", "model"), ("tokenizer", "tokenizer"), ("recipe", "recipe")):
        if name in bound_to and found.get(name) != bound_to[name]:
            raise ModelError(
                f"the saved context {folder} belongs to another {what}: {found.get(name)!r}, not {bound_to[name]!r}",
                hint=f"load it with the {what} it was made with, or make it again",
            )
    for name, claimed in found["files"].items():
        if not (folder / name).is_file() or Path(name).name != name or checksum(folder / name) != claimed:
            raise SourceError(f"the saved context {folder} is damaged: {name} does not have its checksum", hint="make it again")
    return dict(found)


def read_tensors(folder: Path, manifest: Described, codec: Codec | None) -> dict[str, Tensor]:
    """What `write` wrote, on the CPU, repeats too; ``manifest`` comes from `read_manifest`."""
    try:
        tensors: dict[str, Tensor] = codec.read(folder) if codec is not None else load_file(folder / TENSORS)
    except (SafetensorError, OSError) as error:
        raise SourceError(f"the saved context {folder} is damaged: {error}", hint="make it again") from None
    return tensors | {name: tensors[of] for name, of in manifest["same"].items()}


def load(runtime: Runtime, folder: Path, manifest: Described, codec: Codec | None = None) -> WindowCache:
    """The cache that was saved; ``codec`` is what `save` was given."""
    tensors = read_tensors(folder, manifest, runtime.parts.codec or codec)
    if len(manifest["layers"]) != len(runtime.info.layers):
        raise ModelError(f"the saved context {folder} has {len(manifest['layers'])} layers, the model {len(runtime.info.layers)}")
    device = runtime.model.get_input_embeddings().weight.device  # type: ignore[operator]
    tensors = {name: t if name.endswith(ON_CPU) else t.to(device) for name, t in tensors.items()}
    tensors |= {name: tensors[of] for name, of in manifest["same"].items()}  # what layers share stays shared on the device too
    cache = runtime.cache(question_tokens=int(manifest["question_tokens"]))
    for i, described in enumerate(manifest["layers"]):
        _restore(cache.store(i), described, f"{i}", tensors, runtime)
    cache.ids = [tensors["ids"]] if "ids" in tensors else []
    for name in ("row_tokens", "protect_from"):
        setattr(cache, name, tensors[name].to(device) if name in tensors else None)
    cache.mode = manifest["mode"]
    return cache


def without_repeats(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors without those that are another's very memory, and whose name each of them repeats: what layers share is saved once."""
    first: dict[Any, str] = {}
    same: dict[str, str] = {}
    for name, t in tensors.items():
        memory = (t.data_ptr(), t.shape, t.stride(), t.dtype) if t.numel() else name
        if (of := first.setdefault(memory, name)) != name:
            same[name] = of
    return {name: t for name, t in tensors.items() if name not in same}, same


def _describe(store: Store, at: str, tensors: dict[str, Tensor]) -> Described:
    """One layer's structure; its tensors go into ``tensors`` under names that begin with ``at``."""
    described: Described = {name: getattr(store, name) for name in ("seen", "holes", "gaps", "pristine")}
    described["segments"] = []
    for j, segment in enumerate(store.segments):
        parts = segment.tensors()
        described["segments"].append({"kind": segment.kind.__name__, "names": sorted(parts)})
        tensors |= {f"{at}.segment{j}.{name}": t for name, t in parts.items()}
    if store.tail is not None:
        block = store.tail.block
        tensors |= {f"{at}.tail.keys": block.keys, f"{at}.tail.values": block.values, f"{at}.tail.positions": block.positions.int()}
        tensors |= {f"{at}.tag.{name}": t for name, t in block.tags.items()}
        described["tags"] = sorted(block.tags)
    described["states"] = {part: sorted(state) for part, state in store.states.items() if state}
    tensors |= {f"{at}.state.{part}.{name}": t for part, state in store.states.items() for name, t in state.items()}
    if store.watched is not None:
        described["watched"] = True
        tensors |= {f"{at}.watched.queries": store.watched.queries, f"{at}.watched.q_pos": store.watched.q_pos}
    return described


def _restore(store: Store, described: Described, at: str, tensors: dict[str, Tensor], runtime: Runtime) -> None:
    def get(name: str) -> Tensor:
        return tensors[f"{at}.{name}"]

    for name in ("seen", "holes", "gaps", "pristine"):
        setattr(store, name, described[name])
    store.is_initialized = True
    mover = runtime.parts.mover
    for j, one in enumerate(described["segments"]):
        if one["kind"] not in Segment.kinds:
            raise SourceError(f"the saved context holds segments of an unknown kind, {one['kind']!r}", hint="make it again")
        segment = Segment.kinds[one["kind"]].restore({name: get(f"segment{j}.{name}") for name in one["names"]})
        placed = mover is None or isinstance(segment, Shelf)
        store.segments.append(segment if placed or mover is None else mover.put(segment, get("tail.keys").device))
    if "tags" in described:
        tags = {name: get(f"tag.{name}") for name in described["tags"]}
        block = Block(keys=get("tail.keys"), values=get("tail.values"), positions=get("tail.positions").long(), tags=tags)
        store.tail = Tail(block)
    store.states = {part: {name: get(f"state.{part}.{name}") for name in names} for part, names in described["states"].items()}
    if described.get("watched"):
        store.watched = Watched(get("watched.queries"), get("watched.q_pos"))


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_plain(folder: Path, tensors: dict[str, Tensor]) -> list[str]:
    save_file(tensors, folder / TENSORS)
    return [TENSORS]


def _digest(body: Described) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
