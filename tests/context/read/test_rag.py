"""`rag`: the best passages, best first, within a budget; nothing found means no call."""

from __future__ import annotations

import pytest

from baywindow.context.read.rag import Rag
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError


def test_the_best_passage_stands_first(garden, scripted):
    model = scripted(["In 1987. [1]"])
    ranked = [*garden.passages()][::-1]
    assert Rag(k=2).read(Run("When was the roof mended?", garden, model), ranked) == "In 1987. [1]"
    text = model.prompts[0][-1].content
    assert text.startswith("<passage [1] from house.md:2>\nThe roof was mended in 1987.\n</passage>\n<passage [2] from house.md:1>")
    assert "beans" not in text


def test_the_budget_bounds_the_prompt_and_the_rest_is_said(garden, scripted):
    model = scripted(["x"])
    ranked = [*garden.passages()]
    whole = scripted(["x"])
    Rag(k=2).read(Run("q", garden, whole), ranked)
    two = whole.count_tokens(whole.prompts[0])
    run = Run("q", garden, model)
    Rag(k=5, budget_tokens=two + 3).read(run, ranked)
    assert model.count_tokens(model.prompts[0]) <= two + 3
    assert run.notes == [f"3 of 5 retrieved passages did not fit {two + 3} tokens and were left out"]


def test_a_fraction_is_of_the_window(garden, scripted):
    model = scripted(["x"], context_length=600)
    Rag(budget_fraction=0.25).read(Run("q", garden, model), [*garden.passages()])
    assert model.count_tokens(model.prompts[0]) <= 150


def test_without_passages_there_is_no_call(garden, scripted):
    model = scripted([])
    assert Rag().read(Run("q", garden, model), []) == NOT_FOUND


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="k=0"):
        Rag(k=0)
    with pytest.raises(ConfigError, match="budget_tokens and budget_fraction"):
        Rag(budget_tokens=5, budget_fraction=0.5)
