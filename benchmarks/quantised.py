"""Packed and low-rank caches, measured: bytes, perplexity of 4,096 tokens of natural text, needles.

    python benchmarks/quantised.py [--hours 1] [--models qwen,embedded] [--parts perplexity,needles] [--tokens 4096] [--fresh]

perplexity   the text goes in by 64 tokens, so that every piece reads what was packed before it; all tokens but the first are scored.
             `kvquant` is calibrated once on the end of the corpus, which no sample reaches; its rival packs rotated keys, and values, in
             even levels by token
needles      the protocol of benchmarks/window.py (two 7-digit numbers in natural text, only the context is compressed, then one is
             asked for), with longer contexts. `xkv` over four layers and over one hold the same bytes, a quarter

Bytes are those of the layers with full attention, everything counted, against two bytes a number: sliding-window layers are left as they
are. Resumable: each row is kept as it comes; ``--hours`` limits the whole run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import torch
from _per_token import PerToken
from _quantised_tables import EXPLAINED, needles, perplexity
from _rows import ROWS, Rows, write
from transformers.utils import logging as transformers_logging

from baywindow.errors import BayError
from baywindow.recipe import Recipe, parse
from baywindow.window import attach
from baywindow.window.block import tensor_bytes
from baywindow.window.caches.kvquant import KVQuant
from baywindow.window.engine.calibrated import arrays_path
from baywindow.window.engine.fingerprint import fingerprint
from baywindow.window.engine.prepare import prepare
from window import DTYPE, FILES, Loaded, folders, long_ids, sample, turns

PIECE = 64
CALIBRATION_TOKENS = 16 * 512
NEEDLE_TOKENS = 1500
SHARE = 1 / 4  # of the bytes, for xkv
PUBLISHED = (512 / 1280, 768 / 1280)  # how xKV shares its ranks out between keys and values
QUANTISED = {  # method -> recipe
    "stock": "stock",
    **{f"kvquant, {bits} bits": f"kvquant(bits={bits})" for bits in (4, 3, 2)},
    "kvquant, 3 bits, q_norm off": "kvquant(q_norm=False)",
    "kvquant, 3 bits, not calibrated": "kvquant(calibrated=False)",
    "kivi, 4 bits": "kivi(bits=4)",
    "kivi, 2 bits": "kivi(bits=2)",
    "by token, 4 bits": PerToken(bits=4),
    "by token, 3 bits": PerToken(bits=3),
}
NARROW = {"think": "think", "think + kivi, 4 bits": "think + kivi(bits=4)"}


def recipe_of(plan: str | PerToken) -> Recipe:
    return parse(plan) if isinstance(plan, str) else Recipe((plan,))


def xkv_plans(w: Any, tokens: int) -> dict[str, str]:
    """xkv over four layers and over one, both with factors of at most ``SHARE`` of the bytes of so many tokens."""
    layers = w.info.full_layers
    plans = {}
    for group in (4, 1):
        width = sum(i.kv_heads * i.head_dim for i in layers[:group])
        numbers = SHARE * 2 * tokens * width / (tokens + width)  # ranks of keys and values together
        key, value = (max(1, int(numbers * part)) / width for part in PUBLISHED)
        plans[f"xkv, {group} layers"] = f"xkv(group_layers={group}, key_rank={key!r}, value_rank={value!r})"
    return plans


def full_bytes(w: Any, cache: Any) -> int:
    return tensor_bytes(*(t for layer in w.info.full_layers for t in cache.store(layer.index).tensors()))


def plain_bytes(w: Any, tokens: int) -> int:
    return sum(2 * tokens * i.kv_heads * (i.head_dim + i.value_dim) for i in w.info.full_layers)


def calibrate(loaded: Loaded, plan: Recipe) -> None:
    """Prepare kvquant for this model, if that was not done before. Its text is the end of the corpus."""
    for part in plan.inside:
        if isinstance(part, KVQuant) and part.calibrated and not arrays_path(fingerprint(loaded.model), part).is_file():
            print(f"preparing {plan}", flush=True)
            prepare(loaded.model, part, long_ids(loaded.tokenizer, 10**9)[:, -CALIBRATION_TOKENS:])


@torch.no_grad()
def read_text(loaded: Loaded, plan: Recipe, ids: torch.Tensor) -> dict[str, Any]:
    """Mean loss of the text's tokens, and the bytes of it afterwards."""
    total = 0.0
    with attach(loaded.model, plan) as w:
        cache = w.cache()
        last: torch.Tensor | None = None
        for piece in torch.split(ids, PIECE, dim=1):
            logits = loaded.model(input_ids=piece, past_key_values=cache).logits[0].float()
            logits = logits if last is None else torch.cat([last, logits])
            seen = piece[0] if last is not None else piece[0, 1:]
            total += float(torch.nn.functional.cross_entropy(logits[: len(seen)], seen, reduction="sum"))
            last = logits[-1:]
        return {"nll": total / (ids.shape[1] - 1), "nbytes": full_bytes(w, cache), "plain": plain_bytes(w, ids.shape[1])}


@torch.no_grad()
def answer(loaded: Loaded, plan: str | PerToken, request: dict[str, Any]) -> dict[str, Any]:
    """Loss of the right answer and whether each of its tokens came first; the bytes behind the context."""
    context, after = (torch.tensor([request[name]]) for name in ("context", "after"))
    with attach(loaded.model, recipe_of(plan)) as w:
        cache = w.prefill(context)
        nbytes = full_bytes(w, cache)
        logits = loaded.model(input_ids=after, past_key_values=cache).logits[0].float()
        plain = plain_bytes(w, context.shape[1])
    k = request["answer_tokens"]
    logp, target = torch.log_softmax(logits[-k - 1 : -1], dim=-1), after[0, -k:]
    nll = -float(logp.gather(1, target[:, None]).mean())
    return {"nll": nll, "exact": bool((logp.argmax(dim=-1) == target).all()), "nbytes": nbytes, "plain": plain}


def perplexity_jobs(name: str, loaded: Loaded, rows: Rows, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """One stretch of text a step, by every method."""
    text = long_ids(loaded.tokenizer, 10**9)[:, :-CALIBRATION_TOKENS]
    for i in range(text.shape[1] // options.tokens):
        made = []
        for method, plan in QUANTISED.items():
            key = {"part": "perplexity", "model": name, "sample": i, "method": method, "tokens": options.tokens}
            if rows.has(key) or loaded.late():
                continue
            calibrate(loaded, recipe_of(plan))
            made.append({**key, **read_text(loaded, recipe_of(plan), text[:, i * options.tokens : (i + 1) * options.tokens])})
            rows.add(made[-1])
        yield made


def needle_jobs(name: str, loaded: Loaded, rows: Rows, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """One context a step, by every method."""
    with attach(loaded.model) as w:
        width = xkv_plans(w, min(options.tokens, NEEDLE_TOKENS))
    for i in range(1000):
        made = []
        request: dict[str, Any] = {}
        for method, plan in {**QUANTISED, **NARROW, **width}.items():
            key = {"part": "needles", "model": name, "sample": i, "method": method, "tokens": min(options.tokens, NEEDLE_TOKENS)}
            if rows.has(key) or loaded.late():
                continue
            calibrate(loaded, recipe_of(plan))
            request = request or sample(i, loaded.tokenizer, min(options.tokens, NEEDLE_TOKENS))
            made.append({**key, **answer(loaded, plan, request)})
            rows.add(made[-1])
        yield made


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    path = ROWS / "quantised.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, key=lambda r: tuple(r.get(k) for k in ("part", "model", "sample", "method", "tokens")))
    end = time.monotonic() + options.hours * 3600
    here = folders(options.models.split(",")) if options.hours > 0 else {}
    loaded = {name: Loaded(folder, end) for name, folder in here.items()}
    kinds = {"perplexity": perplexity_jobs, "needles": needle_jobs}
    jobs = [kinds[part](name, one, rows, options) for part in options.parts.split(",") for name, one in loaded.items()]
    for step in turns(jobs):
        for row in step:
            print(row, flush=True)
        if time.monotonic() > end:
            break
    report(rows, options)


def report(rows: Rows, options: argparse.Namespace) -> None:
    parts = []
    for name in sorted({r["model"] for r in rows.rows}, reverse=True):
        mine = [r for r in rows.rows if r["model"] == name]
        parts += [f"## {FILES[name]}, {DTYPE}", *perplexity(mine), *needles(mine)]
    body = "\n\n".join([EXPLAINED, *parts])
    command = f"python benchmarks/quantised.py --hours {options.hours:g} --tokens {options.tokens}"
    write("quantised", "Packed and low-rank caches", body, {"rows": rows.rows}, command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="stop after this time and report what there is (0: only report)")
    parser.add_argument("--models", default="qwen,embedded")
    parser.add_argument("--parts", default="perplexity,needles")
    parser.add_argument("--tokens", type=int, default=4096, help="of a stretch of text (fewer only to see that it runs)")
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    try:
        run(parser.parse_args())
    except BayError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
