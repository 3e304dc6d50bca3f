"""`medoid_voting`: documents shuffled, replies compared, the one in the middle taken."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow.context.read.medoid_voting import MedoidVoting, medoid
from baywindow.context.read.stuff import Stuff
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError
from baywindow.models.base import Embedder


class Letters(Embedder):
    """A text's vector counts its letters: replies with the same words are near."""

    name, dim, max_tokens = "letters", 27, 1000

    def embed(self, texts, kind="passage"):
        found = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for letter in text.lower():
                row[ord(letter) - 97 if letter.isalpha() and letter.isascii() else 26] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def book():
    texts = {f"{name}.txt": f"The {name} flows by the old mill and the new bridge." for name in ("avon", "bure", "cam", "dee", "esk")}
    texts["keeper.txt"] = "The keeper of the lighthouse was Osric."
    return InMemory([Document(text, source) for source, text in texts.items()], chunk_tokens=64, embedder=Letters())


def test_the_medoid_by_hand() -> None:
    # Similarities: a·b = 0.8, a·c = 0, b·c = 0.6. Means to the others (diagonal 0): a 0.8/3, b 1.4/3, c 0.6/3.
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=np.float32)
    assert medoid(vectors) == 1
    assert medoid(np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)) == 0  # the first of equals


def test_the_same_documents_stand_in_another_order_in_every_call(book, scripted) -> None:
    model = scripted(lambda prompt: "It was Osric.", context_length=2000)
    assert MedoidVoting(votes=4).read(Run("Who kept the lighthouse?", book, model), None) == "It was Osric."
    orders = []
    for prompt in model.prompts:
        text = prompt[-1].content
        orders.append(tuple(sorted(("avon", "bure", "cam", "dee", "esk", "keeper"), key=lambda n: text.index(f"from {n}.txt"))))
    assert len(orders) == 4
    assert len(set(orders)) == 4


def test_the_reply_most_like_the_others_wins_and_declines_do_not_vote(book, scripted) -> None:
    said = iter(["zzz zzz", "It was Osric.", NOT_FOUND, "It was Osric", "", "Was it Osric."])
    model = scripted(lambda prompt: next(said), context_length=2000)
    assert MedoidVoting(votes=6).read(Run("q", book, model), None) in ("It was Osric.", "It was Osric", "Was it Osric.")


def test_when_all_decline_it_declines(book, scripted) -> None:
    assert MedoidVoting().read(Run("q", book, scripted(lambda p: NOT_FOUND, context_length=2000)), None) == NOT_FOUND


def test_a_model_that_misses_what_stands_last_is_helped(book, scripted) -> None:
    """The paper's claim in miniature: this model sees nothing but the first five of six documents; the answer stands last."""

    def half_blind(prompt):
        text = prompt[-1].content
        return "It was Osric." if text.index("Osric") < text.rindex("<passage") else "the mill"

    one = Stuff().read(Run("q", book, scripted(half_blind, context_length=2000)), None)
    voted = MedoidVoting(votes=5).read(Run("q", book, scripted(half_blind, context_length=2000)), None)
    assert one == "the mill"
    assert voted == "It was Osric."


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="votes"):
        MedoidVoting(votes=2)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        MedoidVoting(max_new_tokens=0)
