"""Tool calls as models write them: with tags, in fences, bare, broken off; whatever the borders of the pieces are."""

from __future__ import annotations

import json

import pytest

from baywindow.models.calling import Call, CallReader

PARIS = '{"name": "weather", "arguments": {"city": "Paris"}}'
OSLO = '{"name": "weather", "arguments": {"city": "Oslo"}}'


def read(reply, size, names=("weather", "clock")):
    """Texts joined, and (name, arguments) of calls, of a reply that comes in pieces of this size."""
    reader = CallReader(names)
    found = [said for at in range(0, len(reply), size) for said in reader.push(reply[at : at + size])] + reader.flush()
    joined: list = []
    for said in found:
        if isinstance(said, Call):
            joined.append((said.name, json.loads(said.arguments)))
        elif joined and isinstance(joined[-1], str):
            joined[-1] += said
        else:
            joined.append(said)
    return joined


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Hello there.", ["Hello there."]),
        ("1 < 2 <b>\n", ["1 < 2 <b>\n"]),
        ("ends with <tool", ["ends with <tool"]),
        (f"<tool_call>\n{PARIS}\n</tool_call>", [("weather", {"city": "Paris"})]),
        (
            f"Let me look.\n\n<tool_call>{PARIS}</tool_call>\n<tool_call>{OSLO}</tool_call>\n",
            ["Let me look.", ("weather", {"city": "Paris"}), ("weather", {"city": "Oslo"})],
        ),
        (f"<tool_call>\n{PARIS}", [("weather", {"city": "Paris"})]),  # not closed
        ('<tool_call>{"name": "clock"}</tool_call>', [("clock", {})]),
        (f"\n{PARIS}", [("weather", {"city": "Paris"})]),
        (f"```json\n{PARIS}\n```", [("weather", {"city": "Paris"})]),
        (f"[{PARIS}, {OSLO}]", [("weather", {"city": "Paris"}), ("weather", {"city": "Oslo"})]),
        ('{"name": "weather", "parameters": {"city": "Rome"}}', [("weather", {"city": "Rome"})]),
        ('{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}}', [("weather", {"city": "Rome"})]),
        # what is no call of a tool that was offered stays as it was written
        ('<tool_call>{"name": "rm", "arguments": {}}</tool_call>', ['<tool_call>{"name": "rm", "arguments": {}}</tool_call>']),
        ("<tool_call>not JSON</tool_call> then", ["<tool_call>not JSON</tool_call> then"]),
        ("So \n<tool_call>[1]</tool_call>", ["So \n<tool_call>[1]</tool_call>"]),
        ('{"name": "weather"}', ['{"name": "weather"}']),
        ('{"name": "Ida", "age": 7}', ['{"name": "Ida", "age": 7}']),
        (f"The form is {PARIS}", [f"The form is {PARIS}"]),
        ("", []),
    ],
)
def test_a_reply_is_split_into_text_and_calls(reply, expected, size):
    assert read(reply, size) == expected


def test_a_call_is_told_when_it_is_complete_and_text_as_soon_as_it_is_sure():
    reader = CallReader(["weather"])
    assert reader.push("Well ") == ["Well"]
    assert reader.push("then <tool_") == [" then"]
    assert reader.push(f"call>{PARIS}</tool_call") == []
    (call,) = reader.push("> ")
    assert isinstance(call, Call)
    assert call.name == "weather"
    assert len(call.id) == 9
    assert call.id.isalnum()
    assert reader.flush() == []


def test_arguments_are_given_as_an_object_or_as_the_text_they_are():
    assert Call("f", '{"a": 1}').given == {"a": 1}
    assert Call("f", "{broken").given == "{broken"
