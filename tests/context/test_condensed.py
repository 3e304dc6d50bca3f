"""`Condensed`: what is left of a passage keeps its place in the source, however often it is made shorter."""

from __future__ import annotations

from baywindow.context.condensed import Condensed, adjoined, cited, narrowed, written
from baywindow.documents.base import Passage

TEXT = "One two.\nThree four. Five six."  # "One two." is 0 to 8, "Three four." 9 to 20, "Five six." 21 to 30
BASE = Passage(text=TEXT, source="a.txt", start=100, end=130, line=7)


def test_one_stretch_is_an_exact_passage_with_its_own_line() -> None:
    found = narrowed(BASE, [(9, 20)])
    assert found == Passage(text="Three four.", source="a.txt", start=109, end=120, line=8)
    assert cited(found) is found


def test_spans_with_only_white_space_between_them_are_one() -> None:
    assert adjoined(TEXT, [(0, 8), (8, 21), (21, 30)]) == [(0, 30)]
    assert narrowed(BASE, [(0, 8), (9, 20)]) == Passage(text="One two.\nThree four.", source="a.txt", start=100, end=120, line=7)


def test_gaps_make_it_condensed_with_the_places_of_its_pieces() -> None:
    found = narrowed(BASE, [(0, 8), (21, 30)])
    assert isinstance(found, Condensed)
    assert found.text == "One two. … Five six."
    assert found.pieces == ((100, 108), (121, 130))
    assert (found.key, found.line, cited(found)) == (BASE.key, 7, BASE)


def test_what_is_condensed_can_be_narrowed_again() -> None:
    once = narrowed(BASE, [(0, 8), (21, 30)])
    assert once is not None
    # "One two. … Five six.": "two. … Five" is 4 to 15, which is 104 to 108 and 121 to 125 of the document.
    again = narrowed(once, [(4, 15)], joint=" ")
    assert isinstance(again, Condensed)
    assert (again.text, again.pieces, again.origin) == ("two. Five", ((104, 108), (121, 125)), BASE)


def test_nothing_left_is_none() -> None:
    assert narrowed(BASE, []) is None
    assert narrowed(BASE, [(8, 9)]) is None


def test_written_text_is_cited_by_what_it_was_written_from() -> None:
    found = written(BASE, "Numbers up to six.")
    assert (found.text, found.written, found.pieces, cited(found)) == ("Numbers up to six.", True, ((100, 130),), BASE)
    shorter = narrowed(found, [(0, 7)])
    assert isinstance(shorter, Condensed)
    assert (shorter.text, shorter.pieces) == ("Numbers", ((100, 130),))
    assert cited(written(found, "Again.")) is BASE
