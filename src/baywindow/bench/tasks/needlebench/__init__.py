"""NeedleBench: facts at stated depths in texts of stated lengths, and chains of kinship to reason through.

Paper: Li et al. 2024, NeedleBench: Can LLMs Do Retrieval and Reasoning in 1 Million Context Window? (arXiv 2407.11963). The second
version of the code, in open-compass/opencompass, was read for the parameters and the scoring; none of it was copied.
"""

from __future__ import annotations

import re

from baywindow.bench.base import Generated, Suite, Turn, metric
from baywindow.bench.tasks.needlebench._retrieval import multi, multi_reasoning, single
from baywindow.bench.tasks.needlebench._trace import ancestral_trace

__all__ = ["SUITE"]


@metric
def needlebench_keywords(reply: str, turn: Turn) -> float:
    """Share of the keywords that the reply contains, in their own letter case."""
    return sum(keyword in reply for keyword in turn.gold) / len(turn.gold)


@metric
def needlebench_boxed(reply: str, turn: Turn) -> float:
    """1 if the last ``\\boxed{…}`` of the reply holds the gold answer, quotes and outer white space apart.

    A reply of nothing but the answer counts as boxed, which the official code would score 0.
    """
    boxes = re.findall(r"\\boxed\{+((?:\\text\{)?[^{}]*)", reply)
    said = boxes[-1] if boxes else reply
    plain = re.sub(r"\\text\{|[\"'\\]", "", said).replace("~", " ")
    return float(" ".join(plain.split()) == " ".join(turn.gold[0].replace("'", "").split()))


SUITE = Suite(
    name="needlebench",
    summary="one fact, many facts, or a chain of relatives by depth and length, and kinship chains without any filler",
    paper="arXiv 2407.11963",
    year=2024,
    claim="accuracy on kinship chains collapses with the number of links at lengths where plain retrieval is perfect",
    departures=(
        "facts and names are invented here: the official ones are in a data set that is not shipped",
        "prompts say in our words what the official ones say, and only English is there",
        "the length is exact; the official code leaves a buffer of 500 tokens",
        "needles stand between sentences; the official code cuts the text at any token",
        "the official template that names no relation word (so that generations cannot be counted) is not used",
        "ancestral_trace without the option links has as many links as fit; with it, the rest of the length is natural text",
        "a reply of nothing but the answer counts as if it were boxed",
    ),
    tasks=(
        Generated(
            name="needlebench.single",
            summary="one fact at one depth",
            scorer="needlebench_keywords",
            max_new_tokens=64,
            build=single,
            min_tokens=512,
            has_depth=True,
        ),
        Generated(
            name="needlebench.multi",
            summary="eleven facts, one at every tenth of the text",
            scorer="needlebench_keywords",
            max_new_tokens=320,
            build=multi,
            min_tokens=1024,
        ),
        Generated(
            name="needlebench.multi_reasoning",
            summary="two to five links of kinship spread over the text: who is the eldest",
            scorer="needlebench_boxed",
            max_new_tokens=512,
            options={"needles": 2},
            build=multi_reasoning,
            min_tokens=512,
            has_depth=True,
        ),
        Generated(
            name="needlebench.ancestral_trace",
            summary="the Ancestral Trace Challenge: a shuffled line of relatives, harder with every link",
            scorer="needlebench_boxed",
            max_new_tokens=1024,
            options={"links": None, "kind": None},
            build=ancestral_trace,
            min_tokens=1024,
        ),
    ),
)
