"""The view of a text: whatever is done to it, the text stays whole and every edit can be taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baywindow.errors import ConfigError
from baywindow.memory.sculptor.view import View


def at_space(text: str, near: int) -> int:
    return text.rfind(" ", 0, near) + 1


def test_the_three_states_of_a_piece():
    view = View.of(["The code is 41.\n", "The code is 57.\n", "Lunch was late."])
    view = view.hide("p1").summarise("p3", "about  lunch")
    assert view.visible == "[p1, hidden: The code is 41.…]\n[p2] The code is 57.\n[p3, summary] about lunch"
    assert view.restore("p1").restore("p3") == View.of(["The code is 41.\n", "The code is 57.\n", "Lunch was late."])


def test_fragments_are_named_after_their_piece_and_join_to_it():
    view = View.of(["one two three four five six"]).fragment("p1", 3, at_space)
    assert [(p.id, p.text) for p in view.pieces] == [("p1.1", "one two "), ("p1.2", "three "), ("p1.3", "four five six")]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=4), st.data())
def test_no_sequence_of_edits_changes_the_text(texts: list[str], data: st.DataObject):
    view = View.of(texts)
    for _ in range(data.draw(st.integers(0, 8))):
        name = data.draw(st.sampled_from([p.id for p in view.pieces]))
        edit = data.draw(st.sampled_from(["fragment", "hide", "summarise", "restore"]))
        try:
            if edit == "fragment":
                view = view.fragment(name, data.draw(st.integers(2, 5)), at_space)
            elif edit == "summarise":
                view = view.summarise(name, data.draw(st.text(max_size=20)))
            else:
                view = getattr(view, edit)(name)
        except ConfigError:
            continue  # refused: the view is as it was
    assert view.text == "".join(texts)
    assert len({p.id for p in view.pieces}) == len(view.pieces)
    for piece in view.pieces:
        view = view.restore(piece.id)
    assert all(p.state == "shown" for p in view.pieces)
    assert view.text == "".join(texts)


def test_a_search_finds_the_very_words_in_hidden_pieces_too():
    view = View.of(["The CODE is 41.", "Nothing here."]).hide("p1")
    assert [(m.piece, m.excerpt) for m in view.find("code is")] == [("p1", "The CODE is 41.")]
    assert view.find("code (is") == view.find(" ") == []


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda v: v.hide("p9"), "no piece 'p9'"),
        (lambda v: v.summarise("p1", " \n"), "summary is empty"),
        (lambda v: v.fragment("p1", 1, at_space), "parts"),
        (lambda v: v.fragment("p2", 2, at_space), "too short"),
    ],
)
def test_edits_that_make_no_sense_are_refused(edit, words: str):
    with pytest.raises(ConfigError, match=words):
        edit(View.of(["a b c d", "x"]))
