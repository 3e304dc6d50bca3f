"""The recipe parser, its errors, its three forms and its hash. Real parsing on techniques without a purpose (tests/toys)."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baywindow import recipe, registry
from baywindow.errors import CapabilityError, RecipeError
from baywindow.recipe import Recipe, parse, parse_many

pytestmark = pytest.mark.usefixtures("toys")


# Worked examples


def test_the_whole_grammar_in_one_line():
    inside = "toy_position(factor=4.0) + toy_cache(budget_tokens=128) + toy_quantiser(bits=2)"
    line = inside + " | toy_memory > toy_pick(k=20) > toy_squeeze(rate=0.5) > toy_read"
    made = parse(line)
    assert [p.card.name for p in made.inside] == ["toy_position", "toy_cache", "toy_quantiser"]
    assert [p.card.name for p in made.outside] == ["toy_memory", "toy_pick", "toy_squeeze", "toy_read"]
    assert made.outside[1].options()["k"] == 20
    assert str(made) == line


@pytest.mark.parametrize(
    ("line", "canonical"),
    [
        ("toy_read", "toy_read"),
        ("  toy_read( )  ", "toy_read"),
        ("toy_read(rounds=1)", "toy_read"),  # a default is not written
        ("toy_pick(strict=True,k=3)", "toy_pick(k=3, strict=True)"),  # declared order
        ("toy_pick(weights=[2, 1])", "toy_pick(weights=(2.0, 1.0))"),  # a list may stand for a tuple, 1 for 1.0
        ("toy_pick(mode='far')", "toy_pick(mode='far')"),
        ("toy_pick(label='a;b > c | d + \"e\"')", "toy_pick(label='a;b > c | d + \"e\"')"),
        ("toy_pick(rerank=None)", "toy_pick(rerank=None)"),  # None where None is not the default
        ("toy_cache(budget_fraction=0.5)", "toy_cache(budget_fraction=0.5)"),
        ("toy_cache(budget_tokens=64)", "toy_cache"),
        ("toy_cache+toy_quantiser", "toy_cache + toy_quantiser"),
        ("toy_pick>toy_read", "toy_pick > toy_read"),
        ("toy_cache|toy_read", "toy_cache | toy_read"),
        ("toy_cache | toy_pick > toy_read", "toy_cache | toy_pick > toy_read"),
        ("toy_position + toy_cache | toy_pick > toy_squeeze(rate=2.0) > toy_read", None),
        ("stock", "stock"),
        ("stock | toy_read", "toy_read"),
    ],
)
def test_canonical_printing(line: str, canonical: str | None):
    made = parse(line)
    assert str(made) == (canonical or line)
    assert parse(str(made)) == made


def test_a_recipe_object_is_accepted_as_it_is():
    made = parse("toy_read")
    assert parse(made) is made


def test_a_preset_stands_for_its_parts(monkeypatch: pytest.MonkeyPatch):
    presets = {
        "usual": registry.Preset(name="usual", summary="s", recipe="toy_cache | toy_pick(k=2) > toy_read"),
        "loop": registry.Preset(name="loop", summary="s", recipe="loop"),
    }
    monkeypatch.setattr(registry, "presets", lambda: presets)
    assert parse("usual") == parse("toy_cache | toy_pick(k=2) > toy_read")
    with pytest.raises(RecipeError, match="usual is a preset and takes no options"):
        parse("usual(k=3)")
    with pytest.raises(RecipeError, match="preset loop names itself"):
        parse("loop")


def test_several_recipes_for_the_bench():
    assert [str(r) for r in parse_many("toy_read; toy_pick > toy_read ;")] == ["toy_read", "toy_pick > toy_read"]


def test_a_reader_is_added_where_none_was_named(monkeypatch: pytest.MonkeyPatch):
    presets = {
        "default": registry.Preset(name="default", summary="s", recipe="toy_read(rounds=2)"),
        "default_inside": registry.Preset(name="default_inside", summary="s", recipe="toy_read(rounds=3)"),
    }
    monkeypatch.setattr(registry, "presets", lambda: presets)
    assert str(parse("stock").with_defaults()) == "toy_read(rounds=2)"
    assert str(parse("toy_cache").with_defaults()) == "toy_cache | toy_read(rounds=3)"
    assert str(parse("toy_cache | toy_read").with_defaults()) == "toy_cache | toy_read"


def test_what_it_needs_and_its_rooms():
    made = parse("toy_cache | toy_pick > toy_read")
    assert made.needs == {"weights", "kv", "text"}
    assert [p.card.name for p in made.of_room("context/retrieve")] == ["toy_pick"]


# The hash


def test_the_hash_is_stable_and_sees_every_option():
    assert re.fullmatch("[0-9a-f]{16}", parse("toy_read").hash)
    assert parse("toy_read").hash == parse(" toy_read(rounds=1)").hash
    assert len({parse(f"toy_read(rounds={n})").hash for n in range(1, 50)}) == 49
    assert parse("toy_cache + toy_quantiser").hash != parse("toy_quantiser + toy_cache").hash


def test_a_changed_default_changes_the_hash():
    # All option values are hashed, not the printed form, which leaves defaults out.
    now = registry.get("toy_read")
    later: Any = dataclasses.make_dataclass("ToyRead", [("rounds", int, 2)], bases=(registry.Technique,), frozen=True, kw_only=True)
    later.card = now.card
    before, after = Recipe((), (now(),)), Recipe((), (later(),))
    assert str(before) == str(after) == "toy_read"
    assert before.hash != after.hash


# Three forms that say the same


def as_toml(table: dict) -> str:
    """An independent writer: JSON scalars and arrays are TOML's, but for the table's equals signs."""
    rows = {
        side: "["
        + ", ".join("{" + ", ".join(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in part.items()) + "}" for part in parts)
        + "]"
        for side, parts in table.items()
    }
    return "\n".join(f"{side} = {row}" for side, row in rows.items())


LABELS = st.none() | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
FINITE = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)
PICK = st.fixed_dictionaries(
    {},
    optional={
        "k": st.integers(1, 10**6),
        "weights": st.lists(FINITE, max_size=4).map(tuple),
        "mode": st.sampled_from(["near", "far"]),
        "label": LABELS,
        "strict": st.booleans(),
    },
)
CACHE = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"budget_tokens": st.integers(1, 10**6)}, optional={"sink_tokens": st.integers(0, 99)}),
    st.fixed_dictionaries({"budget_fraction": st.floats(min_value=0.001, max_value=1)}),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    inside = [recipe.make("toy_position", {"factor": draw(FINITE)})] if draw(st.booleans()) else []
    inside += [recipe.make("toy_cache", draw(CACHE))] if draw(st.booleans()) else []
    outside = [recipe.make("toy_memory", {})] if draw(st.booleans()) else []
    outside += [recipe.make("toy_pick", options) for options in draw(st.lists(PICK, max_size=2))]
    outside += [recipe.make("toy_squeeze", {"rate": draw(FINITE)})] if draw(st.booleans()) else []
    outside += [recipe.make("toy_read", {"rounds": draw(st.integers())})] if draw(st.booleans()) else []
    return Recipe(tuple(inside), tuple(outside))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=recipes())
def test_line_table_and_toml_round_trip(made: Recipe):
    assert parse(str(made)) == made
    assert str(parse(str(made))) == str(made)
    assert parse(made.to_table()) == made
    assert parse(json.loads(json.dumps(made.to_table()))) == made
    assert parse(tomllib.loads(as_toml(made.to_table()))) == made
    assert parse(str(made)).hash == made.hash
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own object, as it crosses to a worker process


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.text(st.sampled_from(list("toy_readpickcache()=>+|;,.'\"[]{}01 \\\n\x00#:é")), max_size=60) | st.text(max_size=40))
def test_any_text_is_a_recipe_or_a_recipe_error(line: str):
    try:
        made = parse(line)
    except RecipeError:
        return
    assert parse(str(made)) == made


# Errors

ERRORS = [
    ("", "the recipe is empty"),
    ("   ", "the recipe is empty"),
    ("toy_read; toy_pick", "holds no ';'"),
    ("toy_pick >", "does not parse"),
    ("toy_pick > > toy_read", "does not parse at column 12"),
    ("(" * 500, "does not parse"),
    ("toy_cache + " * 400 + "toy_cache", "characters"),
    ("toy_rea", "no technique is called 'toy_rea'"),
    ("toy_pick < toy_read", "only `+`, `>` and `|` join"),
    ("toy_pick >= toy_read", "only `+`, `>` and `|` join"),
    ("toy_pick - toy_read", "does not parse"),
    ("toy_pick + toy_read", "`+` joins techniques inside"),
    ("toy_pick | toy_read", "left of `|` stands a technique that works outside"),
    ("toy_cache | toy_quantiser", "right of `|` stands a technique that works inside"),
    ("toy_cache | toy_pick | toy_read", "at most one `|`"),
    ("toy_cache | toy_pick > toy_read | toy_read", "at most one `|`"),
    ("toy_pick(3)", "options are given by name"),
    ("toy_pick(**{'k': 1})", "options are given by name"),
    ("toy_pick(k=toy_read)", "option values are numbers, strings"),
    ("toy_pick(k=__import__('os').getpid())", "option values are numbers, strings"),
    ("toy_pick(kk=3)", "toy_pick has no option 'kk'"),
    ("toy_memory(k=3)", "toy_memory has no option 'k'"),
    ("toy_pick(k='3')", "k='3' is not int"),
    ("toy_pick(k=3.5)", "k=3.5 is not int"),
    ("toy_pick(k=True)", "k=True is not int"),
    ("toy_pick(mode='up')", "mode='up' is not"),
    ("toy_pick(k=0)", "toy_pick: k=0 is not allowed"),
    ("toy_pick(label={1})", "is not"),
    ("toy_cache(budget_tokens=5, budget_fraction=0.5)", "budget_tokens and budget_fraction were both given"),
    ("toy_cache(budget_tokens=0)", "budget_tokens=0 is not allowed"),
    ("toy_cache(budget_fraction=1.5)", "budget_fraction=1.5 is not allowed"),
    ("toy_squeeze", "toy_squeeze must be told rate"),
    ("stock(k=1)", "stock takes no options"),
    ("toy_cache + toy_cache_two", "toy_cache and toy_cache_two cannot stand in one recipe: both claim the slot 'toy_slot'"),
    ("toy_position + toy_position_two", "one technique of the room window/positions"),
    ("toy_read > toy_read", "one technique of the room context/read"),
    ("toy_read > toy_pick", "toy_pick cannot follow toy_read"),
    ("toy_pick > toy_memory", "toy_memory cannot follow toy_pick"),
    ("toy_pick > toy_read_picky", "cannot read what toy_pick picked"),
    ("'toy_read'", "does not parse"),
    ("toy.read", "does not parse"),
    ("toy_read()()", "does not parse"),
    ("lambda: toy_read", "does not parse"),
]


@pytest.mark.parametrize(("line", "complaint"), ERRORS, ids=[line[:40] or "empty" for line, _ in ERRORS])
def test_every_error_says_what_is_wrong(line: str, complaint: str):
    with pytest.raises(RecipeError) as error:
        parse(line)
    assert complaint in error.value.message
    assert error.value.hint or complaint == "stock takes no options"


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(RecipeError) as error:
        parse("toy_pick(wieghts=[1.0])")
    assert error.value.hint.startswith("nearest: weights")


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"middle": []}, "no 'middle'"),
        ({"inside": ["toy_cache"]}, "each entry is a table with `name`"),
        ({"outside": [{"k": 1}]}, "each entry is a table with `name`"),
        ({"inside": [{"name": "toy_pick"}]}, "toy_pick does not work inside the model"),
        ({"outside": [{"name": "toy_cache"}]}, "toy_cache does not work outside the model"),
        ({"outside": [{"name": "toy_pick", "k": "many"}]}, "k='many' is not int"),
    ],
)
def test_every_error_of_a_table(table: dict, complaint: str):
    with pytest.raises(RecipeError, match=complaint):
        parse(table)


def test_an_empty_table_is_stock():
    assert str(parse({})) == "stock"


def test_a_need_the_model_cannot_meet_is_named():
    made = parse("toy_read_picky")
    made.check_capabilities(frozenset({"text", "logprobs"}), "m")
    with pytest.raises(CapabilityError, match="toy_read_picky needs logprobs, which m does not offer"):
        made.check_capabilities(frozenset({"text"}), "m")
