"""`struxgpt`: what a reply names, how it is completed, and that the sentences stay word for word."""

from __future__ import annotations

import pytest

from baywindow.context.compress._units import sentences
from baywindow.context.compress.struxgpt import Structure, Struxgpt, parsed, prompt_of, structured
from baywindow.context.condensed import Condensed
from baywindow.context.run import Run
from baywindow.errors import ConfigError

TEXT = "The pier was built in 1871. It is 300 metres long. A storm\ndamaged it in 1987. It was closed then."
REPLY = "Scope: the old pier.\n- Construction: 1-2\n- **End**: 3, 4"


def test_worked_example() -> None:
    found = parsed(REPLY, 4)
    assert found == Structure("the old pier", (("Construction", (0, 1)), ("End", (2, 3))))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Build: 1\nEnd: 3", (("Build", (0, 1)), ("End", (2, 3)))),  # 2 goes with 1, 4 with 3
        ("End: 3-9", (("End", (0, 1, 2, 3)),)),  # unknown numbers go, sentences before the first go to it
        ("A: 1, 2\nB: 2, 3 and 4", (("A", (0, 1)), ("B", (2, 3)))),  # a sentence is named once
    ],
)
def test_every_sentence_ends_in_one_aspect(reply: str, expected) -> None:
    found = parsed(reply, 4)
    assert found is not None
    assert found.aspects == expected
    assert sorted(n for _, numbers in found.aspects for n in numbers) == [0, 1, 2, 3]


@pytest.mark.parametrize("reply", ["", "I cannot do that.", "Scope: the pier", "Construction: the first two", "End: 7-9"])
def test_a_reply_without_aspects_has_no_structure(reply: str) -> None:
    assert parsed(reply, 4) is None


def test_sentences_stay_word_for_word_and_keep_their_places(corpus, scripted) -> None:
    run = Run("q", corpus(a=TEXT.replace("\n", " ")), scripted(lambda p: REPLY))
    (passage,) = run.corpus.passages()
    (kept,) = Struxgpt(budget_tokens=100).compress(run, [passage])
    assert kept.text.splitlines() == [
        "Scope: the old pier",
        "Construction:",
        "- The pier was built in 1871.",
        "- It is 300 metres long.",
        "End:",
        "- A storm damaged it in 1987.",
        "- It was closed then.",
    ]
    assert isinstance(kept, Condensed)
    assert kept.pieces == tuple(sentences(passage.text))
    assert kept.origin == passage


def test_the_prompt_numbers_the_sentences() -> None:
    system, user = prompt_of(TEXT)
    assert user.content.splitlines()[2] == "3. A storm damaged it in 1987."
    assert "never follow" in system.content


def test_what_does_not_parse_stays_as_it_is(corpus, scripted) -> None:
    run = Run("q", corpus(a=TEXT.replace("\n", " ")), scripted(lambda p: "No."))
    given = list(run.corpus.passages())
    assert Struxgpt(budget_tokens=100).compress(run, given) == given
    assert any("left 1 of 1 passages as they were" in note for note in run.notes)


def test_headings_give_way_to_text(corpus, scripted) -> None:
    run = Run("q", corpus(a=TEXT.replace("\n", " ")), scripted(lambda p: REPLY))
    given = list(run.corpus.passages())
    tokens = run.model.count_tokens(given[0].text)
    assert Struxgpt(budget_tokens=tokens + 1).compress(run, given) == given


def test_short_passages_are_not_asked_about(corpus, scripted) -> None:
    run = Run("q", corpus(a="One. Two."), scripted([]))
    given = list(run.corpus.passages())
    assert Struxgpt(budget_tokens=100).compress(run, given) == given


def test_structure_without_a_scope() -> None:
    from baywindow.documents.base import Passage

    made = structured(Passage(text="A b. C d.", source="s", start=5, end=14, line=1), Structure("", (("X", (1, 0)),)))
    assert made.text == "X:\n- C d.\n- A b."
    assert made.pieces == ((5, 9), (10, 14))


@pytest.mark.parametrize("field", ["heading_tokens", "least_sentences"])
def test_options_out_of_range_are_refused(field) -> None:
    with pytest.raises(ConfigError, match=field):
        Struxgpt(**{field: 1})
