"""The folder of a coded context: ``exact.safetensors`` and one file a chunk, each with its version and its checksum.

A chunk file is: magic, version, length of the head, the head as JSON, the pieces end to end, and the SHA-256 of all of that. Nothing in
it is executable. Lengths are checked against each other before anything is made of their size.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from baywindow.errors import SourceError
from baywindow.window.caches.cachegen import pieces
from baywindow.window.caches.cachegen.coding import damaged
from baywindow.window.caches.cachegen.levels import bins_of
from baywindow.window.caches.cachegen.pieces import Coded

MAGIC, VERSION = b"BAYKVGEN", 1
PREAMBLE = struct.Struct("<8sHI")  # magic, version, length of the head
DIGEST = 32
EXACT = "exact.safetensors"
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16)}
LEAST_BITS = 64  # a piece of n bytes holds at most 64 · 8 · n elements: nobody may ask for memory that the file does not stand for
Settings = tuple[int, int, int]  # quality, group_tokens, chunk_tokens


def chunk_name(i: int) -> str:
    return f"chunk-{i:05}.bin"


def write(folder: Path, coded: list[Coded], exact: dict[str, Tensor], settings: Settings) -> list[str]:
    """Write all; the names of the files made."""
    quality, group, chunk = settings
    save_file(exact, folder / EXACT)
    layers = 1 + max((one.layer for one in coded), default=0)
    count = max((-(-len(run) // chunk) for one in coded for run in one.runs), default=0)
    about: dict[str, Any] = {
        "quality": quality,
        "chunks": max(count, 1),
        "tensors": {
            one.name: {"shape": list(one.tensor.shape), "dtype": _dtype_name(one.tensor), "runs": [list(run.shape) for run in one.runs]}
            for one in coded
        },
        "exact": hashlib.sha256((folder / EXACT).read_bytes()).hexdigest(),
    }
    for i in range(about["chunks"]):
        listed, body = [], []
        for one in coded:
            bins = bins_of(quality, one.kind, one.layer, layers)
            for j, run in enumerate(one.runs):
                part = run[i * chunk : (i + 1) * chunk]
                if part.numel():
                    body.append(pieces.encode(part.float().numpy(), bins, group))
                    listed.append([one.name, j, part.shape[0], len(body[-1])])
        _write_chunk(folder / chunk_name(i), {"chunk": i, "pieces": listed, **(about if i == 0 else {})}, b"".join(body))
    return [EXACT, *(chunk_name(i) for i in range(about["chunks"]))]


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors, coded ones as near as their quality is. Raises SourceError for anything that is not as it was written."""
    head, body = _read_chunk(folder / chunk_name(0))
    try:
        described, chunks = _described(head), int(head["chunks"])
        raw = (folder / EXACT).read_bytes()
        if hashlib.sha256(raw).hexdigest() != head["exact"]:
            raise damaged(f"{EXACT} does not have its checksum")
        tensors: dict[str, Tensor] = load_file(folder / EXACT)
        found: dict[tuple[str, int], list[np.ndarray[Any, Any]]] = {}
        _take(head, body, 0, described, found)
        for i in range(1, chunks):
            _take(*_read_chunk(folder / chunk_name(i)), i, described, found)
        for name, one in described.items():
            tensors[name] = _assemble(one, [found.pop((name, j), []) for j in range(len(one.runs))])
    except (KeyError, TypeError, ValueError, OverflowError, SafetensorError, OSError) as error:
        raise damaged(f"{folder} ({type(error).__name__}: {error})") from None
    if found:
        raise damaged("it holds pieces of nothing")
    return tensors


@dataclass(frozen=True)
class Described:
    """What a coded tensor was: its shape and number format, and the tokens and channels of its runs."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    runs: tuple[tuple[int, int], ...]


def _described(head: dict[str, Any]) -> dict[str, Described]:
    found = {}
    for name, one in head["tensors"].items():
        shape, runs = tuple(map(int, one["shape"])), tuple((int(t), int(c)) for t, c in one["runs"])
        if min(chain(shape, *runs), default=0) < 0 or int(np.prod(shape)) != sum(t * c for t, c in runs):
            raise damaged(f"{name} has another size than its parts")
        found[name] = Described(shape, DTYPES[one["dtype"]], runs)
    return found


def _take(
    head: dict[str, Any], body: bytes, i: int, described: dict[str, Described], found: dict[tuple[str, int], list[np.ndarray[Any, Any]]]
) -> None:
    """Decode the pieces of chunk ``i`` behind those of the chunks before it."""
    if head["chunk"] != i:
        raise damaged(f"chunk {i} is chunk {head['chunk']}")
    start = 0
    for name, j, tokens, size in head["pieces"]:
        columns = described[name].runs[j][1]
        if not 0 < tokens * columns <= LEAST_BITS * 8 * size:
            raise damaged(f"a piece of {size} bytes cannot hold {tokens} tokens")
        found.setdefault((name, j), []).append(pieces.decode(body[start : start + size], (tokens, columns)))
        start += size
    if start != len(body):
        raise damaged(f"chunk {i} has bytes that belong to nothing")


def _assemble(one: Described, runs: list[list[np.ndarray[Any, Any]]]) -> Tensor:
    """The tensor of its runs, each a list of pieces in order."""
    if [sum(len(piece) for piece in run) for run in runs] != [tokens for tokens, _ in one.runs]:
        raise damaged("tokens are missing")
    if not runs or 0 in one.shape:
        return torch.zeros(one.shape, dtype=one.dtype)
    whole = [torch.from_numpy(np.concatenate(run)) for run in runs if run]
    if len(one.shape) == 2:
        return torch.cat(whole).to(one.dtype)
    _, H, L, D = one.shape
    return torch.stack([row.view(L, H, D).transpose(0, 1) for row in whole]).to(one.dtype).contiguous()


def sizes(folder: Path) -> list[int]:
    """Bytes of each chunk file, in order."""
    return [path.stat().st_size for path in sorted(folder.glob(chunk_name(0).replace("00000", "*")))]


def _write_chunk(path: Path, head: dict[str, Any], body: bytes) -> None:
    said = json.dumps(head, separators=(",", ":")).encode()
    whole = PREAMBLE.pack(MAGIC, VERSION, len(said)) + said + body
    path.write_bytes(whole + hashlib.sha256(whole).digest())


def _read_chunk(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise damaged(f"{path.name} cannot be read ({error.strerror})") from None
    if len(raw) < PREAMBLE.size + DIGEST:
        raise damaged(f"{path.name} is too short")
    magic, version, length = PREAMBLE.unpack_from(raw)
    if magic != MAGIC:
        raise damaged(f"{path.name} is no chunk of a coded context")
    if version != VERSION:
        raise SourceError(f"{path.name} has format {version}; this version reads format {VERSION}", hint="make it again")
    if hashlib.sha256(raw[:-DIGEST]).digest() != raw[-DIGEST:] or PREAMBLE.size + length > len(raw) - DIGEST:
        raise damaged(f"{path.name} does not have its checksum")
    head = json.loads(raw[PREAMBLE.size : PREAMBLE.size + length])
    if not isinstance(head, dict):
        raise damaged(f"{path.name} has no head")
    return head, raw[PREAMBLE.size + length : -DIGEST]


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
