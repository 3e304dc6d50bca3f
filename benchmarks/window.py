"""Inside the window, measured: the seam against the stock model, caches against kvpress, resident memory while a prompt is read.

    python benchmarks/window.py [--hours 0.5] [--models qwen,embedded] [--parts speed,caches,memory] [--fresh]

speed    prefill of 4,096 tokens by 512 and decoding after them: stock, through the seam, and with folded query heads; bfloat16; the
         three take turns at every piece and step
caches   snapkv, expected_attention, kvzip and random at 1/2, 1/4 and 1/10 of the cache, here and in kvpress 0.5.5 (an environment of
         its own, made under the cache folder): same weights, same token ids, one after the other in turns. Two 7-digit numbers stand in
         natural text (Python's own documentation); only the context is compressed, then one is asked for
memory   resident memory of a fresh process while 16,384 tokens go in, in pieces of 1,024

The model ``narrow`` is for memory alone: Qwen's layers and key/value heads, random and 64 wide, so that it reads in seconds. What a cache
holds, and where, depends on shapes only.

Times are processor seconds of one thread (the machine is shared; wall-clock seconds are kept in the rows too). Resumable: each row is
kept as it comes. ``--hours`` limits the whole run; sample sizes are what the time gave, and stand in every cell.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from _peer_kvpress import Peer, environment
from _rows import ROWS, Rows, write
from _window_tables import EXPLAINED, caches, memory, speed
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging as transformers_logging

from baywindow.errors import BayError
from baywindow.home import cache_dir
from baywindow.models import gguf
from baywindow.window import attach

FILES = {"qwen": "qwen2.5-coder-0.5b-instruct-q4_k_m", "embedded": "gemma-3-270m-q4_k_m", "narrow": "narrow-random-model"}
METHODS = ("snapkv", "expected_attention", "kvzip", "random")
KEPT = (1 / 4, 1 / 10, 1 / 2)  # in this order, so that a run cut short has the telling ones
CONTEXT_TOKENS = {"qwen": 420, "embedded": 1400}  # Gemma's sliding layers see 512 tokens back: a shorter text would need no cache
LONG_TOKENS, SPEED_PIECE, STEPS = 4096, 512, 24
MEMORY_TOKENS, PIECE = 16384, 1024
MEMORY_RECIPES = (
    "streaming_llm(budget_tokens=1024)",
    "snapkv(budget_tokens=1024)",
    "infllm(local_tokens=1024)",
    "kvquant(bits=3, calibrated=False)",  # what it holds does not depend on where its levels lie
    "stock model",
)
WORDS = (
    "anchor basket candle dragon ember falcon garden harbor island jacket kettle ladder meadow needle orchard pepper quartz ribbon saddle"
)
DTYPE = "bfloat16"

# -- samples ----------------------------------------------------------------------------------------------------------------------


def sentences() -> list[str]:
    """Prose of Python's documentation, as every installation has it, without markup and code."""
    from pydoc_data import topics

    found = []
    for name in sorted(topics.topics):
        for paragraph in re.split(r"\n\s*\n", topics.topics[name]):
            line = " ".join(paragraph.split())
            if len(line) > 120 and not re.search(r"::=|>>>|::$|[*_`]{2}", line):
                found += re.split(r"(?<=[.?!]) (?=[A-Z])", re.sub(r'[*"`]', "", line))
    return found


def sample(i: int, tokenizer: Any, tokens: int) -> dict[str, Any]:
    """Context, question with answer, and how many tokens the answer has: all as token ids, the same for everybody."""
    draw = random.Random(i)
    text = sentences()
    start = draw.randrange(len(text) // 2)
    body: list[str] = []
    while len(tokenizer.encode(" ".join(body))) < tokens:
        body.append(text[start + len(body)])
    keys = draw.sample(WORDS.split(), 2)
    numbers = [str(draw.randrange(10**6, 10**7)) for _ in keys]
    for key, number in zip(keys, numbers, strict=True):
        body.insert(draw.randrange(1, len(body)), f"One of the special magic numbers for {key} is: {number}.")
    asked = draw.randrange(2)
    intro = (
        "Some special magic numbers are hidden within the following text. Make sure to memorize them; I will ask about them afterwards.\n\n"
    )
    before, between = turn_marks(tokenizer)
    context = before + intro + " ".join(body)
    question = f"\n\nWhat is the special magic number for {keys[asked]} mentioned in the text?{between}"
    question += f"The special magic number for {keys[asked]} mentioned in the text is:"
    answer = tokenizer.encode(" " + numbers[asked], add_special_tokens=False)
    ids = tokenizer.encode(context, add_special_tokens=False)
    if tokenizer.bos_token_id is not None and not before:
        ids = [tokenizer.bos_token_id, *ids]
    return {"context": ids, "after": tokenizer.encode(question, add_special_tokens=False) + answer, "answer_tokens": len(answer)}


def turn_marks(tokenizer: Any) -> tuple[str, str]:
    """What a chat template puts before the user's words, and between them and the answer."""
    if not tokenizer.chat_template:
        return "", "\n"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "\x1f"}], add_generation_prompt=True, tokenize=False)
    before, _, after = text.partition("\x1f")
    return before, after


def long_ids(tokenizer: Any, tokens: int) -> torch.Tensor:
    return torch.tensor([tokenizer.encode(" ".join(sentences()), add_special_tokens=False)[:tokens]])


# -- caches -----------------------------------------------------------------------------------------------------------------------


def recipe_of(method: str, kept: float, tokens: int) -> str:
    """One token below what kvpress keeps: it forgets which tokens it kept, here that takes a bit for every token read, and so both hold
    the same bytes."""
    if method == "full":
        return "stock"
    return f"{method}(budget_tokens={int(tokens * (1 - (1 - kept))) - 1})"  # int() of a share evicted, as kvpress computes it


@torch.no_grad()
def ours(model: Any, tokenizer: Any, request: dict[str, Any]) -> dict[str, Any]:
    context, after = (torch.tensor([request[name]]) for name in ("context", "after"))
    with attach(model, recipe_of(request["method"], request["kept"], context.shape[1]), tokenizer=tokenizer) as w:
        cache = w.cache()
        wall, cpu = time.perf_counter(), time.process_time()
        model.model(input_ids=context, past_key_values=cache)
        cache.close()
        nbytes = cache.nbytes()
        logits = model(input_ids=after, past_key_values=cache).logits[0].float()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    k = request["answer_tokens"]
    logp, target = torch.log_softmax(logits[-k - 1 : -1], dim=-1), after[0, -k:]
    nll = -float(logp.gather(1, target[:, None]).mean())
    return {"nll": nll, "exact": bool((logp.argmax(dim=-1) == target).all()), "nbytes": nbytes, "seconds": wall, "cpu": cpu}


def cache_jobs(name: str, loaded: Loaded, rows: Rows) -> Iterator[list[dict[str, Any]]]:
    """One sample a step: every method at every size, here and there in turns."""
    for i in range(1000):
        request = sample(i, loaded.tokenizer, CONTEXT_TOKENS[name])
        made = []
        for method, kept in [("full", 1.0), *((m, k) for k in KEPT for m in METHODS)]:
            for side in ("here", "kvpress") if i % 2 else ("kvpress", "here"):
                key = {"part": "caches", "model": name, "sample": i, "method": method, "kept": round(kept, 3), "side": side}
                if rows.has(key) or loaded.late():
                    continue
                asked = {**request, "method": method, "kept": kept}
                found = ours(loaded.model, loaded.tokenizer, asked) if side == "here" else loaded.peer(asked)
                made.append({**key, "tokens": len(request["context"]), **found})
                rows.add(made[-1])
        yield made


# -- speed ------------------------------------------------------------------------------------------------------------------------


def ways(loaded: Loaded) -> dict[str, tuple[Any, Any]]:
    """A model and a way to make caches for it, by name. The weights are mapped from one file, so three models share them."""
    made: dict[str, tuple[Any, Any]] = {"stock model": (loaded.model, lambda: DynamicCache(config=loaded.model.config))}
    for how, fold in (("seam", False), ("seam, folded", None)):  # None: where the self-test allows it
        model = AutoModelForCausalLM.from_pretrained(loaded.folder, dtype=DTYPE).eval()
        made[how] = (model, attach(model, "stock", fold_gqa=fold).cache)
    return made


@torch.no_grad()
def side_by_side(models: dict[str, tuple[Any, Any]], ids: torch.Tensor, reverse: bool) -> dict[str, dict[str, list[float]]]:
    """Processor seconds of every piece of a prefill and of every step after it. The ways take turns at each piece and step, because what
    others do on the machine changes within seconds."""
    order = list(models)[::-1] if reverse else list(models)
    caches = {how: models[how][1]() for how in order}
    found: dict[str, dict[str, list[float]]] = {how: {"prefill": [], "step": []} for how in order}
    pieces = [("prefill", piece) for piece in torch.split(ids, SPEED_PIECE, dim=1)] + [("step", ids[:, i : i + 1]) for i in range(STEPS)]
    for what, piece in pieces:
        for how in order:
            start = time.process_time()
            models[how][0](input_ids=piece, past_key_values=caches[how], logits_to_keep=1)
            found[how][what].append(time.process_time() - start)
        order = [*order[1:], order[0]]
    return found


def speed_jobs(name: str, loaded: Loaded, rows: Rows) -> Iterator[list[dict[str, Any]]]:
    ids = long_ids(loaded.tokenizer, LONG_TOKENS)
    models: dict[str, tuple[Any, Any]] = {}
    for i in range(1000):
        made = []
        keys = [
            {"part": "speed", "model": name, "sample": i, "method": how, "kept": 1.0, "side": "here"}
            for how in ("stock model", "seam", "seam, folded")
        ]
        if not rows.has(keys[0]) and not loaded.late():
            models = models or ways(loaded)
            found = side_by_side(models, ids, i % 2 == 1)
            made = [{**key, **found[str(key["method"])]} for key in keys]
            for row in made:
                rows.add(row)
        yield made


# -- memory -----------------------------------------------------------------------------------------------------------------------


def memory_jobs(name: str, loaded: Loaded, rows: Rows) -> Iterator[list[dict[str, Any]]]:
    made = []
    for recipe in MEMORY_RECIPES:
        key = {"part": "memory", "model": name, "sample": 0, "method": recipe, "kept": 1.0, "side": "here"}
        if rows.has(key) or loaded.late():
            continue
        command = [sys.executable, __file__, "--child", json.dumps([str(loaded.folder), recipe])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            made.append({**key, "error": done.stderr.strip().splitlines()[-1]})
        else:
            made.append({**key, "points": json.loads(done.stdout.splitlines()[-1])})
            rows.add(made[-1])
    yield made


def resident() -> int:
    """Bytes of this process in memory now, after what is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@torch.no_grad()
def child(folder: str, recipe: str) -> None:
    """In a fresh process: resident bytes above those of the loaded model, and bytes of the cache, after every few pieces."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPE).eval()
    ids = long_ids(AutoTokenizer.from_pretrained(folder), MEMORY_TOKENS)
    model(input_ids=ids[:, :PIECE], logits_to_keep=1)  # touch every weight once, the vocabulary's too: they are mapped from the file
    base, points = resident(), []

    def feed(cache: Any, nbytes: Any) -> None:
        for start in range(0, MEMORY_TOKENS, PIECE):
            model.model(input_ids=ids[:, start : start + PIECE], past_key_values=cache)
            if (start + PIECE) % (4 * PIECE) == 0:
                points.append([start + PIECE, resident() - base, nbytes()])

    if recipe == "stock model":
        cache = DynamicCache(config=model.config)
        feed(cache, lambda: sum(t.untyped_storage().nbytes() for layer in cache.layers for t in (layer.keys, layer.values)))
    else:
        with attach(model, recipe) as w:
            held = w.cache()
            feed(held, held.nbytes)
    print(json.dumps(points))


# -- the run ----------------------------------------------------------------------------------------------------------------------


class Loaded:
    """A model, its tokenizer and its peer, and when to stop."""

    def __init__(self, folder: Path, end: float, dtype: str = DTYPE) -> None:
        self.folder, self._end, self._dtype = folder, end, dtype
        self._peer: Peer | None = None
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.left_out = ""

    def late(self) -> bool:
        return time.monotonic() > self._end

    def peer(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._peer is None and not self.left_out:
            python = environment(cache_dir("peers"), torch.__version__)
            if isinstance(python, str):
                self.left_out = python
            else:
                self._peer = Peer(python, self.folder, self._dtype)
        return self._peer.ask(request) if self._peer is not None else {"error": self.left_out}

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()


def folders(names: list[str]) -> dict[str, Path]:
    """Converted folders by name; a line for each that is missing."""
    have = {str(manifest.get("name")): folder for folder, manifest in gguf.all_converted()}
    if "narrow" in names and FILES["qwen"] in have:
        have[FILES["narrow"]] = narrow(have[FILES["qwen"]])
    found = {name: have[FILES[name]] for name in names if FILES[name] in have}
    for name in set(names) - set(found):
        print(f"left out: {name} (no converted {FILES[name]} in {cache_dir('models')}; `bay ask --model` converts it)")
    return found


def narrow(qwen: Path) -> Path:
    """The narrow model's folder; made if missing."""
    folder = cache_dir("bench", FILES["narrow"])
    if not (folder / "config.json").exists():
        config = AutoConfig.from_pretrained(qwen)
        config.head_dim = config.hidden_size // config.num_attention_heads
        config.hidden_size = config.intermediate_size = 64
        config.num_attention_heads = config.num_key_value_heads
        AutoTokenizer.from_pretrained(qwen).save_pretrained(folder)
        AutoModelForCausalLM.from_config(config, dtype=getattr(torch, DTYPE)).save_pretrained(folder)
    return folder


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    path = ROWS / "window.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, key=lambda r: tuple(r.get(k) for k in ("part", "model", "sample", "method", "kept", "side")))
    end = time.monotonic() + options.hours * 3600
    here = folders(options.models.split(",")) if options.hours > 0 else {}
    loaded = {name: Loaded(folder, end) for name, folder in here.items()}
    kinds = {"speed": speed_jobs, "caches": cache_jobs, "memory": memory_jobs}
    jobs = [kinds[part](name, one, rows) for part in options.parts.split(",") for name, one in loaded.items()]
    for step in turns(jobs):
        for row in step:
            print({k: v for k, v in row.items() if k not in ("part", "points", "prefill", "step")}, flush=True)
        if time.monotonic() > end:
            break
    for one in loaded.values():
        one.close()
    report(rows, options)


def turns(jobs: list[Iterator[list[dict[str, Any]]]]) -> Iterator[list[dict[str, Any]]]:
    """One step of each in turn, until all are at their end."""
    for steps in zip_longest(*jobs, fillvalue=[]):
        yield from steps


# -- the report -------------------------------------------------------------------------------------------------------------------


def report(rows: Rows, options: argparse.Namespace) -> None:
    parts = []
    for name in sorted({r["model"] for r in rows.rows}, reverse=True):
        mine = [r for r in rows.rows if r["model"] == name]
        parts += [f"## {FILES[name]}", *speed(mine, DTYPE, LONG_TOKENS), *caches(mine, DTYPE), *memory(mine, PIECE)]
    body = "\n\n".join([EXPLAINED, *parts])
    write("window", "Inside the window", body, {"rows": rows.rows}, f"python benchmarks/window.py --hours {options.hours:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.5, help="stop after this time and report what there is (0: only report)")
    parser.add_argument("--models", default="qwen,embedded")
    parser.add_argument("--parts", default="memory,speed,caches")
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*json.loads(options.child))
        return
    try:
        run(options)
    except BayError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
