"""Both corpora answer the same calls in the same way: in memory and stored."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from baywindow.documents.base import Corpus, Document, Mark
from baywindow.documents.index import Index
from baywindow.documents.memory import InMemory
from baywindow.documents.sources import open_corpus
from baywindow.errors import MissingExtraError, SourceError

TEXTS = {
    "b/roses.md": "# Roses\n\nRoses are watered on Friday.\n\n\n## Soil\n\nThey like heavy soil.  \n\n",
    "a.txt": "  \nThe fence was painted green.\nThe roof was mended in 1987.\n" + "Filler words stand here.\n" * 60,
    "c.txt": "Beans are sown in May.",
}


@pytest.fixture(params=["memory", "stored"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder) -> Corpus:
    if request.param == "memory":
        return InMemory([Document(text, source) for source, text in TEXTS.items()], chunk_tokens=32, embedder=embedder)
    for source, text in TEXTS.items():
        (tmp_path / source).parent.mkdir(exist_ok=True)
        (tmp_path / source).write_bytes(text.encode())
    monkeypatch.chdir(tmp_path)
    index = Index(embedder=embedder, chunk_tokens=32)
    index.update(["a.txt", "b", "c.txt"])
    return index


def test_passages_are_exact_spans_in_reading_order(corpus: Corpus) -> None:
    found = list(corpus.passages())
    assert [p.source for p in found] == sorted(p.source for p in found)
    assert {p.source for p in found} == set(TEXTS)
    for p in found:
        assert TEXTS[p.source][p.start : p.end] == p.text == corpus.excerpt(p.source, p.start, p.end)
        assert p.line == 1 + TEXTS[p.source][: p.start].count("\n")
        assert p.page is None
    assert corpus.characters == sum(map(len, TEXTS.values()))


def test_excerpts_hold_the_white_space_too(corpus: Corpus) -> None:
    for source, text in TEXTS.items():
        for start in range(0, len(text), 41):
            for end in (start, start + 1, start + 40, len(text), len(text) + 9):
                assert corpus.excerpt(source, start, end) == text[start:end]
    with pytest.raises(SourceError, match="nowhere"):
        corpus.excerpt("nowhere.txt", 0, 1)


def test_full_text_finds_stems_and_only_shared_words(corpus: Corpus) -> None:
    assert corpus.full_text("who waters the rose?", 3)[0].source == "b/roses.md"
    assert corpus.full_text("mend roofs", 3)[0].source == "a.txt"
    assert corpus.full_text("zeppelin", 3) == []
    assert corpus.full_text("what is it?", 3) == []
    assert len(corpus.full_text("filler words", 2)) == 2


def test_vectors_rank_by_cosine(corpus: Corpus) -> None:
    found = corpus.vectors("beans sown", 4)
    assert found[0].source == "c.txt"
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    vectors = corpus.embeddings(found)
    assert np.allclose(vectors @ corpus.embed_query("beans sown"), [p.score for p in found], atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(corpus.vectors("x", 1000)) == len(list(corpus.passages()))


def test_labels_are_headings(corpus: Corpus) -> None:
    found = next(p for p in corpus.passages() if "heavy soil" in p.text)
    assert found.label in ("Roses", "Soil")  # the chunk's first character decides


def test_documents_of_one_name_are_refused() -> None:
    with pytest.raises(SourceError, match="two documents"):
        InMemory([Document("a", "x"), Document("b", "x")])


def test_documents_with_pages_have_pages(embedder) -> None:
    text = "first page here\n\nsecond page there"
    corpus = InMemory([Document(text, "a.pdf", (Mark(0, page=1), Mark(17, page=2)))], embedder=embedder)
    assert [(p.page, p.line, p.text) for p in corpus.passages()] == [(1, None, "first page here"), (2, None, "second page there")]


def test_without_an_embedder_there_is_full_text_only() -> None:
    corpus = InMemory([Document("a rose", "x")])
    assert corpus.full_text("rose", 1)[0].source == "x"
    with pytest.raises(MissingExtraError):
        corpus.vectors("rose", 1)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, embedder) -> None:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    pipe("+ the fence is grün".encode())
    (tmp_path / "a.txt").write_text("The roof.")
    corpus = open_corpus(["-", str(tmp_path)], embedder=embedder)
    assert isinstance(corpus, InMemory)
    assert corpus.full_text("fence", 1)[0].source == "-"
    assert corpus.full_text("roof", 1)[0].text == "The roof."
    pipe(b"")
    with pytest.raises(SourceError, match="no text in -"):
        open_corpus("-", embedder=embedder)
    pipe(b"\0\1\2")
    with pytest.raises(SourceError, match="binary"):
        open_corpus("-", embedder=embedder)


def test_sources_that_are_corpora_pass_through(embedder) -> None:
    corpus = InMemory([Document("a", "x")], embedder=embedder)
    assert open_corpus(corpus) is corpus
    assert next(open_corpus(Document("a rose", "y"), embedder=embedder).passages()).source == "y"
    with pytest.raises(SourceError, match="no sources"):
        open_corpus([])
