"""`bay list` and `bay show`: cards, options and departures, read without importing a technique."""

from __future__ import annotations

import dataclasses
import json

import pytest

from baywindow import registry
from baywindow.cli import describe


def test_list_prints_a_line_a_technique_and_a_preset(bay):
    lines = [line.split("\t") for line in bay("list").stdout.splitlines()]
    assert {line[0] for line in lines} == {c.name for c in registry.cards()} | set(registry.presets())
    assert ["stuff", "context/read"] in [line[:2] for line in lines]


def test_list_of_one_room_and_of_a_pattern(bay):
    assert {line.split("\t")[1] for line in bay("list", "read").stdout.splitlines()} == {"context/read"}
    assert [line.split("\t")[0] for line in bay("list", "chain_of*").stdout.splitlines()] == ["chain_of_agents"]
    assert {line.split("\t")[0] for line in bay("list", "presets").stdout.splitlines()} == set(registry.presets())


def test_list_json_has_all_the_cards_fields(bay):
    found = json.loads(bay("list", "context/read", "--json").stdout)
    assert [c["name"] for c in found] == [c.name for c in registry.cards("context/read")]
    assert set(found[0]) == {"name", "room", "summary", "paper", "year", "needs", "claim", "departures"}


def test_an_unknown_room_is_an_error_naming_the_rooms(bay):
    done = bay("list", "attic")
    assert done.exit_code == 2
    assert "context/read" in done.stderr


@pytest.mark.usefixtures("toys")
def test_show_prints_the_card_with_options_and_departures(bay):
    said = bay("show", "toy_pick").stdout
    assert said.startswith("toy_pick (context/retrieve): picks passages\n")
    assert "departs from the paper:\n  - None of it is real: it is a toy.\n" in said
    assert "  k: int = 10  # how many\n" in said
    assert "  rerank: str | None = 'toy'\n" in said


@pytest.mark.usefixtures("toys")
def test_show_json_round_trips(bay):
    found = json.loads(bay("show", "toy_squeeze", "--json").stdout)
    assert found["options"] == [{"name": "rate", "type": "float", "default": "", "comment": ""}]
    assert "(must be given)" in bay("show", "toy_squeeze").stdout


def test_show_of_a_preset_prints_its_recipe(bay):
    assert f"recipe: {registry.presets()['default'].recipe}\n" in bay("show", "default").stdout
    assert json.loads(bay("show", "default", "--json").stdout)["recipe"]


def test_show_of_an_unknown_name_lists_the_nearest(bay):
    done = bay("show", "chain_of_agent")
    assert done.exit_code == 2
    assert "chain_of_agents" in done.stderr


@pytest.mark.usefixtures("toys")
def test_inherited_options_come_with_the_classes_own_default():
    options = {o.name: o for o in describe.options_of(registry.card("toy_cache"))}
    assert list(options) == ["budget_tokens", "budget_fraction", "sink_tokens"]
    assert options["budget_tokens"].default == "64"
    assert options["sink_tokens"].comment == "S: first tokens that always stay"


@pytest.mark.parametrize("name", [c.name for c in registry.cards() if c.side == "outside"])
def test_the_options_read_from_source_are_those_of_the_class(name: str):
    fields = [f.name for f in dataclasses.fields(registry.get(name)) if f.init]
    assert [o.name for o in describe.options_of(registry.card(name))] == fields
