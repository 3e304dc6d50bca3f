"""`long_llmlingua`: which documents, which words, in which order; each step against numbers worked out by hand."""

from __future__ import annotations

import pytest

from baywindow.context.compress.long_llmlingua import RESTRICT, LongLlmlingua, passage_shares, read_alone, word_worth
from baywindow.context.condensed import cited
from baywindow.context.run import Run
from baywindow.errors import ConfigError

LINES = ["Fish was cheap and boats were many.", "Vault code 4711 belongs to Ida.", "It rained on every single day then."]
QUESTION = "Which vault code?"


def worth(before: str, word: str) -> float:
    """The question is likely after the line with the vault; after the question, "code" and the number are."""
    line, gap, _ = before.partition("\n\n")
    if gap and line in LINES:
        return -0.1 if "Vault" in line else -3.0 - 0.01 * len(line)
    return -1.0 if before.startswith(QUESTION) and word in ("code", "4711") else -4.0


@pytest.fixture
def run(corpus, scoring) -> Run:
    return Run(QUESTION, corpus(a="\n".join(LINES)), scoring(worth))


def test_a_passage_is_worth_the_questions_mean_log_probability_after_it(run) -> None:
    found = read_alone(run, run.model, list(run.corpus.passages()))
    assert run.model.asked == [("", f"{line}\n\n{QUESTION}{RESTRICT}") for line in LINES]
    assert [reading.worth for reading in found] == pytest.approx([-3 - 0.01 * len(LINES[0]), -0.1, -3 - 0.01 * len(LINES[2])])
    assert [reading.likely.tolist() for reading in found] == [[-4.0] * len(line.split()) for line in LINES]


def test_a_word_is_worth_how_much_likelier_the_question_makes_it(run) -> None:
    passages = [list(run.corpus.passages())[1]]
    alone = read_alone(run, run.model, passages)
    assert [LINES[1][a:b] for a, b in alone[0].words] == ["Vault", "code", "4711", "belongs", "to", "Ida."]
    (values,) = word_worth(run, run.model, passages, alone, contrast=True)
    assert values.tolist() == [0.0, 3.0, 3.0, 0.0, 0.0, 0.0]
    (plain,) = word_worth(run, run.model, passages, alone, contrast=False)
    assert plain.tolist() == [4.0, 1.0, 1.0, 4.0, 4.0, 4.0]
    assert run.model.asked[-1] == (f"{QUESTION}\n\n", LINES[1])


def test_better_passages_keep_larger_shares() -> None:
    # base 0.5, δ 0.3 over three: 0.8, 0.5, 0.2; one passage keeps the base; shares stay between 0.01 and 1.
    assert passage_shares(3, 0.5, 0.3) == pytest.approx([0.8, 0.5, 0.2])
    assert passage_shares(1, 0.5, 0.3) == [0.5]
    assert passage_shares(2, 0.9, 0.3) == pytest.approx([1.0, 0.6])
    assert passage_shares(2, 0.1, 0.3) == pytest.approx([0.4, 0.01])


def test_worked_example(run) -> None:
    # No spare tokens: the coarse step keeps the vault's line alone (6 words > 3 of budget). Its words with contrast 3 come first,
    # then "Vault", the first of equals.
    (kept,) = LongLlmlingua(budget_tokens=3, spare_tokens=0).compress(run, list(run.corpus.passages()))
    assert kept.text == "Vault code 4711"
    (kept,) = LongLlmlingua(budget_tokens=2, spare_tokens=0).compress(run, list(run.corpus.passages()))
    assert kept.text == "code 4711"
    assert cited(kept).text in ("code 4711", LINES[1])


def test_the_coarse_step_stops_when_budget_and_spare_are_full(run) -> None:
    # 6 + 7 words: with 5 + 7 tokens the second passage is the one that passes the limit, so two are left and their words are scored.
    kept = LongLlmlingua(budget_tokens=5, spare_tokens=7).compress(run, list(run.corpus.passages()))
    assert len(run.model.asked) == 3 + 2
    assert cited(kept[0]).line == 2


@pytest.mark.parametrize(("order", "expected"), [("sort", [1, 2, 0, 3]), ("original", [0, 1, 2, 3]), ("two_stage", [1, 0, 3, 2])])
def test_orders(corpus, scoring, order, expected) -> None:
    lines = [f"Line{n} one two three four." for n in range(4)]
    rank = {"Line1": -0.1, "Line2": -0.2, "Line0": -0.3, "Line3": -0.4}

    def by_line(before: str, word: str) -> float:
        return next((v for name, v in rank.items() if name in before), -1.0)

    run = Run("Q?", corpus(a="\n".join(lines)), scoring(by_line))
    kept = LongLlmlingua(budget_tokens=16, spare_tokens=100, dynamic=0.0, order=order).compress(run, list(run.corpus.passages()))
    assert [cited(p).line for p in kept] == [n + 1 for n in expected]


def test_the_question_decides_where_self_information_does_not(run) -> None:
    """The paper's claim in miniature: with contrast the asked-for words survive; by self-information alone they go first."""
    passages = list(run.corpus.passages())
    aware = LongLlmlingua(budget_tokens=2, spare_tokens=0).compress(run, passages)
    blind = LongLlmlingua(budget_tokens=2, spare_tokens=0, contrast=False).compress(run, passages)
    assert "4711" in aware[0].text
    assert "4711" not in blind[0].text


@pytest.mark.parametrize(("field", "value"), [("spare_tokens", -1), ("dynamic", 1.0), ("order", "random")])
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        LongLlmlingua(**{field: value})
