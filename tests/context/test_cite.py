"""Citations: every mark leads to words that the source holds, and what it does not hold is marked."""

from __future__ import annotations

import pytest

from baywindow.context.cite import cite, quote_best, sentences, words
from baywindow.documents.base import Passage

TEXT = "The pier opened in 1902. A storm took it in 1987!\nIt was rebuilt by Ida Holm, who lived nearby."


def numbered(corpus):
    store = corpus(**{"pier": TEXT, "other": "Cats sleep. Dogs bark at 3.5 metres."})
    pier = Passage(text=TEXT, source="pier", start=0, end=len(TEXT), line=1)
    other = Passage(text=store.texts["other"], source="other", start=0, end=36, page=4)
    return store, {1: pier, 2: other}


def test_a_mark_leads_to_the_sentence_that_shares_most_words(corpus):
    store, shown = numbered(corpus)
    cited = cite("Ida Holm rebuilt it. [1]", "who rebuilt the pier", shown, store)
    (citation,) = cited.citations
    assert citation.quote == "It was rebuilt by Ida Holm, who lived nearby."
    assert TEXT[citation.start : citation.end] == citation.quote
    assert (citation.line, citation.page, citation.verified) == (2, None, True)
    assert citation.place == "pier:2"


def test_words_in_quotation_marks_are_found_in_the_source_white_space_and_case_aside(corpus):
    store, shown = numbered(corpus)
    (citation,) = cite('It says "STORM took  it in 1987" [1].', "when", shown, store).citations
    assert citation.quote == "storm took it in 1987"
    assert citation.verified


def test_quoted_words_that_the_source_does_not_hold_are_marked_as_not_verified(corpus):
    store, shown = numbered(corpus)
    (citation,) = cite('It says "a whale sank the pier in 1950" [1].', "when", shown, store).citations
    assert citation.quote == "a whale sank the pier in 1950"
    assert not citation.verified


def test_a_source_that_changed_since_is_not_verified(corpus):
    store, shown = numbered(corpus)
    store.texts["pier"] = "Something else entirely. " * 5
    (citation,) = cite("Ida Holm rebuilt it. [1]", "who", shown, store).citations
    assert not citation.verified
    del store.texts["pier"]
    assert not cite("Ida Holm rebuilt it. [1]", "who", shown, store).citations[0].verified


def test_marks_that_lead_nowhere_are_removed_and_said(corpus):
    store, shown = numbered(corpus)
    cited = cite("Ida did [1, 9]. Truly [8].", "who", shown, store)
    assert cited.text == "Ida did [1]. Truly."
    assert "[8, 9]" in cited.notes[0]


def test_an_answer_without_marks_gets_the_best_supported_one_and_says_so(corpus):
    store, shown = numbered(corpus)
    cited = cite("A storm in 1987", "what took the pier", shown, store)
    assert cited.text == "A storm in 1987 [1]"
    assert cited.citations[0].quote == "A storm took it in 1987!"
    assert "marked no source" in cited.notes[0]


def test_an_answer_that_no_passage_supports_gets_no_mark(corpus):
    store, shown = numbered(corpus)
    assert cite("Zebras", "what", shown, store).citations == ()


def test_each_number_is_cited_once_in_order_of_first_mention_with_its_page(corpus):
    store, shown = numbered(corpus)
    cited = cite("Dogs bark [2]. It opened in 1902 [1]. Dogs bark again [2].", "what", shown, store)
    assert [c.n for c in cited.citations] == [2, 1]
    assert (cited.citations[0].page, cited.citations[0].line) == (4, None)
    assert cited.citations[0].place == "other, page 4"


def test_sentences_keep_numbers_whole_and_words_drop_the_empty_ones():
    text = "Dogs bark at 3.5 metres. Cats\n\nsleep"
    assert [text[a:b] for a, b in sentences(text)] == ["Dogs bark at 3.5 metres.", "Cats", "sleep"]
    assert words("The dog is on A mat") == {"dog", "mat"}


def test_without_an_answer_the_nearest_sentences_are_quoted(corpus):
    store, shown = numbered(corpus)
    first, second = quote_best(shown, "when did the storm come", store)
    assert first.quote == "A storm took it in 1987!"
    assert second.verified


def test_a_reply_of_nothing_but_a_mark_is_answered_with_the_passage_s_own_words(corpus):
    store, shown = numbered(corpus)
    cited = cite("[1]", "when did the pier open", shown, store)
    assert cited.text == "“The pier opened in 1902.” [1]"
    assert cited.citations[0].quote == "The pier opened in 1902."
    assert cited.citations[0].verified
    assert "wrote no words" in cited.notes[0]


@pytest.mark.parametrize("reply", ["[1] pier:1", "passage from pier:1 [1]", "[1] Pier:1\n[2] Other, page 4", "[1] [2]", "[2] [1]"])
def test_a_reply_of_marks_and_places_is_answered_with_the_passage_s_own_words(corpus, reply):
    """Seen with a 0.5B model: asked for a town, it writes "[1] Document 85:1"; of several marks the nearest sentence is taken."""
    store, shown = numbered(corpus)
    cited = cite(reply, "when did the pier open", shown, store)
    assert cited.text == f"“The pier opened in 1902.” {reply}"
    assert "wrote no words" in cited.notes[0]


@pytest.mark.parametrize("reply", ["1 [1]", "1902 [1]", "the pier [1]", "pier: yes [1]", "[1] pier:1 opened", "page 4 [2]"])
def test_short_answers_stay_as_they_are(corpus, reply):
    store, shown = numbered(corpus)
    assert cite(reply, "when did the pier open", shown, store).text == reply
