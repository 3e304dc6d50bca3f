"""ETHIC: the set's own prompt taken apart, sets and orders, sections."""

from __future__ import annotations

import pytest

from baywindow.bench import find
from baywindow.bench.base import Turn
from baywindow.bench.judge import Judge
from baywindow.bench.referees import refereeing
from baywindow.bench.tasks import ethic


def test_the_prompt_is_the_sets_own_and_falls_apart_around_the_text(sets):
    [sample] = sets.samples("ethic.recalling")
    assert sample.context == "Ida met Bo. Bo met Maren."
    assert sample.instruction == "You read books.\n\n### Instruction:\nName all people.\n\n### Context:"
    assert sample.question == "Now, respond to the instruction above."
    assert (sample.metadata["domain"], sample.max_new_tokens) == ("Books", 4096)


def test_recalling_is_f1_of_names():
    asked = Turn(question="q", gold=("Ida", "Bo", "Maren"), scorer="ethic_recalling")
    # Said ida, bo, ann (bo twice): common 2; P = 2/3, R = 2/3.
    assert ethic.ethic_recalling("Ida; Bo, bo, Ann.", asked) == pytest.approx(2 / 3)
    assert ethic.ethic_recalling("maren; IDA; Bo.", asked) == 1.0


def test_attributing_reads_behind_its_cue_and_none_is_an_answer(sets):
    some, none = sets.samples("ethic.attributing")
    assert find.score("There are 3 segments.\nRelated Segments: 1", some.asked[0]) == pytest.approx(2 / 3)
    assert find.score("Related Segments: None", none.asked[0]) == 1.0  # the published scorer gives 0
    assert find.score("Related Segments: 2", none.asked[0]) == 0.0
    assert find.score("None", some.asked[0]) == 0.0


def test_organizing_is_the_longest_common_subsequence(sets):
    [sample] = sets.samples("ethic.organizing")
    assert find.score("[3] > [2] > [1]", sample.asked[0]) == pytest.approx(2 / 3)


def test_a_section_left_out_of_a_summary_counts(sets, scripted):
    [sample] = sets.samples("ethic.summarizing")
    assert sample.metadata["sections"] == {"<Section 1>": "Ida was born in Kross.", "<Section 2>": "She dug a harbour."}
    # One section of two is summarised, with 5, 5 and 2: (1 + 1 + 1/4) / 3 = 3/4, over two sections 3/8.
    with refereeing(judge=Judge(scripted(["5", "5", "2"]))):
        assert find.score("<Section 1> Ida comes from Kross.", sample.asked[0]) == pytest.approx(3 / 8)


def test_a_prompt_of_another_form_is_shown_whole(sets, tmp_path):
    (tmp_path / "Organizing.jsonl").write_text('{"ID": 1, "System_msg": "S", "User_msg": "All of it.", "Answer": "1, 2"}')
    [sample] = sets.task("ethic.organizing").load(tmp_path)
    assert (sample.instruction, sample.context) == ("S", "All of it.")
