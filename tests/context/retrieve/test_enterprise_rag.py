"""`enterprise_rag`: rows under their header, names that must occur, and what a prose-only search misses."""

from __future__ import annotations

import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from baywindow.context.condensed import Condensed, cited
from baywindow.context.retrieve import hybrid
from baywindow.context.retrieve.enterprise_rag import EnterpriseRag, entities_of, fused, named, quantised, rows_of
from baywindow.documents.base import Document, Passage
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError
from baywindow.models.base import Embedder

TABLE = "| Site | Manager | Budget |\n| --- | --- | --- |\n| Arden | Ida Holm | 4100 |\n| Bergen | Osric Vale | 5200 |"
REPORT = f"The sites had a calm year.\n\n{TABLE}\n\nNothing else is known."


class Words(Embedder):
    name, dim, max_tokens = "words", 512, 100

    def embed(self, texts, kind="passage"):
        found = np.full((len(texts), self.dim), 1e-4, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.lower().replace("|", " ").replace("?", "").split():
                row[zlib.crc32(word.encode()) % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def corpus_of(**texts: str) -> InMemory:
    return InMemory([Document(text, f"{name}.md") for name, text in texts.items()], embedder=Words())


def whole(text: str, source: str = "r.md") -> Passage:
    return Passage(text=text, source=source, start=0, end=len(text), line=1)


def test_rows_stand_under_their_header_and_are_cited_by_themselves() -> None:
    corpus = corpus_of(r=REPORT)
    found = rows_of(corpus, whole(REPORT))
    header = "| Site | Manager | Budget |"
    assert [p.text for p in found] == [
        "The sites had a calm year.",
        f"{header}\n| Arden | Ida Holm | 4100 |",
        f"{header}\n| Bergen | Osric Vale | 5200 |",
        "Nothing else is known.",
    ]
    for p in found:
        origin = cited(p)
        assert corpus.excerpt(origin.source, origin.start, origin.end) == origin.text
        assert origin.line == 1 + REPORT[: origin.start].count("\n")
    assert isinstance(found[2], Condensed)
    assert cited(found[2]).text == "| Bergen | Osric Vale | 5200 |"


def test_a_table_that_began_in_an_earlier_passage_keeps_its_header() -> None:
    corpus = corpus_of(r=REPORT)
    start = REPORT.index("| Bergen")
    row = Passage(text="| Bergen | Osric Vale | 5200 |", source="r.md", start=start, end=start + 30, line=6)
    (found,) = rows_of(corpus, row)
    assert found.text == "| Site | Manager | Budget |\n| Bergen | Osric Vale | 5200 |"
    csv = InMemory([Document("a,b\n1,2\n3,4\n", "t.csv")], embedder=Words())
    (found,) = rows_of(csv, Passage(text="3,4", source="t.csv", start=8, end=11, line=3))
    assert found.text == "a,b\n3,4"


def test_prose_is_left_alone() -> None:
    text = "Either a | b or not.\nNo table here."
    assert rows_of(corpus_of(r=text), whole(text)) == [whole(text)]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the budget of Bergen?", ["bergen"]),
        ("Who signed contract AB-1200 for Ida Holm?", ["ab-1200", "ida holm"]),
        ('Where is "blue room" used?', ["blue room"]),
        ("Which sites were calm?", []),
    ],
)
def test_entities(question, expected) -> None:
    assert entities_of(question) == expected


def test_the_filter_keeps_whole_names_and_falls_back() -> None:
    some = [whole("In Bergen."), whole("Bergenfield."), whole("bergen again"), whole("nothing")]
    assert named(some, ["bergen"], 2) == [some[0], some[2]]
    assert named(some, ["bergen"], 3) == some
    assert named(some, [], 1) == some


def test_fusion_worked_example() -> None:
    # BM25 10 and 5 become 1 and 0.5, cosines 0.2 and 0.6 become 1.2/1.6 and 1: 0.25 + 0.5625 and 0.125 + 0.75.
    mixed = fused(np.array([10, 5], dtype=np.float32), np.array([0.2, 0.6], dtype=np.float32), 0.75)
    np.testing.assert_allclose(mixed, [0.8125, 0.875], rtol=1e-6)


def test_eight_bits_keep_the_order() -> None:
    # 1.27 is the largest: one step is 0.01, and 0.004 is rounded away.
    np.testing.assert_allclose(quantised(np.array([[1.27, -0.504, 0.004]], dtype=np.float32)), [[1.27, -0.5, 0.0]], atol=1e-6)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 64)).astype(np.float32)
    assert np.abs(quantised(x) - x).max() <= np.abs(x).max() / 127 / 2 + 1e-6
    assert not quantised(np.zeros((1, 3), dtype=np.float32)).any()


def test_a_row_of_a_long_table_is_found(monkeypatch) -> None:
    """The paper's claim in miniature: the row is one of 60, and the passages that hold it are mostly about others."""
    rows = "\n".join(f"| Site{n} | Manager{n} | {1000 + n} |" for n in range(60))
    corpus = InMemory([Document(f"# Sites\n\n| Site | Manager | Budget |\n| --- | --- | --- |\n{rows}\n", "t.md")], embedder=Words())
    run = SimpleNamespace(corpus=corpus, note=lambda text: None)
    found = EnterpriseRag(k=1).retrieve(run, "What is the budget of Site41?", None)
    assert found[0].text == "| Site | Manager | Budget |\n| Site41 | Manager41 | 1041 |"
    plain = corpus.vectors("What is the budget of Site41?", 1)
    assert "Site41" not in plain[0].text  # the vector of a passage of many rows is near none of them

    asked: list[int] = []

    class Longest:
        def score(self, query, texts):
            asked.append(len(texts))
            return np.array([len(t) for t in texts], dtype=np.float32)

    monkeypatch.setattr(hybrid, "_reranker", lambda name: Longest())
    found = EnterpriseRag(k=3, rerank="any", depth=10, entities=False).retrieve(run, "budget", None)
    assert asked == [10]
    assert [len(p.text) for p in found] == sorted((len(p.text) for p in found), reverse=True)


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("depth", 0), ("least_hits", 0), ("alpha", 2.0)])
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        EnterpriseRag(**{field: value})
