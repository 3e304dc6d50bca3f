"""`read_twice`: question, text, the same text, question."""

from __future__ import annotations

import re

import pytest

from baywindow.context.read.read_twice import ReadTwice
from baywindow.context.read.stuff import Stuff
from baywindow.context.reply import ANSWER, NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError


def test_the_text_stands_twice_with_the_question_on_both_sides(garden, scripted):
    model = scripted(["In 1987. [5]"])
    assert ReadTwice().read(Run("When was the roof mended?", garden, model), None) == "In 1987. [5]"
    text = model.prompts[0][-1].content
    assert text.startswith("Question: When was the roof mended?\n\n<passage [1] from garden.md:1>")
    assert text.endswith(f"</passage>\n\nQuestion: When was the roof mended?\n{ANSWER.form}")
    asked = "Question: When was the roof mended?"
    middle = text.removeprefix(f"{asked}\n\n").removesuffix(f"\n\n{asked}\n{ANSWER.form}")
    first, second = middle.split("\n\n")
    assert first == second
    assert first.count("<passage [") == 5


def test_half_the_window_is_filled_and_the_rest_is_said(corpus, scripted):
    lines = "\n".join(f"line {i} of a long and even text without any news" for i in range(60))
    model, plain = scripted(["x"], context_length=500), scripted(["x"], context_length=500)
    run = Run("q", corpus(book=lines), model)
    ReadTwice(max_new_tokens=40).read(run, None)
    Stuff(max_new_tokens=40).read(Run("q", corpus(book=lines), plain), None)
    twice, once = (re.findall(r"line (\d+) of", m.prompts[0][-1].content) for m in (model, plain))
    n = len(twice) // 2
    assert twice == once[:n] * 2  # the same beginning of the text, twice
    assert len(once) // 2 - 2 <= n <= len(once) // 2
    assert any(f"{60 - n} passages did not fit the window twice" in note for note in run.notes)


def test_a_window_without_room_for_two_readings_reads_once_and_says_so(corpus, scripted):
    model = scripted(["x"], context_length=150)
    run = Run("q", corpus(book="word " * 400), model)
    ReadTwice(max_new_tokens=16).read(run, None)
    assert model.prompts[0][-1].content.count("<passage [") == 1
    assert any("no room for a second reading" in note for note in run.notes)


def test_the_claim_in_miniature_a_forward_only_reader_finds_what_stands_before_its_question(garden, scripted):
    """A reader with a memory of one fact, like a small recurrent state: it must know what to keep before it comes."""

    def forward_only(prompt) -> str:
        wanted, kept = "", ""
        for line in prompt[-1].content.splitlines():
            if line.startswith("Question: "):
                wanted = line.split()[-1].strip("?")
            elif wanted and wanted in line:
                kept = line
        return kept or NOT_FOUND

    question = "Who painted the fence?"
    assert ReadTwice().read(Run(question, garden, scripted(forward_only)), None) == "The fence was painted green by Ida."
    assert Stuff().read(Run(question, garden, scripted(forward_only)), None) == NOT_FOUND


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="max_new_tokens"):
        ReadTwice(max_new_tokens=0)
