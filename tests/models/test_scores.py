"""The scores of a reply's tokens: of the whole of it, and of each piece of it."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

from baywindow.models.base import Sampling, ScoredText
from baywindow.models.stopping import BROKEN
from baywindow.models.transformers.choosing import Pick
from baywindow.models.transformers.reply import Reply
from baywindow.models.transformers.scores import AsSaid, scores_of

END = 300  # a control token; others are bytes


def decode(ids):
    return bytes(i for i in ids if i != END).decode(errors="replace")


def said(text, *, stop=(), limit=100, plain_stops=()):
    """The pieces of a reply that a model writes byte by byte, each with its scores, and the scores of the whole."""
    reply = Reply(decode, Sampling(max_new_tokens=limit, stop=stop), 1, frozenset({END}), plain_stops=plain_stops)
    picks, pieces = [], []
    scores = AsSaid(picks, decode)
    for n, token in enumerate([*text.encode(), END] if isinstance(text, str) else text):
        picks.append(Pick(token, -float(n), ((token, -float(n)),)))
        if piece := reply.push(token):
            pieces.append(scores.piece(piece))
        if reply.done:
            break
    return pieces, scores_of(picks, decode, "".join(pieces))


def test_a_token_comes_with_the_piece_that_ends_it():
    pieces, whole = said("aü🙂b")
    assert pieces == ["a", "ü", "🙂", "b"]
    assert all(isinstance(piece, ScoredText) for piece in pieces)
    assert [[s.text for s in piece.scores] for piece in pieces] == [["a"], [BROKEN, "ü"], [BROKEN, BROKEN, BROKEN, "🙂"], ["b"]]
    assert [[s.logprob for s in piece.scores] for piece in pieces] == [[0.0], [-1.0, -2.0], [-3.0, -4.0, -5.0, -6.0], [-7.0]]
    assert tuple(s for piece in pieces for s in piece.scores) == whole


def test_text_that_is_held_back_holds_its_scores_back():
    pieces, whole = said("a STx STOP b", stop=("STOP",))
    assert pieces == ["a", " ", "STx", " "]
    assert [[s.text for s in piece.scores] for piece in pieces] == [["a"], [" "], ["S", "T", "x"], [" "]]
    assert tuple(s for piece in pieces for s in piece.scores) == whole


def test_blanks_before_a_reply_are_none_of_it():
    pieces, whole = said(" \n ab", plain_stops=("\nUser:",))
    assert pieces == ["a", "b"]
    assert [[(s.text, s.logprob) for s in piece.scores] for piece in pieces] == [[("a", -3.0)], [("b", -4.0)]]
    assert tuple(s for piece in pieces for s in piece.scores) == whole


def test_a_token_of_which_a_part_is_held_back_waits_for_it():
    words = {1: "end S", 2: "T", 3: "art"}
    picks = [Pick(n, -float(n), ()) for n in words]
    scores = AsSaid(picks, lambda ids: "".join(words[i] for i in ids))
    assert scores.piece("end ").scores == ()
    assert [s.text for s in scores.piece("START"[:2] + "art").scores] == ["end S", "T", "art"]


@pytest.mark.parametrize("seed", range(40))
def test_pieces_have_the_first_scores_of_the_whole(seed):
    """Random bytes, cut off anywhere: what comes with the pieces is what the whole begins with, up to the end of the text."""
    draw = random.Random(seed)
    letters = [*b"a \nS", *b"TOP", *"ü🙂".encode(), 0xFF, END]
    text = [draw.choice(letters[:-1] if draw.random() < 0.97 else letters) for _ in range(60)]
    pieces, whole = said(text, stop=("STOP", "aS"), limit=draw.randrange(1, 60), plain_stops=("\nS",) if seed % 2 else ())
    told = [s for piece in pieces for s in piece.scores]
    assert told == list(whole[: len(told)])
    left = whole[len(told) :]
    assert all(BROKEN in s.text for s in left) or "".join(pieces).endswith(BROKEN)
