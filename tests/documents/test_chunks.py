"""Spans are exact, nothing but white space is lost, and no chunk is larger than it may be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from baywindow.documents.base import Mark
from baywindow.documents.chunks import Chunker, Cutter, chunker_for
from baywindow.documents.extract.base import Block
from baywindow.errors import ConfigError


def words_tokenizer() -> str:
    """One token a word or mark: a tokenizer whose counts can be checked by hand."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str()


WORDS = words_tokenizer()
PIECES = ["the cat sat. ", "the cat sat. ", "# Title\n\n", "ünï😀 ", "\n\n", "\t", "a,b,c\r\n", "```\ncode\n```\n", "\u2028", "x" * 90, " "]
TEXTS = st.one_of(st.text(max_size=300), st.lists(st.sampled_from(PIECES), max_size=60).map("".join))


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, tokens=st.integers(8, 40), form=st.sampled_from(["text", "markdown"]), exact=st.booleans())
def test_spans_are_in_order_and_lose_only_white_space(text: str, tokens: int, form: str, exact: bool) -> None:
    spans = Chunker(tokens, WORDS if exact else None).spans(text, form)  # type: ignore[arg-type]
    at = 0
    for start, end in spans:
        assert at <= start < end <= len(text)
        assert not text[at:start].strip()
        assert text[start:end].strip()
        at = end
    assert not text[at:].strip()


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, tokens=st.integers(8, 40))
def test_no_chunk_has_more_tokens_than_asked_for(text: str, tokens: int) -> None:
    counter = Tokenizer.from_str(WORDS)
    for start, end in Chunker(tokens, WORDS).spans(text):
        assert len(counter.encode(text[start:end]).ids) <= tokens


@settings(max_examples=100, deadline=None)
@given(blocks=st.lists(TEXTS, max_size=4))
def test_leads_and_tail_put_the_document_together_again(blocks: list[str]) -> None:
    cutter = Cutter(Chunker(12, WORDS), "text")
    chunks = list(cutter.chunks([Block(text) for text in blocks]))
    text = "".join(blocks)
    assert "".join(c.lead + c.text for c in chunks) + cutter.tail == text
    assert cutter.characters == len(text)
    for c in chunks:
        assert text[c.start : c.end] == c.text
        assert c.line == 1 + text[: c.start].count("\n")


def test_repeated_text_keeps_its_own_place() -> None:
    # Twelve equal sentences of four tokens; chunks of at most eight hold one or two, and together hold each exactly once.
    text = "One two three. " * 12
    chunker = Chunker(8, WORDS)
    spans = chunker.spans(text)
    assert len({start for start, _ in spans}) == len(spans) >= 6
    assert sum(text[a:b].count("One") for a, b in spans) == 12


def test_a_text_within_the_limit_stays_whole() -> None:
    assert Chunker(8, WORDS).spans("  one two\nthree  ") == [(2, 15)]


def test_a_page_and_a_label_come_from_the_mark_before() -> None:
    cutter = Cutter(Chunker(8, WORDS), "text", paged=True)
    blocks = [Block("first page\n\n", (Mark(0, page=1),)), Block("second\n", (Mark(12, page=2),))]
    assert [(c.text, c.page, c.line, c.start) for c in cutter.chunks(blocks)] == [("first page", 1, None, 0), ("second", 2, None, 12)]
    labelled = Cutter(Chunker(8, WORDS), "markdown")
    marks = (Mark(0, label="A"), Mark(40, label="B"))
    text = "# A\n\nseven words are in this very line.\n# B\n\nand seven more words are in this."
    assert [c.label for c in labelled.chunks([Block(text, (marks[0], Mark(text.index("# B"), label="B")))])][-1] == "B"


def test_a_mark_in_white_space_counts_for_the_next_block() -> None:
    cutter = Cutter(Chunker(8, WORDS), "text", paged=True)
    blocks = [Block("one\n", (Mark(0, page=1),)), Block("\n\n", (Mark(4, page=2),)), Block("three", (Mark(6, page=3),))]
    assert [(c.text, c.page) for c in cutter.chunks(blocks)] == [("one", 1), ("three", 3)]


def test_sizes_follow_the_embedder() -> None:
    class Small:
        max_tokens = 20
        tokenizer_json = WORDS

    assert chunker_for(Small(), 256).max_tokens == 18
    assert not chunker_for(Small(), 256).estimated
    assert chunker_for(None, 256).estimated


def test_a_limit_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="chunk_tokens"):
        Chunker(4)
