"""K-LaMP: things with interest and knowledge apart, shown only where they touch the question."""

from __future__ import annotations

import json

import pytest

from baywindow.errors import ConfigError
from baywindow.memory.k_lamp import FIND, SUGGEST, KLaMP

from .talking import GARBAGE, Talk, by_rules


def things(*found: tuple[int, str, str]) -> str:
    return json.dumps({"reasoning": "r", "things": [{"message": n, "name": name, "stance": stance} for n, name, stance in found]})


def suggestions(*made: str) -> str:
    return json.dumps({"reasoning": "r", "suggestions": made})


@pytest.fixture
def k_lamp(scripted):
    def made(found, suggested="", *, window=4096, **options) -> Talk:
        return Talk(KLaMP(**options), scripted(by_rules({FIND: found, SUGGEST: suggested}), context_length=window))

    return made


def test_interest_and_knowledge_are_counted_apart(k_lamp):
    interest, knows = things((1, "jazz piano", "interest")), things((1, "Jazz piano", "knows"))
    talk = k_lamp([interest, interest, knows])
    talk.add("Tell me of jazz piano")
    talk.add("More jazz piano please")
    talk.add("I have played jazz piano for years")
    (record,) = talk.records()
    assert (record.text, dict(record.data), len(record.turns)) == ("jazz piano", {"interest": 2, "knows": 1}, 3)
    assert talk.recall("jazz piano chords") == ["Interested in jazz piano", "Already knows jazz piano"]


def test_a_frequent_thing_that_does_not_touch_the_question_is_not_shown(k_lamp):
    """Raw frequency favours what is everywhere; a thing must be near the question."""
    weather, temple = things((1, "weather", "interest")), things((1, "temples of Kyoto", "interest"))
    talk = k_lamp([weather, weather, weather, temple])
    for text in ("weather?", "the weather", "weather again", "Show me temples of Kyoto"):
        talk.add(text)
    assert talk.recall("gardens in Kyoto") == ["Interested in temples of Kyoto"]


def test_of_two_things_as_near_the_more_frequent_comes_first(k_lamp):
    once, twice = things((1, "piano music", "interest")), things((1, "piano lessons", "interest"))
    talk = k_lamp([once, twice, twice])
    for text in ("piano music", "piano lessons", "more piano lessons"):
        talk.add(text)
    assert talk.recall("piano") == ["Interested in piano lessons", "Interested in piano music"]


@pytest.mark.parametrize("wrong", [(1, "Nikon", "interest"), (7, "jazz", "interest"), (1, "the", "interest"), (1, "", "interest")])
def test_what_the_message_does_not_name_is_refused(k_lamp, wrong):
    talk = k_lamp(things(wrong))
    talk.add("I like the jazz of Monk")
    assert talk.texts() == []


def test_garbage_falls_back_on_the_names_in_the_message(k_lamp):
    talk = k_lamp(GARBAGE)
    talk.add("Yesterday I heard Thelonious Monk play in Paris. Great!")
    assert sorted(talk.texts()) == ["Paris", "Thelonious Monk"]
    assert talk.recall("When was Monk in Paris?") != []


def test_what_others_say_shows_no_interest(k_lamp):
    talk = k_lamp(things((1, "jazz", "interest")))
    talk.add("You may like jazz.", role="assistant", name="")
    assert (talk.texts(), talk.prompts) == ([], [])


def test_suggestions_see_things_page_and_question(k_lamp):
    talk = k_lamp(things((1, "temples of Kyoto", "knows")), suggestions("Kyoto gardens", "gardens in Kyoto", "kyoto gardens", "Nara"))
    talk.add("I know the temples of Kyoto")
    with talk.working() as work:
        made = talk.system.suggest(work, "Gardens in Kyoto", "A page on moss. </conversation>")
    assert made == ["Kyoto gardens", "Nara"]  # without the question itself, and each once
    assert "Already knows temples of Kyoto" in talk.prompts[-1]
    assert talk.prompts[-1].startswith("Page:\nA page on moss.")


def test_a_page_longer_than_the_window_is_shown_from_its_start(k_lamp):
    talk = k_lamp(things(), suggestions("Nara"), window=400)
    with talk.working() as work:
        assert talk.system.suggest(work, "Kyoto", "start " + "moss " * 1000) == ["Nara"]
    assert talk.prompts[-1].startswith("Page:\nstart moss")


def test_no_legible_suggestion_is_none(k_lamp):
    talk = k_lamp(things(), GARBAGE)
    with talk.working() as work:
        assert talk.system.suggest(work, "Kyoto") == []


@pytest.mark.parametrize("wrong", [{"k": 0}, {"least_similarity": 2}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        KLaMP(**wrong)
