"""No broken characters, no stop string or half of one leaves a stream."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from baywindow.models.stopping import Decoder, Stops


def as_bytes(ids):
    """A tokenizer with one token a byte: the hardest case for characters of several bytes."""
    return bytes(ids).decode("utf-8", errors="replace")


def test_an_emoji_of_four_tokens_comes_in_one_piece():
    decoder = Decoder(as_bytes)
    assert [decoder.push(b) for b in "a🙂é".encode()] == ["a", "", "", "", "🙂", "", "é"]
    assert decoder.flush() == ""


def test_a_character_cut_off_at_the_end_is_dropped():
    decoder = Decoder(as_bytes)
    said = "".join(decoder.push(b) for b in "ok🙂".encode()[:-1])
    assert said + decoder.flush() == "ok"


def test_endless_broken_bytes_are_given_out_after_a_while():
    decoder = Decoder(as_bytes)
    said = "".join(decoder.push(0x9F) for _ in range(40))
    assert 0 < said.count("�") <= 40


@given(st.text())
def test_pieces_add_up_to_the_text(text):
    decoder = Decoder(as_bytes)
    pieces = [decoder.push(b) for b in text.encode()]
    assert "".join(pieces) + decoder.flush() == text.rstrip("�")
    assert all(piece in text for piece in pieces)


def test_leading_space_of_a_later_token_is_kept():
    # SentencePiece drops the space of a first token: decoding "▁world" alone gives "world", after "Hello" it gives " world".
    words = {0: "▁Hello", 1: "▁world"}
    decoder = Decoder(lambda ids: "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" "))
    assert [decoder.push(0), decoder.push(1)] == ["Hello", " world"]


def test_a_stop_string_is_found_across_pieces_and_never_shown():
    stops = Stops(["\nUser:"])
    assert [stops.push(p) for p in ["yes\n", "Us", "er", ": no"]] == ["yes", "", "", ""]
    assert stops.stopped
    assert stops.push("more") == ""
    assert stops.flush() == ""


def test_what_only_looked_like_a_stop_string_is_shown_later():
    stops = Stops(["END"])
    assert stops.push("an E") == "an "
    assert stops.push("N") == ""
    assert stops.push("ough") == "ENough"
    assert stops.push(" EN") == " "
    assert stops.flush() == "EN"
    assert not stops.stopped


def test_the_earliest_of_several_stops_counts():
    stops = Stops(["b", "ab"])
    assert stops.push("xxaby") == "xx"


def test_blank_text_at_the_start_stops_nothing_when_stripped():
    stops = Stops(["\n"], strip=True)
    assert stops.push(" \n\n") == ""
    assert not stops.stopped
    assert stops.push(" Paris") == "Paris"
    assert stops.push("\nmore") == ""
    assert stops.stopped


@example(["ba", "b"], ["a", "bab"])
@given(st.lists(st.text("abc"), max_size=8), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_cutting_a_stream_equals_cutting_the_whole(pieces, stops):
    whole = "".join(pieces)
    # A stop string counts as soon as it is complete, wherever the borders of the pieces are.
    expected = whole[: min(((whole.find(s) + len(s), whole.find(s)) for s in stops if s in whole), default=(0, len(whole)))[1]]
    cutter = Stops(stops)
    said = "".join(cutter.push(p) for p in pieces) + cutter.flush()
    assert said == expected
    assert cutter.stopped == (expected != whole or any(s in whole for s in stops))


@pytest.mark.parametrize("stops", [(), ("",)])
def test_no_stop_strings_hold_nothing_back(stops):
    assert Stops(stops).push("text") == "text"
