"""Hyper-multi-step: matching several pairs or reasoning over values, where looking up one key is easy.

Paper: Yu et al. 2024, Hyper-multi-step: The Truth Behind Difficult Long-context Tasks (arXiv 2410.04422). The code in
yuyijiong/hard_retrieval_for_llm was read for the tasks and the scoring; none of it was copied.
"""

from __future__ import annotations

from collections.abc import Callable

from baywindow.bench.base import Generated, Order, Sample, Suite
from baywindow.bench.tasks.hyper_multi_step import _pairs, _scoring, _students

__all__ = ["SUITE"]

_STYLE = {"style": "direct"}
_TASKS: tuple[tuple[str, str, Callable[[Order], Sample], dict[str, object], str], ...] = (
    ("simple_k2v", "the value of a key", _pairs.key_to_value, {}, "value"),
    ("simple_v2k", "the one key that has a value", _pairs.value_to_key, {}, "key"),
    ("multi_step", "a key whose first digits are the values of other keys", _pairs.multi_step, {"steps": 3}, "key_value"),
    ("logic", "the one key whose value lies inside a range", _pairs.logic, {}, "key"),
    ("multi_match", "all keys that have a value", _pairs.multi_match, {"matches": 3}, "keys"),
    ("multi_match_last", "the last key that has a value, the others given", _pairs.multi_match_last, {"matches": 3}, "key"),
    ("logic_resume", "the one student whose mark lies inside a range", _students.logic_resume, {}, "name"),
    ("multi_match_resume", "all students of one university", _students.multi_match_resume, {"matches": 3}, "names"),
)
_AT_A_DEPTH = ("simple_k2v", "simple_v2k", "logic", "logic_resume")
_SCORERS = (
    _scoring.hyper_multi_step_value,
    _scoring.hyper_multi_step_key,
    _scoring.hyper_multi_step_key_value,
    _scoring.hyper_multi_step_keys,
    _scoring.hyper_multi_step_name,
    _scoring.hyper_multi_step_names,
)

SUITE = Suite(
    name="hyper_multi_step",
    summary="key-value and résumé tasks that need several matches or a condition on values",
    paper="arXiv 2410.04422",
    year=2024,
    claim="a model that looks up one key almost perfectly fails multi-matching and logic retrieval at the same length",
    departures=(
        "the number of pairs follows from the length; published are 10, 100, 1000 and 3000",
        "keys do not begin with 0, so that a reply which drops leading zeros is not at issue, and digits of a key may repeat",
        "keys in a reply are found by their form where the asked-for word is missing; the published scoring counts that as no answer",
        "multi_step gives half a point for the key and half for the value; the published scoring reports the two side by side",
        "questions and résumés say in our words what the published ones say; names are invented",
    ),
    tasks=tuple(
        Generated(
            name=f"hyper_multi_step.{name}",
            summary=summary,
            scorer=f"hyper_multi_step_{scorer}",
            max_new_tokens=600,
            options={**options, **_STYLE},
            build=build,
            min_tokens=1024,
            has_depth=name in _AT_A_DEPTH,
        )
        for name, summary, build, options, scorer in _TASKS
    ),
)
