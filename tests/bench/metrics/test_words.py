"""Scores of words in common: F1, ROUGE, LV-Eval's gate."""

from __future__ import annotations

import random

import pytest

from baywindow.bench.base import Turn
from baywindow.bench.metrics import _words, f1, gated, rouge


def turn(*gold, **metadata):
    return Turn(question="q", gold=gold, scorer="any", metadata=metadata)


# -- worked examples ------------------------------------------------------------------------------------------------------------------


def test_f1_of_a_worked_example():
    # reply: "the red fox runs" -> red fox runs; gold: "A fox, red!" -> fox red. Common 2; P = 2/3, R = 2/2, F = 2*(2/3)/(5/3) = 4/5.
    assert f1.token_f1("The red fox runs.", turn("A fox, red!")) == pytest.approx(0.8)
    assert f1.token_precision("The red fox runs.", turn("A fox, red!")) == pytest.approx(2 / 3)
    assert f1.token_recall("The red fox runs.", turn("A fox, red!")) == 1.0


def test_a_word_said_twice_counts_as_often_as_the_gold_has_it():
    # reply no no no, gold no yes: common 1; P = 1/3, R = 1/2, F = 2/5.
    assert f1.token_f1("no no no", turn("no yes")) == pytest.approx(0.4)


def test_the_best_of_several_answers_counts():
    assert f1.token_f1("Paris", turn("London", "Paris")) == 1.0


def test_chinese_is_scored_by_words_and_by_characters():
    # 首都是北京 -> 首都 是 北京; gold -> 北京 是 中国 的 首都. Common 3; P = 1, R = 3/5, F = 3/4.
    gold = turn("北京是中国的首都。")
    assert f1.token_f1_zh("首都是北京！", gold) == pytest.approx(0.75)
    # Characters: 5 of 8, all 5 common. P = 1, R = 5/8, F = 10/13.
    assert f1.character_f1_zh("首都是北京！", gold) == pytest.approx(10 / 13)


def test_rouge_l_of_a_worked_example():
    # gold of 6 words, reply of 4 in the same order: LCS 4; P = 1, R = 4/6, F = 4/5.
    gold = turn("the cat sat on the mat")
    assert rouge.rouge_l("the cat on mat", gold) == pytest.approx(0.8)
    assert rouge.rouge_l_recall("the cat on mat", gold) == pytest.approx(2 / 3)
    # Of the reply's 3 pairs only "the cat" is a pair of the gold: ROUGE-2 P = 1/3, R = 1/5, F = 1/4. ROUGE-1 is 4/5.
    assert rouge.rouge_mean("the cat on mat", gold) == pytest.approx((0.8 * 0.25 * 0.8) ** (1 / 3))


def test_rouge_sees_chinese_words():
    # 首都 是 北京 against 北京 是 中国 的 首都: LCS 1; P = 1/3, R = 1/5, F = 1/4. Else 0: rouge-score drops Chinese.
    assert rouge.rouge_l_zh("首都是北京", turn("北京是中国的首都")) == pytest.approx(0.25)
    assert rouge.rouge_l("首都是北京", turn("首都是北京")) == 0.0
    assert rouge.rouge_l_zh("首都是北京", turn("首都是北京")) == 1.0


def test_stems_make_a_difference_where_helmet_takes_them():
    assert rouge.rouge_l_stem("foxes running", turn("fox runs")) > rouge.rouge_l("foxes running", turn("fox runs")) == 0.0


def test_rougelsum_sees_sentences_at_line_breaks_only():
    swapped = "b one two\na three four"
    assert rouge.rouge_lsum(swapped, turn("a three four\nb one two")) == 1.0  # sentence by sentence, in any order
    assert rouge.rouge_lsum(swapped.replace("\n", " "), turn("a three four b one two")) == pytest.approx(0.5)  # one sentence: 3 of 6


# -- oracles --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_f1_agrees_with_counting_by_hand(seed):
    rng = random.Random(seed)
    for length in (1, 5, 40):
        said, gold = (["w" + str(rng.randrange(8)) for _ in range(length)] for _ in range(2))
        left, common = list(gold), 0
        for word in said:  # strike out each word of the gold once
            if word in left:
                left.remove(word)
                common += 1
        expected = 2 * common / (len(said) + len(gold))  # the same F, written as Dice's coefficient
        assert f1.overlap(said, gold)[2] == pytest.approx(expected)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rouge_l_agrees_with_the_longest_common_subsequence_by_hand(seed):
    rng = random.Random(seed)
    said, gold = (["w" + str(rng.randrange(6)) for _ in range(12)] for _ in range(2))

    def longest(a, b):
        if not a or not b:
            return 0
        return longest(a[1:], b[1:]) + 1 if a[0] == b[0] else max(longest(a[1:], b), longest(a, b[1:]))

    assert rouge.rouge_l(" ".join(said), turn(" ".join(gold))) == pytest.approx(2 * longest(said, gold) / 24)


# -- LV-Eval's gate -------------------------------------------------------------------------------------------------------------------


def test_the_gate_closes_where_no_keyword_is_said():
    gold = turn("She was born in Oslo", keywords="Oslo")
    assert gated.keyword_f1("She was born in Rome", gold) == 0.0  # four of five words right, but not the one that matters
    # said: she was born in oslo; all five common.
    assert gated.keyword_f1("She was born in Oslo", gold) == 1.0


def test_common_words_are_struck_from_what_the_gate_finds_and_not_from_its_denominator():
    # Keywords "in the city of Oslo" -> in city of oslo (4, "the" is gone with SQuAD's normal form). Said "in of": both common words.
    gold = turn("in the city of Oslo", keywords="in the city of Oslo")
    assert gated.keyword_f1("in of", gold) == 0.0
    # Said "Oslo": 1 of 4 is found, 0.25 is above 0.2, so F1 counts: P = 1, R = 1/4, F = 0.4.
    assert gated.keyword_f1("Oslo", gold) == pytest.approx(0.4)


def test_without_keywords_the_english_gate_is_open_and_the_chinese_one_asks_for_the_answer():
    assert gated.keyword_f1("in", turn("in Oslo")) == pytest.approx(2 / 3)
    # 北京 是 中国 的 首都; said 是 的: both are common words, so nothing of the answer is found.
    assert gated.keyword_f1_zh("是的", turn("北京是中国的首都")) == 0.0
    # Two of five words, 0.4, is not below the Chinese threshold.
    assert gated.keyword_f1_zh("北京首都", turn("北京是中国的首都")) > 0


def test_only_the_first_reference_counts():
    assert gated.keyword_f1("Rome", turn("Oslo", "Rome")) == 0.0


def test_common_chinese_words_are_left_out_of_rouge():
    # Left over: 北京 中国 首都 against 北京 首都: LCS 2; P = 2/3, R = 1, F = 4/5.
    assert gated.rouge_l_zh_content("北京是中国的首都", turn("北京是首都")) == pytest.approx(0.8)


# -- limits ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [f1.token_f1, f1.token_f1_zh, f1.character_f1_zh, rouge.rouge_l, rouge.rouge_l_zh, rouge.rouge_mean])
def test_a_reply_of_punctuation_scores_0_and_no_gold_is_no_error(score):
    assert score("...", turn("answer")) == 0.0
    assert score("answer", turn()) == 0.0


def test_the_first_line_is_the_first_that_is_not_blank():
    assert _words.first_line("\n\nyes\nQuestion: next") == "yes"


def test_chinese_marks_are_left_out():
    assert _words.chinese_plain("「红楼梦」，Ａ。 b＝…") == "红楼梦ａb"
    assert _words.chinese_plain("《红楼梦》") == "《红楼梦"  # as the published list has it


def test_the_dictionary_is_cached_in_our_own_folder_and_not_where_everybody_may_write():
    from baywindow.home import cache_dir

    assert _words._jieba().tmp_dir == str(cache_dir("jieba"))
