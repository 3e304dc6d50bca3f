"""The rule that takes a chat apart, by example; and what a model's name may say."""

from __future__ import annotations

import pytest

from baywindow.config import Settings
from baywindow.documents.base import Document
from baywindow.errors import CapabilityError, RecipeError
from baywindow.server.conversation import QUESTION_CHARACTERS, Conversation, Turn, question_of, taken_apart
from baywindow.server.names import UnknownModelError, named, served_name

TEXT = "A sentence of a long text. " * 100  # 2,700 characters


def count(text):
    return len(text.split())


@pytest.mark.parametrize(
    ("parts", "question", "rest"),
    [
        (["Who?"], "Who?", ""),
        (["Hello.", "Who?"], "Hello.\n\nWho?", ""),
        ([TEXT, "Who?"], "Who?", TEXT),
        ([f"{TEXT}\n\nWho?"], "Who?", TEXT.strip()),
        ([f"Answer from this:\n\n{TEXT}\n\nWho?"], "Answer from this:\n\nWho?", TEXT.strip()),
        ([f"Who?\n\n{TEXT}"], "Who?", TEXT.strip()),
        ([f"{TEXT}\nWho?"], "Who?", TEXT.strip()),
        ([""], "", ""),
    ],
)
def test_the_question_in_a_message(parts, question, rest):
    assert question_of(parts) == (question, rest) or (question_of(parts)[0], question_of(parts)[1].strip()) == (question, rest)


def test_one_endless_word_is_cut_and_nothing_is_lost():
    question, rest = question_of(["x" * 5000])
    assert len(question) == QUESTION_CHARACTERS
    assert len(question) + len(rest) == 5000


def test_instructions_recent_turns_and_text():
    turns = (
        Turn("system", ("Be brief.",)),
        Turn("user", (TEXT,)),
        Turn("assistant", ("Noted.",)),
        Turn("user", ("Who?",)),
    )
    asked = taken_apart(Conversation(turns, (Document("attached", "conversation"),)), count, window_tokens=400)
    assert asked.question == "Who?"
    assert asked.instructions == "Be brief.\n\nEarlier in this conversation:\nAssistant: Noted."
    assert [(d.source, d.text) for d in asked.documents] == [("conversation", f"User: {TEXT}"), ("conversation (2)", "attached")]


def test_instructions_beyond_a_quarter_of_the_window_become_text():
    system = "Be brief.\n\n" + "more rules " * 60
    asked = taken_apart(Conversation((Turn("system", (system,)), Turn("user", ("Who?",)))), count, window_tokens=100)
    assert asked.instructions == "Be brief."
    assert asked.documents[0].source == "instructions"
    assert asked.documents[0].text == "more rules " * 60


def test_names_of_models():
    settings = Settings(recipes={"mine": "hybrid(rerank='cross/encoder') > rag"})

    def read(text, **more):
        return named(text, ("qwen",), settings, **more)

    plain = read("qwen")
    assert (plain.model, plain.explicit, str(plain.recipe)) == ("qwen", False, "self_route")
    outside = read("qwen|hybrid(k=3) > rag")
    assert (outside.explicit, str(outside.recipe)) == (True, "hybrid(k=3) > rag")
    assert read("mine").model == "qwen"  # what the operator wrote may name a model to load
    assert read("qwen|mine").explicit
    assert read("other/model|full_text > rag", any_model=True).model == "other/model"
    for wrong in ("qwen|mine > rag", "qwen|hybrid(rerank='/etc/passwd') > rag", "qwen|", "qwen+full_text"):
        with pytest.raises(RecipeError):
            read(wrong)
    with pytest.raises(UnknownModelError, match="nearest: qwen"):
        read("qwem")
    with pytest.raises(CapabilityError, match="snapkv works inside"):
        read("qwen+snapkv(budget_tokens=9)", insides=False)


@pytest.mark.parametrize(
    ("name", "served"),
    [("embedded", "embedded"), ("Qwen/Qwen2.5", "Qwen/Qwen2.5"), ("/srv/models/a+b.gguf", "a-b.gguf"), ("openai:gpt", "gpt")],
)
def test_what_a_model_is_called(name, served):
    assert served_name(name) == served
