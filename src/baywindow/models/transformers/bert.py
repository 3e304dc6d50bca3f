"""Sentence embeddings by a plain BERT (all-MiniLM and its like): the encoder, then the mean over its last states.

Why not sentence-transformers here, which stays in use for every other model and is the oracle of the tests: for one short question
most of its time is not the model's, and importing it costs more than a second before the first one. This file imports torch alone.

Texts of a batch stand one after the other, shape (token, dim), so nothing is padded and nothing masked; only attention looks at one
text at a time, those of equal length together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from baywindow.models.transformers.dense import Dense

# Tokens of one pass: enough for the matrix products, few enough for the processor's cache.
PASS_TOKENS = 2048
MEAN_ONLY = {"pooling_mode_mean_tokens": True}


@dataclass(frozen=True)
class Layer:
    """One block's weights. ``qkv`` gives 3 dim; the norms are (weight, bias)."""

    qkv: Dense
    out: Dense
    after_attention: tuple[Tensor, Tensor]
    up: Dense
    down: Dense
    after: tuple[Tensor, Tensor]


class Bert:
    """The encoder of a folder that `fits`. ``max_tokens`` counts the two marks around a text; what is longer is cut."""

    def __init__(self, folder: Path, *, max_tokens: int, device: torch.device, dtype: torch.dtype) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = {name: w.to(device, dtype) for name, w in load_file(folder / "model.safetensors").items() if w.is_floating_point()}
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])
        self._words = weights["embeddings.word_embeddings.weight"]
        # Every token is of the first segment.
        self._places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        self._first = _pair(weights, "embeddings.LayerNorm")
        self._layers = [_layer(weights, f"encoder.layer.{n}") for n in range(int(config["num_hidden_layers"]))]
        self._device = device
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(min(max_tokens, len(self._places)))

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Means of the last states, shape (text, dim) in float32 on the CPU, not yet of unit length."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        found = torch.empty(len(rows), self._words.shape[1])
        for group in _passes(order, rows):
            found[group] = self._forward([rows[at] for at in group]).cpu()
        return found

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Means of rows sorted by length, shape (row, dim)."""
        lengths = [len(row) for row in rows]
        ids = torch.tensor([i for row in rows for i in row], device=self._device)
        places = torch.cat([torch.arange(n, device=self._device) for n in lengths])
        x = self._normed(self._words[ids] + self._places[places], self._first)
        runs = [(n, len(list(same))) for n, same in groupby(lengths)]
        for layer in self._layers:
            x = self._normed(x + layer.out(self._attended(x, layer, runs)), layer.after_attention)
            x = self._normed(x + layer.down(layer.up.gelu(x)), layer.after)
        return torch.cat([part.float().mean(1) for part in _blocks(x, runs)])

    def _attended(self, x: Tensor, layer: Layer, runs: Sequence[tuple[int, int]]) -> Tensor:
        """What attention reads, each text by itself: (token, dim)."""
        found = []
        for block in _blocks(layer.qkv(x), runs):
            texts, tokens, _ = block.shape
            q, k, v = block.view(texts, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            read = functional.scaled_dot_product_attention(q, k, v)
            found.append(read.transpose(1, 2).reshape(texts * tokens, -1))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _normed(self, x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], *norm, self._eps)


def fits(folder: Path) -> bool:
    """Whether this is a BERT with mean pooling, nothing else and no prompts; every other folder is for sentence-transformers."""
    config, pooling, said = (_read(folder / name) for name in ("config.json", "1_Pooling/config.json", "config_sentence_transformers.json"))
    modules = _read(folder / "modules.json") or []
    kinds = [str(m.get("type", "")).rpartition(".")[2] for m in modules]
    modes = {key: value for key, value in (pooling or {}).items() if key.startswith("pooling_mode") and value}
    return (
        kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and modes in (MEAN_ONLY, {"pooling_mode": "mean"})
        and not any((said or {}).get("prompts", {}).values())
        and (config or {}).get("architectures") == ["BertModel"]
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and all((folder / name).is_file() for name in ("model.safetensors", "tokenizer.json"))
    )


def _passes(order: Sequence[int], rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Rows in the given order, in groups of at most `PASS_TOKENS` tokens."""
    group: list[int] = []
    tokens = 0
    for at in order:
        if group and tokens + len(rows[at]) > PASS_TOKENS:
            yield group
            group, tokens = [], 0
        group.append(at)
        tokens += len(rows[at])
    if group:
        yield group


def _blocks(x: Tensor, runs: Sequence[tuple[int, int]]) -> list[Tensor]:
    """(token, dim) cut into texts of equal length: (text, token, dim) for each run of (length, how many)."""
    return [part.view(texts, length, -1) for part, (length, texts) in zip(x.split_with_sizes([n * t for n, t in runs]), runs, strict=True)]


def _layer(weights: dict[str, Tensor], name: str) -> Layer:
    of_qkv = [_pair(weights, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
    return Layer(
        qkv=Dense(torch.cat([w for w, _ in of_qkv]), torch.cat([b for _, b in of_qkv])),
        out=Dense(*_pair(weights, f"{name}.attention.output.dense")),
        after_attention=_pair(weights, f"{name}.attention.output.LayerNorm"),
        up=Dense(*_pair(weights, f"{name}.intermediate.dense")),
        down=Dense(*_pair(weights, f"{name}.output.dense")),
        after=_pair(weights, f"{name}.output.LayerNorm"),
    )


def _pair(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
