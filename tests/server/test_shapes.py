"""Tools, response formats, several replies and scores of a model that runs here, through the official client."""

from __future__ import annotations

import json
import threading

import openai
import pytest

from baywindow.models.base import Completion, Message, Sampling, Stream
from baywindow.server.engine import Engine
from baywindow.server.wrapped import Queued

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "…", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALLED = 'I look. <tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def caller(talker):
    """A model that knows tools: it spends ten words a tool, and calls one unless a tool has answered."""

    class Caller(talker):
        capabilities = frozenset({"text", "tools"})

        def prompt_tokens(self, prompt, sampling):
            return self.count_tokens(prompt) + 10 * len(sampling.tools)

    return Caller(lambda prompt: "It is cold." if prompt[-1].role == "tool" else CALLED)


def create(server, messages=HELLO, model="talker", **options):
    return server.client.chat.completions.create(model=model, messages=messages, **options)


def test_a_tool_is_called_and_its_result_told(serve, caller):
    server = serve(caller)
    said = create(server, tools=[WEATHER])
    (choice,) = said.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I look."
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == ("function", "weather", {"city": "Oslo"})
    assert caller.samplings[-1].tools == (WEATHER,)
    assert said.baywindow["tokens_in"] == 1 + 2 + 10

    answered = [*HELLO, choice.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "-3 C"}]
    assert create(server, answered, tools=[WEATHER]).choices[0].message.content == "It is cold."
    _, assistant, tool = caller.prompts[-1]
    assert (assistant.role, assistant.content, assistant.calls[0].given) == ("assistant", "I look.", {"city": "Oslo"})
    assert (tool.role, tool.content, tool.answers.id, tool.answers.name) == ("tool", "-3 C", call.id, "weather")


def test_a_call_is_streamed_whole_behind_the_text_before_it(serve, caller):
    server = serve(caller)
    events = list(create(server, tools=[WEATHER], stream=True))
    assert "".join(e.choices[0].delta.content or "" for e in events) == "I look."
    (called,) = [e.choices[0].delta.tool_calls for e in events if e.choices[0].delta.tool_calls]
    assert (called[0].index, called[0].function.name, json.loads(called[0].function.arguments)) == (0, "weather", {"city": "Oslo"})
    assert events[-1].choices[0].finish_reason == "tool_calls"
    with server.client.chat.completions.stream(model="talker", messages=HELLO, tools=[WEATHER]) as stream:
        assert stream.get_final_completion().choices[0].message.tool_calls[0].function.name == "weather"


def test_without_a_tool_on_offer_nothing_is_called(serve, caller):
    server = serve(caller)
    for options in ({}, {"tools": [WEATHER], "tool_choice": "none"}, {"tools": [{"type": "function", "function": {"name": "other"}}]}):
        (choice,) = create(server, **options).choices
        assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == (CALLED, None, "stop")


def test_one_call_only_where_calls_may_not_be_parallel(serve, caller):
    server = serve(caller)
    caller.reply = lambda prompt: CALLED + CALLED
    assert len(create(server, tools=[WEATHER]).choices[0].message.tool_calls) == 2
    assert len(create(server, tools=[WEATHER], parallel_tool_calls=False).choices[0].message.tool_calls) == 1


def test_a_long_text_makes_room_for_passages_and_the_tool_is_called_all_the_same(serve, caller):
    server = serve(caller)
    filler = "\n\n".join(f"On day {n} the gardener watered the beans and wrote down the weather." for n in range(100))
    long = [{"role": "user", "content": f"{filler}\n\nOslo is where Ida lives.\n\nHow is the weather where Ida lives?"}]
    said = create(server, long, model="talker|full_text(k=3) > rag", tools=[WEATHER], max_tokens=20)
    assert said.choices[0].message.tool_calls[0].function.name == "weather"
    assert said.baywindow["read"] == "shortened"
    assert 0 < said.baywindow["tokens_kept"] < said.baywindow["tokens_in"]
    assert "Oslo is where Ida lives" in caller.prompts[-1][-1].content
    assert caller.samplings[-1].tools == (WEATHER,)
    with pytest.raises(openai.BadRequestError, match="middle of a tool call"):
        create(server, [*long, {"role": "tool", "tool_call_id": "x", "content": "-3 C"}], tools=[WEATHER])


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [WEATHER]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 17}, "n"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(serve, talker, options, param):
    with pytest.raises(openai.BadRequestError) as refused:
        create(serve(talker()), **options)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice"),
        ({"tools": [WEATHER], "response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_by_name(serve, caller, options, param):
    caller.follows_schema = caller.scores_replies = True
    with pytest.raises(openai.BadRequestError) as refused:
        create(serve(caller), **options)
    assert refused.value.param == param


def test_half_a_surrogate_pair_in_a_tool_is_the_clients_error(serve, caller):
    tool = '{"type": "function", "function": {"name": "f", "description": "\\ud800"}}'
    body = f'{{"model": "talker", "messages": [{{"role": "user", "content": "hi"}}], "tools": [{tool}]}}'
    assert serve(caller).http.post("/v1/chat/completions", content=body).status_code == 400


@pytest.fixture
def tiny_server(serve, tmp_path, write_qwen):
    """A server with a model of random weights, one token a byte, and a template that shows tools."""
    from baywindow.models.transformers import TransformersModel

    folder = write_qwen(tmp_path / "model", template=TEMPLATE, window=1024)
    return serve(TransformersModel(str(folder), device="cpu", dtype="float32", name="tiny"))


def test_a_reply_is_held_to_a_schema(tiny_server):
    schema = {"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    said = create(tiny_server, model="tiny", response_format=form, max_tokens=60, temperature=1)
    assert json.loads(said.choices[0].message.content)["n"] in (1, 22)
    pieces = create(tiny_server, model="tiny", response_format=form, max_tokens=60, stream=True)
    assert json.loads("".join(e.choices[0].delta.content or "" for e in pieces))["n"] in (1, 22)
    with pytest.raises(openai.BadRequestError, match="cannot be followed"):
        create(tiny_server, model="tiny", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wat"}}})


def test_a_call_can_be_forced(tiny_server):
    city = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"], "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": name, "parameters": city}} for name in ("weather", "clock")]
    for choice, names in (("required", {"weather", "clock"}), ({"type": "function", "function": {"name": "clock"}}, {"clock"})):
        said = create(tiny_server, model="tiny", tools=tools, tool_choice=choice, max_tokens=400).choices[0]
        (call,) = said.message.tool_calls
        assert call.function.name in names
        assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
        assert said.message.content is None


def test_several_replies_differ_and_come_again_from_the_same_seed(tiny_server):
    said = create(tiny_server, model="tiny", n=3, max_tokens=8, seed=5)
    texts = [choice.message.content for choice in said.choices]
    assert [choice.index for choice in said.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert [c.message.content for c in create(tiny_server, model="tiny", n=3, max_tokens=8, seed=5).choices] == texts
    # the second reply is that of the next seed alone
    alone = create(tiny_server, model="tiny", max_tokens=8, seed=6, temperature=1)
    assert alone.choices[0].message.content == texts[1]
    # the prompt is counted once, the replies are added up
    assert said.usage.prompt_tokens == alone.usage.prompt_tokens
    assert alone.usage.completion_tokens < said.usage.completion_tokens <= 24
    streamed = ["", "", ""]
    for event in create(tiny_server, model="tiny", n=3, max_tokens=8, seed=5, stream=True):
        for choice in event.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    more = tiny_server.client.completions.create(model="tiny", prompt=["the", "and"], n=2, max_tokens=3, seed=5)
    assert [choice.index for choice in more.choices] == [0, 1, 2, 3]


def test_scores_of_tokens_are_told(tiny_server):
    asked = {"logprobs": True, "top_logprobs": 2, "max_tokens": 6, "temperature": 1, "seed": 3}
    said = create(tiny_server, model="tiny", **asked).choices[0]
    scores = said.logprobs.content
    assert 0 < len(scores) <= 6
    assert "".join(s.token for s in scores if s.bytes is not None) == said.message.content.replace("\ufffd", "")
    assert all(s.logprob <= s.top_logprobs[0].logprob + 1e-6 and s.top_logprobs[1].logprob <= s.top_logprobs[0].logprob for s in scores)
    assert all(s.bytes is None or bytes(s.bytes).decode() == s.token for s in scores)
    older = tiny_server.client.completions.create(model="tiny", prompt="the and", logprobs=1, max_tokens=4).choices[0].logprobs
    assert len(older.tokens) == len(older.token_logprobs) == len(older.text_offset) == len(older.top_logprobs) > 0


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_tells_scores_with_the_text_that_they_are_of(tiny_server, n):
    """A model of random weights writes many halves of characters: they come with the character."""
    asked = {"logprobs": True, "top_logprobs": 2, "max_tokens": 60, "temperature": 1, "seed": 3, "n": n}
    whole = create(tiny_server, model="tiny", **asked).choices
    events = [e.choices[0] for e in create(tiny_server, model="tiny", stream=True, **asked)]
    for choice in whole:
        mine = [e for e in events if e.index == choice.index]
        assert [s for e in mine if e.logprobs for s in e.logprobs.content] == choice.logprobs.content
        assert "".join(e.delta.content or "" for e in mine) == choice.message.content
        *texts, last = mine
        told = [e for e in texts if e.logprobs]
        assert len(told) > 10
        assert all("".join(s.token for s in e.logprobs.content if s.bytes) in e.delta.content for e in told)
        assert last.finish_reason
        assert sum(len(e.logprobs.content) for e in told) > len(choice.logprobs.content) - 17  # as many may be held for a character


def test_a_stream_of_the_older_api_counts_its_offsets_on(tiny_server):
    asked = {"model": "tiny", "prompt": "the and", "logprobs": 1, "max_tokens": 30, "temperature": 1, "seed": 4}
    whole = tiny_server.client.completions.create(**asked).choices[0].logprobs
    told = [e.choices[0].logprobs for e in tiny_server.client.completions.create(stream=True, **asked) if e.choices[0].logprobs]
    assert len(told) > 5
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [one for part in told for one in getattr(part, name)] == getattr(whole, name)


def test_several_replies_to_a_long_prompt_read_it_once(talker):
    """Whole blocks of the prompt are one prefix, which the rows share and nobody else."""
    read = []

    class Reader(talker):
        def beginning(self, prompt, stable, sampling):
            return tuple(range(512))

        def batches(self, lengths, new_tokens):
            return [list(range(len(lengths)))]

        def generate(self, prompt, sampling=Sampling()):
            text = f"seed {sampling.seed}"
            return Stream(iter([text]), lambda said: Completion(text=said, prompt_tokens=3, generated_tokens=2, finish="stop"))

        def together(self, prompts, samplings, prefix=None):
            read.append((len(prompts), len(prefix.ids) if prefix is not None else 0))
            return super().together(prompts, samplings, prefix)

    engine = Engine(Reader(), expected=lambda: 3)
    try:
        view = Queued(engine, "a", threading.Event())
        rows = view.together([(Message("user", "hi"),)] * 3, [Sampling(seed=i) for i in range(3)])
        list(rows)
        assert [rows.completion(i).text for i in range(3)] == ["seed 0", "seed 1", "seed 2"]
    finally:
        engine.close()
    assert read == [(3, 512)]
