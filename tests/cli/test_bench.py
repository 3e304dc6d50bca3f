"""`bay bench` from the outside: what a person types and sees."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from baywindow.bench import find, runs
from baywindow.bench.store import Store

BESIDE = Path(__file__).parents[1] / "bench" / "conftest.py"


@pytest.fixture(scope="module")
def made() -> Any:
    """The made-up suite and model of the bench's own tests."""
    spec = importlib.util.spec_from_file_location("bench_conftest", BESIDE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(made: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from baywindow.bench import engine
    from baywindow.models import select

    answerer = made.Answerer()
    monkeypatch.setattr(find, "suites", lambda: {"toy": made.TOY})
    find._load_metrics.cache_clear()
    monkeypatch.setattr(engine, "_embedder", lambda settings: made.Nothing())
    monkeypatch.setattr(select, "load", lambda name=None, **rest: answerer)
    yield answerer
    find._load_metrics.cache_clear()


RUN = ("bench", "--model", "m", "--tasks", "toy.find", "--lengths", "64,128", "--recipes", "stock; full_text(k=1) > rag", "--samples", "3")


def test_a_run_is_kept_under_its_name_and_reported(bay, model) -> None:
    done = bay(*RUN, "--run", "one")
    assert done.exit_code == 0, done.stderr
    assert "bay bench --resume one goes on" in done.stderr
    with Store(runs.path_of("one")) as store:
        assert len(store.rows()) == 12
    told = bay("bench", "report", "one")
    assert told.exit_code == 0
    assert "| stock | 0.50 (3) |" in told.stdout
    assert "full_text(k=1) > rag" in told.stdout
    assert "one\t12\t0\tm" in bay("bench", "runs").stdout


def test_resume_needs_no_other_flag_and_repeats_nothing(bay, model) -> None:
    bay(*RUN, "--run", "one")
    calls = model.calls
    again = bay("bench", "--resume", "one")
    assert again.exit_code == 0, again.stderr
    assert model.calls == calls


def test_the_same_line_goes_on_and_another_one_is_refused(bay, model) -> None:
    bay(*RUN, "--run", "one")
    calls = model.calls
    assert bay(*RUN, "--run", "one").exit_code == 0
    assert model.calls == calls
    other = bay(*RUN, "--run", "one", "--max-new-tokens", "4")
    assert other.exit_code == 2
    assert "holds another run already" in other.stderr


def test_compare_pairs_what_both_have(bay, model) -> None:
    bay(*RUN, "--run", "one")
    bay(*RUN, "--run", "two")
    told = bay("bench", "compare", "one", "two")
    assert told.exit_code == 0
    assert "# one and two" in told.stdout
    assert told.stdout.count("no difference") == 2 * 2 * 2  # two lengths, two recipes, NLL and score


def test_recipes_come_from_a_file_too(bay, model, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("# what to measure\nstock\nfull_text(k=1) > rag  # one passage\n")
    done = bay(*RUN[:-4], "--recipes", f"@{tmp_path / 'r.txt'}", "--samples", "1", "--run", "f")
    assert done.exit_code == 0, done.stderr
    with Store(runs.path_of("f")) as store:
        assert {r.recipe for r in store.rows()} == {"stock", "full_text(k=1) > rag"}


def test_a_model_with_a_question_mark_may_be_missing(bay, model) -> None:
    done = bay(*[a if a != "m" else "m,elsewhere?" for a in RUN], "--run", "q")
    assert done.exit_code == 0, done.stderr
    assert "left out: elsewhere is not on this machine" in done.stderr
    with Store(runs.path_of("q")) as store:
        assert {r.model for r in store.rows()} == {"m"}


def test_tasks_are_listed_and_one_sample_is_shown(bay, model) -> None:
    assert "toy.find\t32 tokens\tfind a code" in bay("bench", "tasks").stdout
    listed = json.loads(bay("bench", "tasks", "toy.find", "--json").stdout)
    assert listed[0] | {"options": 0} == {
        "name": "toy.find", "summary": "find a code", "kind": "generated", "scorer": "includes_all", "max_new_tokens": 128,
        "options": 0, "min_tokens": 32, "has_depth": True,
    }  # fmt: skip
    shown = bay("bench", "show", "toy.find", "--length", "64", "--seed", "7")
    assert "The secret is code7x64." in shown.stdout
    assert "gold: code7x64" in shown.stderr
    assert json.loads(bay("bench", "show", "toy.find", "--length", "64", "--json").stdout)["gold"] == ["code0x64"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--tasks", "toy.fnd"), "no bench task is called 'toy.fnd'"),
        (("--lengths", "4kb"), "'4kb' is not a length"),
        (("--recipes", "snapvk"), "no technique is called 'snapvk'"),
        (("--recipes", "stock", "--lengths", "64k"), "64k tokens exceed the window of answerer (4096)"),
        (("--best", "4k"), "'4k' is not understood"),
        (("--engine", "cluster"), "--engine"),
        (("--option", "turns=3"), "none of the tasks has an option 'turns'"),
        (("--budget", "hours=3"), "budget 'hours=3' is not understood"),
        (("--resume", "nothing"), "there are no results at"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(bay, model, flags: tuple[str, ...], said: str) -> None:
    done = bay(*RUN, *flags)
    assert done.exit_code == 2
    assert said in done.stderr.replace("\n", " ")
    assert "hint:" in done.stderr


def test_a_second_run_on_one_store_is_refused(bay, model) -> None:
    with Store(runs.path_of("one"), write=True, make=True):
        done = bay(*RUN, "--run", "one")
    assert done.exit_code == 2
    assert "another run is writing" in done.stderr


def test_a_store_of_another_version_is_refused(bay, model) -> None:
    import sqlite3

    bay(*RUN, "--run", "one")
    db = sqlite3.connect(runs.path_of("one"))
    db.execute("PRAGMA user_version = 99")
    db.close()
    done = bay("bench", "report", "one")
    assert done.exit_code == 2
    assert "has form 99" in done.stderr


def test_what_was_dropped_is_in_the_report(bay, model) -> None:
    model.context_length = 300
    done = bay(*RUN, "--lengths", "64,256", "--run", "w")
    assert done.exit_code == 0, done.stderr
    done = bay(*RUN, "--lengths", "64,512", "--run", "x")
    assert "reads at most 300 tokens on this model" in bay("bench", "report", "x").stdout


def test_the_best_recipe_is_found_with_few_evaluations(bay, model) -> None:
    done = bay(*RUN[:-2], "--find-best", "--samples", "20", "--evaluations", "12", "--run", "b")
    assert done.exit_code == 0, done.stderr
    assert "m: 12 evaluations of 80 possible ones" in done.stderr
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"stock", "full_text(k=1) > rag"}
    calls = model.calls
    assert bay("bench", "--resume", "b").stdout == done.stdout
    assert model.calls == calls
