"""What a run is asked to do: lengths, recipes with chance beside them, plans that survive being kept."""

from __future__ import annotations

import json

import pytest

from baywindow.bench import plan as plans
from baywindow.bench.plan import Plan, length_of, length_text, lengths_of, random_beside, recipes_of, tasks_of
from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import parse


@pytest.mark.parametrize(
    ("text", "tokens"), [("1k", 1024), ("128K", 131072), ("500", 500), (" 4k ", 4096), ("1m", 1048576), ("1_000", 1000)]
)
def test_lengths_are_numbers_or_thousands_of_1024(text: str, tokens: int) -> None:
    assert length_of(text) == tokens


@pytest.mark.parametrize("text", ["", "k", "4kb", "-1", "0", "1.5k", "four"])
def test_other_forms_of_a_length_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a length"):
        length_of(text)


def test_lengths_come_in_order_each_once() -> None:
    assert lengths_of("4k,1k, 4096") == (1024, 4096)
    assert [length_text(n) for n in (1024, 4096, 1000, 131072, 0, 1048576)] == ["1k", "4k", "1000", "128k", "as is", "1m"]


def test_chance_stands_beside_each_selection_once() -> None:
    found = [str(r) for r in recipes_of("stock; snapkv(budget_tokens=64); tova(budget_tokens=64); kivi; self_extend; hybrid > rag")]
    assert found == [
        "stock", "snapkv(budget_tokens=64)", "random(budget_tokens=64)", "tova(budget_tokens=64)", "kivi", "self_extend", "hybrid > rag"
    ]  # fmt: skip
    assert len(recipes_of("stock; snapkv(budget_tokens=64)", random=False)) == 2


def test_chance_takes_the_place_of_the_selection_and_nothing_else() -> None:
    beside = random_beside(parse("ada_kv + snapkv(budget_fraction=0.25) + kivi(bits=4)"))
    assert str(beside) == "random(budget_fraction=0.25) + kivi(bits=4)"
    assert random_beside(parse("random(budget_tokens=8)")) is None
    assert random_beside(parse("kivi")) is None
    assert random_beside(parse("stock")) is None


def test_a_recipe_named_twice_is_measured_once() -> None:
    assert len(recipes_of("stock; stock; snapkv(budget_tokens=64); snapkv( budget_tokens = 64 )", random=False)) == 2


def test_bad_recipes_and_tasks_name_what_is_near(toy) -> None:
    with pytest.raises(RecipeError, match="snapvk"):
        recipes_of("stock; snapvk")
    with pytest.raises(ConfigError, match="no bench task is called") as error:
        tasks_of(["toy.fnd"])
    assert "toy.find" in error.value.hint
    assert [t.name for t in tasks_of(["toy.find", "toy.*"])][:2] == ["toy.find", "toy.also"]


def test_a_plan_survives_being_kept() -> None:
    plan = Plan(
        models=("a", "b"),
        tasks=("t",),
        lengths=(1024, 4096),
        recipes=("stock",),
        hours=1.5,
        best={"4k": 6},
        data={"s": "p"},
        settings={"context": 9},
    )
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_a_plan_needs_hours_or_a_number_of_samples() -> None:
    with pytest.raises(ConfigError, match="samples or hours"):
        Plan(models=("a",), tasks=("t",), lengths=(64,), recipes=("stock",))
    with pytest.raises(ConfigError, match="samples or hours"):
        Plan(models=("a",), tasks=("t",), lengths=(64,), recipes=("stock",), samples=3, hours=1.0)


def test_depths_come_in_turn() -> None:
    assert [plans.depth_of(i) for i in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 0.0]
