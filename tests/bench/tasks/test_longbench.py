"""LongBench: prompts, first lines, classes, buckets."""

from __future__ import annotations

import pytest

from baywindow.bench import find
from baywindow.bench.tasks.longbench import SUITE
from baywindow.bench.tasks.longbench._subsets import SUBSETS

# The published configuration, by name: new tokens.
TOKENS = {
    "narrativeqa": 128, "qasper": 128, "multifieldqa_en": 64, "multifieldqa_zh": 64, "hotpotqa": 32, "2wikimqa": 32, "musique": 32,
    "dureader": 128, "gov_report": 512, "qmsum": 512, "multi_news": 512, "vcsum": 512, "trec": 64, "triviaqa": 32, "samsum": 128,
    "lsht": 64, "passage_count": 32, "passage_retrieval_en": 32, "passage_retrieval_zh": 32, "lcc": 64, "repobench-p": 64,
}  # fmt: skip


def test_all_sets_are_there_with_their_output_lengths():
    assert {s.name: s.max_new_tokens for s in SUBSETS if not s.name.endswith("_e")} == TOKENS
    assert sum(s.name.endswith("_e") for s in SUBSETS) == 13
    assert {s.name for s in SUBSETS if not s.chat and not s.name.endswith("_e")} == {
        "trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"
    }  # fmt: skip
    assert len(SUITE.tasks) == 34


def test_a_prompt_has_instruction_passages_instruction_question_and_the_answer_begun(sets):
    [sample] = sets.samples("longbench.hotpotqa")
    assert [d.text.split("\n")[1] for d in sample.documents] == ["Harbour of Vell", "Ida Brandt", "Town of Ulm Bay"]
    rule, question = sample.question.split("\n\n")
    assert sample.instruction.startswith(rule)
    assert question == "Question: In which town was the builder of Vell's harbour born?"
    assert sample.answer_prefix == "Answer:"
    assert sample.prompt.index("Harbour of Vell") < sample.prompt.index("Question:")
    assert (sample.metadata["bucket"], sample.metadata["words"]) == ("8k+", 9000)


def test_few_shot_sets_keep_the_first_line(sets):
    [trivia] = sets.samples("longbench.triviaqa")
    assert find.score("\nBern\nPassage:\nAnother text with Bern", trivia.asked[0]) == 1.0
    [chat] = sets.samples("longbench.samsum")
    assert find.score("Kim is late and Jo waits.\nDialogue: noise", chat.asked[0]) == 1.0
    assert trivia.metadata["stop"] == ["\n"]


def test_classes_are_those_of_the_record(sets):
    [trec] = sets.samples("longbench.trec")
    assert find.score("Individual", trec.asked[0]) == 1.0
    assert find.score("Individual or Other location", trec.asked[0]) == 0.5
    assert find.score("Other location", trec.asked[0]) == 0.0


def test_code_is_compared_line_by_line(sets):
    [code] = sets.samples("longbench.repobench-p")
    assert code.question == "from util import add\nprint(\nNext line of code:"
    # "    add(1, 2))" against "    add(1, 3))": 14 characters each, one changed: two edits of 28.
    assert find.score("    add(1, 3))\nmore()", code.asked[0]) == pytest.approx(1 - 2 / 28)


def test_even_lengths_fall_into_buckets_by_words(sets):
    assert [s.metadata["bucket"] for s in sets.samples("longbench.hotpotqa_e")] == ["0-4k", "4-8k", "8k+"]
