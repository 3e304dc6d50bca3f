"""`stuff`: one prompt with everything that fits, in reading order; what does not fit is counted."""

from __future__ import annotations

import pytest

from baywindow.context.base import Reader
from baywindow.context.read.stuff import Stuff
from baywindow.context.reply import ANSWER
from baywindow.context.run import Run
from baywindow.errors import ConfigError, ContextLengthError


def user(model, call=0) -> str:
    return model.prompts[call][-1].content


def test_one_call_sees_everything_in_reading_order(garden, scripted):
    model = scripted(["Ida. [4]"])
    assert isinstance(Stuff(), Reader)
    assert Stuff().read(Run("Who painted the fence?", garden, model), None) == "Ida. [4]"
    text = user(model)
    lines = [p.text for p in garden.passages()]
    assert [text.index(line) for line in lines] == sorted(text.index(line) for line in lines)
    assert "<passage [4] from house.md:1>\nThe fence was painted green by Ida.\n</passage>" in text
    assert text.endswith(f"Question: Who painted the fence?\n{ANSWER.form}")


def test_chosen_passages_lose_the_lowest_ranked_first_and_stand_in_reading_order(garden, scripted):
    ranked = [*garden.passages()][::-1]  # best: the last line of house.md
    full = scripted(["x"], context_length=300)  # like the one below, too small for examples
    Stuff(max_new_tokens=10).read(Run("q", garden, full), ranked[:3])
    size = full.count_tokens(full.prompts[0])
    model = scripted(["x"], context_length=size + 10 + 3)  # three fit, not four
    run = Run("q", garden, model)
    Stuff(max_new_tokens=10).read(run, ranked)
    text = user(model)
    kept = sorted(ranked[:3], key=lambda p: (p.source, p.start))
    assert [text.index(p.text) for p in kept] == sorted(text.index(p.text) for p in kept)
    assert ranked[3].text not in text
    # 29 + 35 characters are left out; the first of them has 6 words in 35 characters: 64 * 6 / 35 = 11
    assert run.notes == ["2 passages (about 11 tokens) did not fit and were left out"]
    assert [r.fate for r in run.steps[0].regions].count("left_out") == 1


def test_a_window_that_the_question_fills_is_refused(garden, scripted):
    with pytest.raises(ContextLengthError):
        Stuff().read(Run("why " * 300, garden, scripted([], context_length=400)), None)


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="max_new_tokens"):
        Stuff(max_new_tokens=0)
