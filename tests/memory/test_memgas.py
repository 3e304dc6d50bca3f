"""MemGAS: sessions described, linked, ranked by four views, and filtered without a word changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from baywindow.errors import ConfigError
from baywindow.memory.memgas import MemGAS
from baywindow.memory.memgas.describe import FILTER_RULES, KEYWORD_RULES, SUMMARY_RULES
from baywindow.memory.memgas.graph import near
from baywindow.memory.memgas.views import described, vectors_of

from .talking import GARBAGE, Talk, by_rules

SESSIONS = {
    "garden": ["I sowed beans in the garden.", "The beans came up."],
    "boat": ["We bought a boat with a red sail.", "The sail tore."],
    "cake": ["I baked a cake with lemon.", "The lemon was sour."],
    "piano": ["I play the piano.", "The piano is out of tune."],
    "snow": ["It snowed on the hill.", "The hill was white."],
    "again": ["The beans are ripe, I picked beans.", "Beans every day."],
    "open": ["Now it is evening.", "I read a book."],
}


def summary(prompt) -> str:
    """The first turn of the session stands for it."""
    said = prompt[-1].content.split("Anna: ")[1].split("\n")[0]
    return json.dumps({"reasoning": "r", "summary": said})


def keywords(*found: str) -> str:
    return json.dumps({"reasoning": "r", "keywords": found})


def helpful(*numbers: int) -> str:
    return json.dumps({"reasoning": "r", "messages": numbers})


@pytest.fixture
def memgas(scripted):
    def made(kept=None, *, words=None, told=summary, sessions=SESSIONS, **options) -> Talk:
        replies = {SUMMARY_RULES: told, KEYWORD_RULES: words or keywords("beans", "boat", "Nikon"), FILTER_RULES: kept or helpful(1)}
        talk = Talk(MemGAS(**options), scripted(by_rules(replies)))
        for name, texts in sessions.items():
            talk.add(*texts, session=name)
        return talk

    return made


def test_a_session_is_described_once_when_it_has_ended(memgas):
    talk = memgas()
    records = talk.records()
    assert [r.text for r in records] == [texts[0] for texts in list(SESSIONS.values())[:-1]]
    assert records[0].turns == tuple(talk.turn(text).id for text in SESSIONS["garden"])
    assert sum(prompt[0].content.startswith(SUMMARY_RULES) for prompt in talk.model.prompts) == len(SESSIONS) - 1


def test_keywords_that_the_session_does_not_hold_are_dropped(memgas):
    talk = memgas()
    assert [r.data["keywords"] for r in talk.records()[:2]] == [["beans"], ["boat"]]


def test_a_new_session_is_linked_to_older_ones_by_the_mixture_and_the_first_five_are_not(memgas):
    talk = memgas(first_linked=5)
    records = talk.records()
    assert all(r.data["links"] == [] for r in records[:5])
    with talk.working() as work:
        seen = described(work)
        new = seen[5]
        older = np.concatenate([view.vectors for view in seen[:5]])
    expected = {(own, records[at // 4].id, at % 4) for own in range(4) for at in near((older @ new.vectors[own]).astype(float), 30)}
    assert {tuple(link) for link in records[5].data["links"]} == expected
    assert {own for own, other, _ in expected if other == records[0].id} == {0, 1, 2, 3}  # the other session about beans


def test_a_question_finds_its_session_and_the_filter_keeps_turns_as_they_were_said(memgas):
    talk = memgas(helpful(2), k=1)
    assert talk.recall("What happened to the sail of the boat?") == ["Anna: The sail tore."]


@pytest.mark.parametrize("kept", [helpful(), helpful(9), GARBAGE])
def test_a_filter_that_keeps_nothing_or_cannot_be_read_loses_nothing(memgas, kept):
    talk = memgas(kept, k=1)
    assert talk.recall("boat sail red") == [f"Anna: {text}" for text in SESSIONS["boat"]]


def test_without_the_filter_a_recall_asks_no_model(memgas):
    talk = memgas(filtered=False, k=1)
    asked = len(talk.model.prompts)
    assert "Anna: We bought a boat with a red sail." in talk.recall("boat sail red")
    assert len(talk.model.prompts) == asked


def test_the_open_session_is_found_by_its_own_words(memgas):
    assert memgas(filtered=False).search("read a book", k=2) == ["Anna: I read a book.", "Anna: Now it is evening."]


def test_links_reach_a_session_that_shares_no_word_with_the_question(memgas):
    """The walk from what matches arrives at what is linked to it; with damping 0 it does not leave."""
    talk = memgas(damping=0.5, seeds=1)
    with talk.working() as work:
        ranked = talk.system._ranked(work, "ripe picked")
        alone = MemGAS(damping=0.0, seeds=1)._ranked(work, "ripe picked")
    again, garden = (talk.turn(SESSIONS[name][0]).id for name in ("again", "garden"))
    assert [view.turns[0] for view, score in ranked if score > 0][:2] == [again, garden]
    assert [view.turns[0] for view, score in alone if score > 0] == [again]


def test_a_spoilt_description_leaves_a_session_that_is_found_by_its_words(memgas):
    talk = memgas(told=GARBAGE, words=GARBAGE, filtered=False, k=1)
    assert talk.records()[1].text == "Anna: We bought a boat with a red sail. Anna: The sail tore."
    assert "Anna: The sail tore." in talk.recall("boat sail")


def test_vectors_are_kept_with_their_session_and_made_again_for_another_embedder(memgas):
    talk = memgas(filtered=False)
    with talk.working() as work:
        kept = described(work)[0].vectors
        record, turns = work.records()[0], work.turns(work.records()[0].turns)
        assert kept == pytest.approx(vectors_of(work, turns, record.text, "beans"), abs=1e-3)
    embedded: list[str] = []
    before = talk.finder.embed
    talk.finder.embed = lambda texts: [embedded.extend(texts), before(texts)][1]
    talk.search("boat sail", k=2)
    assert not any("snowed" in text for text in embedded)  # neither in the open session nor among the best
    talk.finder.embedder = "another"
    talk.search("boat sail", k=2)
    assert any("snowed" in text for text in embedded)


def test_an_empty_memory_finds_nothing(memgas):
    talk = memgas(sessions={})
    assert talk.recall("anything") == talk.search("anything") == []


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"damping": 1}, {"k": 0}, {"candidates": 2}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MemGAS(**wrong)
