"""Rows of a run that never ran, with figures chosen so that what a report must say of them is known beforehand."""

from __future__ import annotations

import random
from dataclasses import replace

from baywindow import recipe as recipes
from baywindow.bench.store import Row
from baywindow.bench.summary import Summary

STOCK, SNAP, CHANCE, PACKED = "stock", "snapkv(budget_tokens=64)", "random(budget_tokens=64)", "kivi(bits=4)"
ASKED, WHOLE = "full_text(k=2) > rag", "stuff"
# Mean NLL, score, bytes of keys and values, prompt tokens; noise comes on top.
FIGURES = {
    STOCK: (1.0, 1.0, 1000, 500),
    SNAP: (1.0, 1.0, 250, 500),
    CHANCE: (4.0, 0.0, 250, 500),
    PACKED: (1.6, 1.0, 400, 500),
    ASKED: (0.8, 1.0, None, 100),
    WHOLE: (1.2, 1.0, None, 520),
}


def rows(samples: int = 10, lengths: tuple[int, ...] = (1024, 4096), model: str = "toy-model") -> list[Row]:
    found = []
    for recipe, (nll, score, kv, prompt) in FIGURES.items():
        for length in lengths:
            for i in range(samples):
                noise = random.Random(f"{recipe} {length} {i}").gauss(0.0, 0.05)
                found.append(row(recipe, length, i, nll + noise, score, kv, prompt, model))
    return found


def row(recipe: str, length: int, i: int, nll: float, score: float, kv: int | None, prompt: int, model: str) -> Row:
    return Row(
        model=model,
        task="ruler.niah_single_1",
        length=length,
        sample=i,
        turn=0,
        recipe=recipe,
        recipe_hash=recipes.parse(recipe).hash,
        protocol="ask" if ">" in recipe or recipe == WHOLE else "prompt, context first",
        sample_id=f"s{length}-{i}",
        tokens=length - 4,
        depth=(i % 5) / 4,
        nll=nll,
        score=score,
        reply="<script>alert('a reply')</script>",
        kv_bytes=kv,
        prompt_tokens=prompt,
        seconds=1.0 + nll,
        cpu_seconds=1.0 + length / 1000,
        machine=1,
    )


def summary(**changes: object) -> Summary:
    made = Summary(
        "made-up",
        tuple(rows()),
        plan={"models": ["toy-model"], "recipes": list(FIGURES), "tasks": ["ruler.niah_single_1"]},
        facts={"model:toy-model": {"window": 8192, "fingerprint": "sha256:abc", "label": "made up"}},
        machines={1: {"cpu": "an abacus", "cores": 2, "memory_gib": 4, "threads": "1", "python": "3", "packages": {"baywindow": "0"}}},
    )
    return replace(made, **changes)  # type: ignore[arg-type]
