"""LV-Eval: every set at every length, keywords, the first reference alone."""

from __future__ import annotations

import pytest

from baywindow.bench import find
from baywindow.bench.tasks.lv_eval import LEVELS, SUITE

ENGLISH = ("hotpotwikiqa_mixup", "loogle_SD_mixup", "loogle_CR_mixup", "loogle_MIR_mixup", "multifieldqa_en_mixup")
CHINESE = ("multifieldqa_zh_mixup", "cmrc_mixup", "lic_mixup")


def test_eleven_sets_at_five_lengths():
    names = {*ENGLISH, *CHINESE, "factrecall_en", "factrecall_zh", "dureader_mixup"}
    assert {t.name for t in SUITE.tasks} == {f"lv_eval.{n}_{level}" for n in names for level in LEVELS}
    assert {t.max_new_tokens for t in SUITE.tasks if "factrecall" in t.name} == {16}
    assert {t.max_new_tokens for t in SUITE.tasks if "factrecall" not in t.name} == {64}


@pytest.mark.parametrize("name", ENGLISH)
def test_a_sample_has_passages_keywords_and_what_confuses(sets, name):
    [sample] = sets.samples(f"lv_eval.{name}_16k")
    assert [d.text.split("\n")[0] for d in sample.documents] == ["### Passage 1", "### Passage 2"]
    assert sample.metadata["keywords"] == "Ida Brandt"
    assert sample.metadata["confusing"] == ["The harbour of Vell was dug by Bo Lind."]
    assert sample.gold == ("It was dug by Ida Brandt",)  # "Ida", the second reference, is not accepted by the published scorer either


def test_the_confusing_fact_earns_nothing_although_most_words_are_right(sets):
    [sample] = sets.samples("lv_eval.hotpotwikiqa_mixup_16k")
    asked = sample.asked[0]
    assert find.score("It was dug by Bo Lind", asked) == 0.0
    # Said: ida; of the keywords' two words one; F1: P = 1, R = 1/6, F = 2/7.
    assert find.score("Ida", asked) == pytest.approx(2 / 7)


def test_a_chinese_sample(sets):
    [sample] = sets.samples("lv_eval.cmrc_mixup_16k")
    assert len(sample.documents) == 2
    assert find.score("北京", sample.asked[0]) > 0.3
    assert find.score("中国的首都是南京", sample.asked[0]) == 0.0
