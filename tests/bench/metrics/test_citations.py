"""Citation recall, precision and F1, and ALCE's scores of what is said."""

from __future__ import annotations

import pytest

from baywindow.bench.base import Sample, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.entailment import Entailment, JudgedEntailment
from baywindow.bench.judge import Judge
from baywindow.bench.metrics import alce, citations
from baywindow.bench.metrics._sentences import citations as numbers
from baywindow.bench.metrics._sentences import sentences, without_citations
from baywindow.bench.metrics.coverage import coverage_of, information_coverage
from baywindow.bench.referees import refereeing
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

PASSAGES = ["Foxes are red.", "Foxes run fast.", "Dogs bark.", "Cats sleep."]


class Words(Entailment):
    """A text entails a claim if it has all of the claim's words. Keeps what it was asked."""

    name = "words"

    def __init__(self):
        self.asked = []

    def entails(self, premise, claim):
        self.asked.append((premise, claim))
        plain = lambda text: set(text.lower().replace(".", " ").split())  # noqa: E731
        return plain(claim) <= plain(premise)


def turn(**metadata):
    return Turn(question="What are foxes?", gold=("red",), scorer="citation_f1", metadata={"passages": PASSAGES, **metadata})


# -- worked examples ------------------------------------------------------------------------------------------------------------------


def test_recall_precision_and_f1_of_a_worked_example():
    reply = "Foxes are red [1][3]. Foxes red fast [1][2]. Dogs fly [3]. Cats sleep."
    # 1: entailed; [1] alone entails, useful; [3] alone does not and [1] still does, useless.
    # 2: needs both: neither alone entails, and neither can be left out: both useful.
    # 3: not entailed; its citation counts in the denominator. 4: cites nothing.
    # Recall 2/4; precision 3/5; F1 = 2 * 0.3 / 1.1.
    found = citations.cited(sentences(reply), PASSAGES, Words())
    assert (found.recall, found.precision) == (0.5, pytest.approx(0.6))
    assert found.f1 == pytest.approx(6 / 11)
    assert (found.statements, found.citations) == (4, 5)


def test_the_scorers_are_the_three_figures():
    reply = "Foxes are red [1][3]. Cats sleep."
    with refereeing(entailment=Words()):
        assert citations.citation_recall(reply, turn()) == 0.5
        assert citations.citation_precision(reply, turn()) == 0.5
        assert citations.citation_f1(reply, turn()) == 0.5


def test_out_of_range_citations_support_nothing_and_zero_is_out_of_range():
    for reply in ("Foxes are red [9].", "Foxes are red [0]."):
        found = citations.cited([reply], PASSAGES, Words())
        assert (found.recall, found.citations) == (0.0, 0)


def test_at_most_three_citations_of_a_sentence_count():
    asked = Words()
    found = citations.cited(["Cats sleep [1][2][3][4]."], PASSAGES, asked)
    assert (found.recall, found.citations) == (0.0, 3)
    assert asked.asked[0][0] == "\n".join(PASSAGES[:3])


def test_a_passage_cited_twice_in_a_sentence_counts_once():
    assert citations.cited(["Foxes are red [1][1]."], PASSAGES, Words()).citations == 1


def test_items_of_a_list_are_put_behind_the_question():
    asked = Words()
    with refereeing(entailment=asked):
        citations.citation_recall("Red [1], quick [2].", turn(items=True, question="What are foxes?"))
    assert [claim for _, claim in asked.asked] == ["What are foxes? Red", "What are foxes? quick"]


def test_known_gold_passages_need_no_entailment():
    # Cited 2 and 3, gold 2: precision 1/2, recall 1, F1 2/3 (L-CiteEval's needle: precision one over the number cited).
    assert citations.citation_gold_f1("It is red [2][3].", turn(gold_passages=[2])) == pytest.approx(2 / 3)
    assert citations.citation_gold_f1("It is red [3].", turn(gold_passages=[2])) == 0.0


def test_no_statements_and_no_citations_score_0():
    assert citations.cited([], PASSAGES, Words()).f1 == 0.0
    assert citations.cited(["Foxes are red."], PASSAGES, Words()).f1 == 0.0


def test_without_entailment_the_error_says_what_would_help():
    with pytest.raises(ConfigError, match="--nli MODEL"):
        citations.citation_f1("Foxes are red [1].", turn())


# -- sentences ------------------------------------------------------------------------------------------------------------------------


def test_a_citation_after_the_full_stop_belongs_to_the_sentence_before():
    assert sentences("Foxes are red. [1] Foxes run [2]. End") == ["Foxes are red. [1]", "Foxes run [2].", "End"]


def test_sentences_end_where_they_end():
    text = 'Dr. Fox met J. Smith at 3.5 km, e.g. in Oslo. "Go!" he said.\nNext line\n狐狸是红的。狗叫！'
    assert sentences(text) == ["Dr. Fox met J. Smith at 3.5 km, e.g. in Oslo.", '"Go!"', "he said.", "Next line", "狐狸是红的。", "狗叫！"]


def test_citations_are_read_in_all_their_forms_and_taken_out():
    assert numbers("red [1][3], or [2, 4; 1] and [5") == [1, 3, 2, 4, 5]
    assert without_citations("Foxes are red [1][3]. Or not [2, 4].") == "Foxes are red. Or not."


# -- ALCE's other scores --------------------------------------------------------------------------------------------------------------


def test_short_answers_are_looked_for_in_the_first_line_without_citations():
    asked = turn(aliases=[["red", "crimson"], ["fast"], ["shy"]])
    # red by an alias, fast; shy stands in the second line only.
    assert alce.alce_str_em("They are Crimson [1] and fast [2].\nAnd shy.", asked) == pytest.approx(2 / 3)


def test_five_answers_found_are_enough_for_recall_and_precision_counts_all_items():
    asked = turn(aliases=[[c] for c in "bcdefgh"])
    assert alce.alce_list_recall5("b [1], c [1], d [2], e, f, z", asked) == 1.0
    assert alce.alce_list_recall5("b [1], z", asked) == pytest.approx(1 / 5)
    assert alce.alce_list_precision("b [1], z.", asked) == 0.5


def test_claims_that_the_reply_entails():
    with refereeing(entailment=Words()):
        assert alce.alce_claims("Foxes are red and fast [1].", turn(claims=["Foxes are red", "Dogs bark"])) == 0.5


# -- entailment by a judge, coverage --------------------------------------------------------------------------------------------------


def test_a_judge_tests_entailment(scripted):
    model = scripted(["yes", "no"])
    test = JudgedEntailment(Judge(model))
    assert test.entails("Foxes are red.", "red") is True
    assert test.entails("Foxes are red.", "blue") is False
    assert test.entails(" ", "red") is False  # nobody is asked
    assert len(model.prompts) == 2
    assert test.name == "judge:scripted"


def test_information_coverage_is_the_share_of_chunks_needed(scripted):
    text = "Foxes are red. Foxes are quick.\n\nDogs bark. Dogs are loud.\n\nCats sleep. Cats are mild."
    model = scripted(lambda prompt: "yes" if "Foxes" in prompt[-1].content.split('"text"')[1] else "no")
    counter = TokenCounter(lambda t: len(t.split()), "words")
    found = information_coverage(text, "What is said of foxes?", Judge(model), counter, chunk_tokens=6)
    chunks = [text[a:b] for a, b in found.spans]
    assert chunks == [
        "Foxes are red. Foxes are quick.",
        "Dogs bark. Dogs are loud.",
        "Cats sleep. Cats are mild.",
    ]
    assert found.needed == (True, False, False)
    assert found.share == pytest.approx(1 / 3)
    sample = Sample(id="s", documents=(Document(text, "s"),), question="Foxes?", gold=(), scorer="x")
    assert coverage_of(sample, Judge(model), counter).share == 1.0  # all three fit one chunk of 512 tokens


def test_an_empty_context_has_no_coverage(scripted):
    with pytest.raises(ConfigError, match="empty context"):
        information_coverage("", "q", Judge(scripted([])), TokenCounter(len, "characters"))
