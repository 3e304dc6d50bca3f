"""Requests as API calls under standing instructions: the nearest demonstrations, known APIs and slots only."""

from __future__ import annotations

import json

import pytest

from baywindow.memory.api_calls import INTERPRET, Api, ApiCall, Demonstration, nearest
from baywindow.memory.standing_instructions import FIND, REPLACE, REST, SELECT, StandingInstructions

from .talking import GARBAGE, Talk, by_rules

PROFILE = ["If I ask for flights, always search for direct ones.", "No peanuts in any meal you order."]
APIS = (Api("GetFlights", {"to": "a town", "direct": "yes or no", "price": "in euros"}), Api("GetMeals", {"without": "what is left out"}))
DEMOS = tuple(Demonstration(f"Find me a {thing} to Rome", (ApiCall("GetFlights", {"to": "Rome"}),)) for thing in ("boat", "bus", "horse"))


def calls(*made: tuple[str, dict[str, str]]) -> str:
    listed = [{"api": api, "slots": [{"slot": slot, "value": value} for slot, value in slots.items()]} for api, slots in made]
    return json.dumps({"reasoning": "r", "calls": listed})


@pytest.fixture
def talk(scripted):
    def made(reply: str, *, window: int = 4096, selected=(1,)) -> Talk:
        found = [json.dumps({"reasoning": "r", "instructions": [{"message": 1, "quote": text}]}) for text in PROFILE]
        chosen = json.dumps({"reasoning": "r", "numbers": selected})
        none = json.dumps({"reasoning": "r", "numbers": []})
        rules = {FIND: found, SELECT: chosen, REST: none, REPLACE: json.dumps({"reasoning": "r", "number": 0}), INTERPRET: reply}
        told = Talk(StandingInstructions(), scripted(by_rules(rules), context_length=window))
        for text in PROFILE:
            told.add(text)
        return told

    return made


def interpret(talk: Talk, request: str, **options) -> list[ApiCall]:
    with talk.working() as work:
        return talk.system.interpret(work, request, APIS, **options)


def test_a_request_is_interpreted_under_the_instructions_that_apply(talk):
    told = talk(calls(("GetFlights", {"to": "Madrid", "direct": "yes", "price": "?"})))
    assert interpret(told, "What is a flight to Madrid?") == [ApiCall("GetFlights", {"to": "Madrid", "direct": "yes", "price": "?"})]
    prompt = told.prompts[-1]
    assert f"- {PROFILE[0]}" in prompt
    assert PROFILE[1] not in prompt
    assert "GetFlights(to: a town, direct: yes or no, price: in euros)" in prompt


def test_the_whole_profile_may_stand_there_instead(talk):
    told = talk(calls())
    assert interpret(told, "What is a flight to Madrid?", whole_profile=True) == []
    assert all(f"- {text}" in told.prompts[-1] for text in PROFILE)


def test_what_the_schema_does_not_name_is_left_out(talk):
    told = talk(calls(("GetFlights", {"to": "Madrid", "seat": "window"}), ("BookTrain", {"to": "Lyon"}), ("GetMeals", {})))
    assert interpret(told, "A flight to Madrid and a meal") == [ApiCall("GetFlights", {"to": "Madrid"}), ApiCall("GetMeals", {})]


def test_the_nearest_demonstrations_stand_before_the_request_the_best_one_last(talk):
    many = (*DEMOS, *(Demonstration(f"Order soup {n}", (ApiCall("GetMeals"),)) for n in range(5)))
    assert nearest("Find me a horse to Oslo", many)[0] == DEMOS[2]
    assert len(nearest("Find me a horse to Oslo", many)) == 5
    told = talk(calls())
    interpret(told, "Find me a horse to Oslo", demonstrations=many)
    prompt = told.prompts[-1]
    assert prompt.index("Find me a bus to Rome") < prompt.index("Find me a horse to Rome") < prompt.index("Find me a horse to Oslo")
    assert '[{"api": "GetFlights", "slots": [{"slot": "to", "value": "Rome"}]}]' in prompt


def test_demonstrations_that_do_not_fit_are_left_out_the_farthest_first(talk):
    long = tuple(Demonstration(f"{one.request} {'far away ' * 200}", one.calls) for one in DEMOS)
    told = talk(calls(), window=900)
    interpret(told, "Find me a horse to Oslo", demonstrations=long)
    assert "Find me a horse to Rome" in told.prompts[-1]
    assert "Find me a boat to Rome" not in told.prompts[-1]


def test_garbage_makes_no_call(talk):
    assert interpret(talk(GARBAGE), "A flight to Madrid") == []
