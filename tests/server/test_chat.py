"""Chats through the official client: what fits is asked directly, what does not goes through the recipe."""

from __future__ import annotations

import base64

import numpy as np
import pytest

QUESTION = "Who painted the fence?"
FILLER = [f"On day {n} the gardener watered the beans and wrote down the weather in the grey notebook." for n in range(60)]
LONG = "\n\n".join([*FILLER[:30], "Ida painted the fence green in spring.", *FILLER[30:]])


def ask(running, content, model="talker", **options):
    return running.client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], **options)


def test_a_prompt_that_fits_is_asked_as_it_is(serve, talker):
    model = talker()
    server = serve(model)
    said = server.client.chat.completions.create(
        model="talker",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}],
        max_tokens=9,
        temperature=0.5,
        seed=7,
        stop="END",
    )
    assert said.choices[0].message.content == "Hello there."
    assert said.choices[0].finish_reason == "stop"
    assert [(m.role, m.content) for m in model.prompts[0]] == [("system", "Be brief."), ("user", "Say hello.")]
    sampling = model.samplings[0]
    assert (sampling.max_new_tokens, sampling.temperature, sampling.seed, sampling.stop) == (9, 0.5, 7, ("END",))
    # two words and two words, and two a message
    assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens) == (8, 2, 10)
    report = said.baywindow
    assert (report["read"], report["tokens_in"], report["tokens_kept"], report["tokens_left_out"], report["calls"]) == (
        "direct",
        8,
        8,
        0,
        1,
    )
    assert sum(r["tokens"] for r in report["steps"][0]["regions"]) == 8


def test_a_limit_that_is_reached_is_told(serve, talker):
    said = ask(serve(talker()), "Say hello.", max_completion_tokens=1)
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("Hello", "length")


def test_streamed_pieces_are_the_reply(serve, talker):
    server = serve(talker(lambda prompt: "one two three"))
    events = list(ask(server, "Count.", stream=True, stream_options={"include_usage": True}))
    assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == "one two three"
    assert events[0].choices[0].delta.role == "assistant"
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "stop"
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens == 3
    assert events[-2].baywindow["calls"] == 1
    assert len({e.id for e in events}) == 1


def test_a_prompt_beyond_the_window_is_read_by_the_recipe(serve, talker):
    model = talker(lambda prompt: "Ida painted it. [1]")
    said = ask(serve(model), f"{LONG}\n\n{QUESTION}", model="talker|full_text(k=2) > rag")
    assert model.count_tokens(LONG) > model.context_length
    assert said.choices[0].message.content == "Ida painted it. [1]"
    assert "Ida painted the fence green" in model.prompts[-1][-1].content
    assert model.prompts[-1][-1].content.count(QUESTION) == 1
    report = said.baywindow
    assert report["read"] == "recipe"
    assert report["recipe"] == "full_text(k=2) > rag"
    assert report["tokens_in"] == model.count_tokens(LONG) + 4 + 2
    assert 0 < report["tokens_kept"] < 512
    assert report["tokens_left_out"] == report["tokens_in"] - report["tokens_kept"]
    assert said.usage.prompt_tokens == model.count_tokens(model.prompts[-1])
    (note,) = said.choices[0].message.annotations
    cited = note.file_citation
    assert cited["quote"] == "Ida painted the fence green in spring."
    assert cited["verified"]
    assert (cited["filename"], cited["file_id"]) == ("message", None)
    text = said.choices[0].message.content
    assert text[note.start_index : note.end_index] == note.text == "[1]"


def test_without_a_recipe_in_the_name_the_servers_own_acts_only_where_it_must(serve, talker):
    from baywindow.config import Settings

    model = talker(lambda prompt: "Ida. [1]", context_length=4096)
    server = serve(model, settings=Settings(recipe="full_text(k=1) > rag"))
    assert ask(server, f"{LONG}\n\n{QUESTION}").baywindow["read"] == "direct"
    longer = "\n\n".join([LONG] * 6)
    assert ask(server, f"{longer}\n\n{QUESTION}").baywindow["recipe"].startswith("full_text(k=1) > rag")
    # named in the request it acts also where the prompt fits
    assert ask(server, f"{LONG}\n\n{QUESTION}", model="talker|full_text(k=1) > rag").baywindow["read"] == "recipe"
    assert ask(server, QUESTION, model="talker|full_text(k=1) > rag").baywindow["read"] == "direct"  # nothing there to be read


def test_the_applications_instructions_and_the_last_turns_stand_before_every_call(serve, talker):
    model = talker(lambda prompt: "Ida. [1]")
    messages = [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": QUESTION},
    ]
    said = serve(model).client.chat.completions.create(model="talker|full_text(k=1) > rag", messages=messages, max_tokens=20)
    system = model.prompts[-1][0]
    assert system.role == "system"
    assert system.content.startswith("Answer in French.\n\nEarlier in this conversation:\nAssistant: Noted.")
    assert "Ida painted the fence" in model.prompts[-1][-1].content
    assert said.choices[0].message.annotations[0].file_citation["filename"] == "conversation"
    assert model.samplings[-1].max_new_tokens == 20


def test_the_stream_of_a_recipe_ends_with_its_annotations(serve, talker):
    events = list(
        ask(serve(talker(lambda p: "Ida painted it. [1]")), f"{LONG}\n\n{QUESTION}", model="talker|full_text(k=1) > rag", stream=True)
    )
    assert "".join(e.choices[0].delta.content or "" for e in events) == "Ida painted it. [1]"
    assert events[-1].choices[0].delta.annotations[0]["file_citation"]["verified"]
    assert events[-1].baywindow["found"]


def test_what_is_not_there_is_said(serve, talker):
    said = ask(serve(talker(lambda p: "NOT FOUND")), f"{LONG}\n\nWho sang?", model="talker|full_text(k=1) > rag")
    assert "ot found" in said.choices[0].message.content
    assert said.baywindow["found"] is False


def test_names_of_bay_toml(serve, talker):
    from baywindow.config import Settings

    settings = Settings(recipes={"thrifty": "full_text(k=1) > rag"})
    server = serve(talker(lambda p: "Ida. [1]"), settings=settings)
    for name in ("thrifty", "talker|thrifty"):
        assert ask(server, f"{LONG}\n\n{QUESTION}", model=name).baywindow["recipe"] == "full_text(k=1) > rag"
    assert {"talker", "thrifty", "word-hashes"} == {m.id for m in server.client.models.list()}
    assert server.client.models.retrieve("talker|thrifty").id == "talker|thrifty"


def test_completions_go_on_from_a_text(serve, talker):
    server = serve(talker(lambda p: " and so on"))
    said = server.client.completions.create(model="talker", prompt=["Once", "Twice"], max_tokens=5)
    assert [(c.index, c.text) for c in said.choices] == [(0, " and so on"), (1, " and so on")]
    streamed = list(server.client.completions.create(model="talker", prompt="Once", max_tokens=2, stream=True))
    assert "".join(e.choices[0].text for e in streamed) == " and"
    assert streamed[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_the_embedders(serve, talker, encoding):
    server = serve(talker())
    found = server.client.embeddings.create(model="word-hashes", input=["green fence", "grey notebook"], encoding_format=encoding)
    rows = [np.frombuffer(base64.b64decode(r.embedding), "<f4") if encoding == "base64" else r.embedding for r in found.data]
    assert np.allclose(rows, server.service.embedder.embed(["green fence", "grey notebook"]), atol=1e-6)
    assert np.allclose(server.client.embeddings.create(model="word-hashes", input="green fence").data[0].embedding, rows[0], atol=1e-6)
