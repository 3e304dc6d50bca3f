"""`longcite`: the answer first, then chunks for each statement, then sentences."""

from __future__ import annotations

import re

import pytest

from baywindow.context.ask import ask
from baywindow.context.read.longcite import CHUNKS_SYSTEM, SENTENCES_SYSTEM, Longcite
from baywindow.context.reply import ANSWER, NOT_FOUND
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

TEXT = (
    "The harbour was built in 1902. It held forty boats. "
    "A storm came in 1987. The pier broke in that storm. Nobody was hurt. "
    "The town built a new pier of steel. It stands to this day."
)


@pytest.fixture
def harbour(corpus):
    return corpus(harbour=TEXT)


def answering(answer: str, statements: str, ranges):
    """A script by role; ``ranges`` is asked with the numbered sentences and the statement."""

    def reply(prompt) -> str:
        system, text = prompt[0].content, prompt[-1].content
        if system.startswith(ANSWER.rules):
            return answer
        if system == CHUNKS_SYSTEM:
            return statements
        assert system == SENTENCES_SYSTEM
        numbered = {said: int(n) for n, said in re.findall(r"<(\d+)> (.+)", text)}
        return ranges(numbered, text.rpartition("Statement: ")[2])

    return reply


def sentence(numbered: dict[str, int], words: str) -> int:
    return next(n for said, n in numbered.items() if words in said)


def test_marks_lead_to_the_sentences_that_were_named(harbour, scripted):
    def ranges(numbered, statement):
        return str(sentence(numbered, "pier broke")) if "broke" in statement else f"{sentence(numbered, 'new pier')}"

    model = scripted(
        answering("The pier broke in a storm. A steel one was built.", "The pier broke in a storm. [1]\nA steel one was built. [1]", ranges)
    )
    run = Run("What happened to the pier?", harbour, model)
    text = Longcite().read(run, None)
    said = re.findall(r"(\S[^\[]+) \[(\d+)\]", text)
    assert [(s.strip(), run.numbered[int(n)].text) for s, n in said] == [
        ("The pier broke in a storm.", "The pier broke in that storm."),
        ("A steel one was built.", "The town built a new pier of steel."),
    ]
    for p in run.numbered.values():
        assert harbour.excerpt(p.source, p.start, p.end) == p.text


def test_a_range_becomes_one_span_and_none_becomes_no_citation(harbour, scripted):
    def ranges(numbered, statement):
        first = sentence(numbered, "A storm came")
        return f"<{first}>-<{first + 1}>" if "storm" in statement else "none"

    model = scripted(answering("A storm broke the pier. All were sad.", "A storm broke the pier. [1]\nAll were sad. [1]", ranges))
    run = Run("What broke the pier?", harbour, model)
    text = Longcite().read(run, None)
    n = int(re.fullmatch(r"A storm broke the pier\. \[(\d+)\] All were sad\.", text)[1])
    assert run.numbered[n].text == "A storm came in 1987. The pier broke in that storm."


def test_at_most_so_many_ranges(harbour, scripted):
    model = scripted(answering("It is a harbour of 1902.", "It is a harbour of 1902. [1]", lambda numbered, s: "1, 3, 5, 7"))
    text = Longcite(ranges=2).read(Run("q", harbour, model), None)
    assert text.count("[") == 2


def test_sentences_come_from_the_named_chunks_and_their_neighbours_only(corpus, scripted):
    lines = [f"Fact {i} is about number {i} and it is told at some length so that it fills a chunk of its own here." for i in range(9)]
    seen: list[str] = []

    def ranges(numbered, statement):
        seen.extend(numbered)
        return "none"

    def statements(prompt):
        n = next(n for n, text in re.findall(r"<passage \[(\d+)\][^>]*>\n(.+)\n", prompt[-1].content) if text.startswith("Fact 4 "))
        return f"Fact 4 is about number 4. [{n}]"

    model = scripted(lambda p: statements(p) if p[0].content == CHUNKS_SYSTEM else answering("Fact 4 is about number 4.", "", ranges)(p))
    Longcite(chunk_tokens=32).read(Run("q", corpus(facts="\n".join(lines)), model), None)
    assert [re.match(r"Fact (\d)", s)[1] for s in seen] == ["3", "4", "5"]


def test_without_usable_statements_the_answer_keeps_its_own_marks(harbour, scripted):
    model = scripted(answering("It broke in 1987. [1]", "no statements here", lambda n, s: "1"))
    run = Run("q", harbour, model)
    assert Longcite().read(run, None) == "It broke in 1987. [1]"
    assert run.numbered[1].text == TEXT


def test_a_decline_ends_it_with_one_call(harbour, scripted):
    model = scripted(answering(NOT_FOUND, "", lambda n, s: ""))
    assert Longcite().read(Run("Who?", harbour, model), None) == NOT_FOUND
    assert len(model.prompts) == 1


def test_calls_are_capped(harbour, scripted):
    model = scripted(answering("It broke in 1987.", "It broke in 1987. [1]", lambda n, s: "1"))
    run = Run("q", harbour, model)
    assert Longcite(max_calls=2).read(run, None).startswith("It broke in 1987. [")
    assert len(model.prompts) == 2
    assert any("max_calls=2" in note for note in run.notes)


def test_the_claim_in_miniature_cited_spans_are_shorter_than_in_one_pass(scripted):
    ranges = lambda numbered, s: str(sentence(numbered, "pier broke"))  # noqa: E731
    script = answering("The pier broke in a storm. [1]", "The pier broke in a storm. [1]", ranges)
    document = Document(text=TEXT, source="harbour.txt")
    fine = ask("What broke?", [document], recipe="longcite", model=scripted(script))
    assert [c.quote for c in fine.citations] == ["The pier broke in that storm."]
    assert all(c.verified for c in fine.citations)
    assert fine.citations[0].start == TEXT.index("The pier broke")


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="chunk_tokens"):
        Longcite(chunk_tokens=2)
