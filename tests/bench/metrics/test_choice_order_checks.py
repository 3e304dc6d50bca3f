"""Scores of order, of choices, of edits and of checks."""

from __future__ import annotations

import itertools
import random

import pytest

from baywindow.bench.base import Turn
from baywindow.bench.metrics import checks, choice, edit, order
from baywindow.errors import ConfigError


def turn(*gold, **metadata):
    return Turn(question="q", gold=gold, scorer="any", metadata=metadata)


# -- order ----------------------------------------------------------------------------------------------------------------------------


def test_order_of_a_worked_example():
    # Gold 3 1 4 2, said 3 4 1 2: the longest common subsequences (3 4 2, 3 1 2) have 3 of 4. Of 6 pairs only (1, 4) is turned round.
    gold = turn("3 > 1 > 4 > 2")
    assert order.order_lcs("[3], [4], [1], [2]", gold) == pytest.approx(3 / 4)
    assert order.order_kendall("[3], [4], [1], [2]", gold) == pytest.approx(5 / 6)
    assert order.order_exact("[3], [4], [1], [2]", gold) == 0.0
    assert order.order_exact("3, 1, 4, 2", gold) == order.order_lcs("3, 1, 4, 2", gold) == order.order_kendall("3 1 4 2", gold) == 1.0


def test_a_right_beginning_is_no_right_order():
    gold = turn("2", "1", "3")
    assert order.order_exact("2", gold) == 0.0
    assert order.order_lcs("2", gold) == pytest.approx(1 / 3)
    assert order.order_kendall("2", gold) == 0.0  # no pair is there


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_longest_common_agrees_with_rapidfuzz_and_with_trying_all(seed):
    from rapidfuzz.distance import LCSseq

    rng = random.Random(seed)
    one, other = ([rng.randrange(5) for _ in range(9)] for _ in range(2))
    tried = max(n for n in range(10) for c in itertools.combinations(one, n) if is_subsequence(c, other))
    assert order.longest_common(one, other) == tried == LCSseq.similarity(one, other)


def is_subsequence(short, long):
    rest = iter(long)
    return all(item in rest for item in short)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_concordant_is_kendalls_tau_of_a_permutation(n):
    rng = random.Random(n)
    said = list(range(n))
    rng.shuffle(said)
    inversions = sum(said[i] > said[j] for i in range(n) for j in range(i + 1, n))
    tau = 1 - 4 * inversions / (n * (n - 1))
    assert order.concordant(said, list(range(n))) == pytest.approx((tau + 1) / 2)


# -- choices --------------------------------------------------------------------------------------------------------------------------

CLASSES = ["Sport", "Sport news", "Sport news abroad", "Food", "Art"]


def test_a_class_shares_with_others_that_were_named():
    assert choice.class_share("Food", turn("Food", classes=CLASSES)) == 1.0
    assert choice.class_share("Food or Art", turn("Food", classes=CLASSES)) == 0.5
    assert choice.class_share("Art", turn("Food", classes=CLASSES)) == 0.0


def test_names_within_the_right_one_do_not_count_even_side_by_side():
    # "Sport" and "Sport news" are both in the gold and neighbours in the list: the published loop drops only the first and gives 1/2.
    assert choice.class_share("Sport news abroad", turn("Sport news abroad", classes=CLASSES)) == 1.0


def test_the_next_example_does_not_count():
    assert choice.class_share_line("\nFood\nQuestion: …\nType: Art", turn("Food", classes=CLASSES)) == 1.0


def test_numbers_share():
    assert choice.number_share("Paragraph 7", turn("Paragraph 7")) == 1.0
    assert choice.number_share("Of 30 paragraphs, number 7", turn("Paragraph 7")) == 0.5  # the trap that is kept
    assert choice.number_share("none", turn("Paragraph 7")) == 0.0
    assert choice.number_share("段落15", turn("段落15")) == 1.0


def test_the_first_number_may_be_decimal_and_grouped():
    assert choice.first_number("It is 1,250.5 metres", turn("1250.5")) == 1.0
    assert choice.first_number("3 of 4", turn("4")) == 0.0


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("(B) Because", "B"),
        ("B. the fox", "B"),
        ("**C**", "C"),
        ("The answer is D.", "D"),
        ("Answer: B", "B"),
        ("A man did it", ""),  # the article
        ("I think (C)", "C"),
        ("Because of Dora", ""),
        ("None of them", ""),
        (": B", "B"),
        ("Based on the text, the answer is A.", "A"),
        ("Option A is wrong and option C is right", ""),  # two are discussed
        ("It can only be option C", "C"),
        ("A. no\nB. no\nSo the answer is: B", "B"),
        ("So do I.", ""),
        ("", ""),
    ],
)
def test_a_letter_is_read_where_one_is_chosen(reply, letter):
    assert choice.chosen_letter(reply) == letter


def test_a_letter_scores_against_a_gold_in_brackets():
    assert choice.letter("B", turn("(B) the fox")) == 1.0
    assert choice.letter("no letter", turn("no letter either")) == 0.0


# -- edits ----------------------------------------------------------------------------------------------------------------------------


def test_edit_similarity_of_a_worked_example():
    # "kitten" to "sitting" by insertions and deletions: common subsequence ittn has 4, so 2 + 3 edits of 13 characters.
    assert edit.edit_similarity("kitten", turn("sitting")) == pytest.approx(1 - 5 / 13)


def test_code_is_the_first_line_that_is_no_comment_and_no_fence():
    reply = "```python\n# adds\n// too\nreturn a + b\nreturn a"
    assert edit.code_similarity(reply, turn("return a + b")) == 1.0
    assert edit.code_similarity("# only a comment", turn("x")) == 0.0


# -- checks ---------------------------------------------------------------------------------------------------------------------------

CHECKS = [["includes", "fox"], ["excludes", "dog"], ["number", 3], ["lines", 2], ["words_at_most", 6]]


def test_pass_rate_is_the_share_of_checks_met():
    # fox yes; dog is said, no; 3 yes; two lines yes; seven words, no.
    assert checks.pass_rate("A FOX and a dog\n\n3 times", turn(checks=CHECKS)) == pytest.approx(3 / 5)
    assert checks.pass_all("A FOX and a dog\n\n3 times", turn(checks=CHECKS)) == 0.0
    assert checks.pass_all("The fox\n3 times", turn(checks=CHECKS)) == 1.0


def test_unknown_and_missing_checks_are_errors():
    with pytest.raises(ConfigError, match="check='runs'"):
        checks.pass_rate("x", turn(checks=[["runs", "code"]]))
    with pytest.raises(ConfigError, match="has none"):
        checks.pass_rate("x", turn())


def test_pass_at_k_of_a_worked_example_and_by_trying_all():
    assert checks.pass_at_k(4, 1, 1) == pytest.approx(1 / 4)
    assert checks.pass_at_k(4, 2, 2) == pytest.approx(5 / 6)  # of the 6 pairs of tries, one has both failures
    for n, c, k in itertools.product(range(1, 6), range(6), range(1, 6)):
        if c <= n and k <= n:
            tries = [i < c for i in range(n)]
            drawn = [any(pick) for pick in itertools.combinations(tries, k)]
            assert checks.pass_at_k(n, c, k) == pytest.approx(sum(drawn) / len(drawn))
    with pytest.raises(ConfigError, match="pass@3"):
        checks.pass_at_k(2, 1, 3)
