"""Measuring in this process: budgets of a question, and who decides scores that no formula gives."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from baywindow.bench import engine, find
from baywindow.bench.base import Generated, Sample, Suite
from baywindow.bench.engine import Local, Unit
from baywindow.bench.measure import Way
from baywindow.config import Settings
from baywindow.models import select
from baywindow.models.base import Completion, Stream

UNIT = Unit(model="m", task="toy.find", length=300, number=0, tokens=300, recipes=("full_text(k=1) > rag",), way=Way())


def row(local: Local, unit: Unit) -> Any:
    [(_, rows)] = local.run([unit])
    return rows[0]


def test_a_question_may_spend_what_the_run_says_and_no_more(toy, answerer) -> None:
    model = answerer(context_length=150)
    local = Local(model, Settings())
    assert row(local, replace(UNIT, recipes=("map_reduce",))).calls > 3
    capped = row(local, replace(UNIT, recipes=("map_reduce",), way=Way(budget="calls=3")))
    assert capped.calls <= 3
    assert "ran out" in capped.notes
    assert "the budget is 1" in row(local, replace(UNIT, recipes=("map_reduce",), way=Way(budget="calls=1"))).error


@pytest.fixture
def graded(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose score is a judge's verdict."""

    def build(order: Any) -> Sample:
        [task] = [t for t in toy.tasks if t.name == "toy.find"]
        return replace(task.build(order), scorer="judged")

    task = Generated(name="graded.find", summary="graded", scorer="judged", build=build, min_tokens=32, has_depth=True)
    monkeypatch.setattr(find, "suites", lambda: {"graded": Suite(name="graded", summary="graded", tasks=(task,))})


def test_without_a_judge_the_error_names_the_flag(graded, answerer) -> None:
    assert "--judge" in row(Local(answerer(), Settings()), replace(UNIT, task="graded.find")).error


@pytest.mark.parametrize(("verdict", "score"), [("yes", 1.0), ("no", 0.0)])
def test_the_named_judge_decides(graded, answerer, monkeypatch: pytest.MonkeyPatch, verdict: str, score: float) -> None:
    judges: list[Any] = []

    class Judging(type(answerer())):  # type: ignore[misc]
        closed = False

        def generate(self, prompt: Any, sampling: Any = None) -> Any:
            assert re.search(r'"reply": "[^"]*code0x300', prompt[-1].content)
            done = Completion(text=verdict, prompt_tokens=9, generated_tokens=1, finish="stop")
            return Stream(iter([verdict]), lambda said: done)

        def close(self) -> None:
            self.closed = True

    def load(name: str, settings: Settings) -> Any:
        assert name == "somebody"
        judges.append(Judging("somebody"))
        return judges[-1]

    monkeypatch.setattr(select, "load", load)
    local = Local(answerer(), Settings(judge="somebody"))
    assert judges == []  # loaded by the first sample, not before
    assert row(local, replace(UNIT, task="graded.find")).score == score
    local.close()
    assert len(judges) == 1
    assert judges[0].closed


def test_a_judge_also_tests_entailment_unless_a_model_for_that_is_named(answerer) -> None:
    model = answerer()
    alone = engine._referees(model, Settings(model="me", judge="me"))
    assert alone["judge"].model is model
    assert alone["entailment"].name == "judge:answerer"
    assert engine._referees(model, Settings()) == {}


def test_options_reach_the_tasks_that_have_them(answerer) -> None:
    unit = replace(UNIT, task="scbench.kv", length=4096, tokens=4096, options={"mode": "multi_turn", "turns": 2, "links": 3})
    sample = Local(answerer(context_length=99999), Settings()).sample(unit)
    assert len(sample.asked) == 2
    assert sample.asked[1].question.startswith(f"{sample.asked[0].question}\n{sample.asked[0].gold[0]}\n\n")


def test_options_are_read_from_the_command_line() -> None:
    from baywindow.cli.bench.names import options

    tasks = find.tasks("scbench.kv") + find.tasks("lost_in_the_middle")
    assert options(["turns=2", "mode=multi_turn", "query_aware=true"], tasks) == {"turns": 2, "mode": "multi_turn", "query_aware": True}


def test_a_name_that_an_endpoint_serves_is_not_that_of_a_folder_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from baywindow.cli.bench.names import converted
    from baywindow.models import gguf

    monkeypatch.setattr(gguf, "all_converted", lambda: [(Path("/kept/tiny"), {"name": "tiny"})])
    assert converted("tiny") == converted("tiny", Settings()) == "/kept/tiny"
    assert converted("other", Settings()) == "other"
    assert converted("tiny", Settings(base_url="http://127.0.0.1:8000/v1")) == "tiny"
    assert converted("openai:tiny", Settings()) == "openai:tiny"
