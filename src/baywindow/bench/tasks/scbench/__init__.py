"""SCBench: one context, many questions. What a compressed or cached context still holds shows from the second question on."""

from __future__ import annotations

import re
from collections.abc import Callable

from baywindow.bench.base import Generated, Order, Sample, Suite, Turn, metric
from baywindow.bench.tasks.scbench._numbers import many_shot, mf
from baywindow.bench.tasks.scbench._prose import needles_and_kv, vt
from baywindow.bench.tasks.scbench._shared import OPTIONS
from baywindow.bench.tasks.scbench._strings import kv, prefix_suffix


@metric
def scbench_has(reply: str, turn: Turn) -> float:
    """1 if the reply contains the gold string, letter case included."""
    return float(turn.gold[0] in reply)


@metric
def scbench_number(reply: str, turn: Turn) -> float:
    """1 if the first whole number in the reply is the gold one."""
    found = re.search(r"\d{1,3}(?:,\d{3})+|\d+", reply)
    return float(found is not None and int(found[0].replace(",", "")) == int(turn.gold[0]))


def _task(name: str, summary: str, build: Callable[[Order], Sample], scorer: str, least: int, tokens: int) -> Generated:
    return Generated(
        name=f"scbench.{name}",
        summary=summary,
        scorer=scorer,
        max_new_tokens=tokens,
        build=build,
        min_tokens=least,
        options=OPTIONS,
    )


SUITE = Suite(
    name="scbench",
    summary="many questions over one context that stays compressed or cached, one after another or each from a fresh copy",
    paper="2412.10319",
    year=2024,
    claim="A fixed KV budget matches the full cache on the first turn and loses exact retrieval on later ones about the same context.",
    departures=(
        "Tasks that need books, repositories or a summary by a model (qa, choice, summary, repoqa and their mixtures) are left out: "
        "nothing here can make their gold. `needles_and_kv` mixes two kinds of retrieval in their place.",
        "many_shot: generated swapping exercises instead of three BIG-Bench Hard sets, which may not be copied here.",
        "vt: prose of the haystack instead of one repeated noise sentence; two hops a chain and one chain a turn.",
        "prefix_suffix and mf: strings and questions are drawn here from the paper's description; its data are not public as a generator.",
        "multi_turn: earlier questions and gold answers stand before a question in one message, where the paper's are turns of a chat: "
        "base models have no turns.",
    ),
    tasks=(
        _task("kv", "values of a JSON object by their keys", kv, "scbench_has", 4096, 150),
        _task("prefix_suffix", "whole strings by their beginning and end", prefix_suffix, "scbench_has", 1024, 150),
        _task("vt", "variables by the value a chain of assignments gives them", vt, "includes_all", 1024, 48),
        _task("many_shot", "exercises to be solved as many examples were", many_shot, "scbench_has", 3072, 10),
        _task("mf", "extremes and the median of a long list of numbers", mf, "scbench_number", 1024, 8),
        _task("needles_and_kv", "numbers and values by turns, scattered in prose", needles_and_kv, "scbench_number", 1024, 80),
    ),
)
