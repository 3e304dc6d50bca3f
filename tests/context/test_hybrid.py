"""`hybrid`: fusion by scores and by ranks, reranking and diversity, each against numbers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from baywindow.context.retrieve import hybrid
from baywindow.context.retrieve.hybrid import Hybrid, fused_by_rank, fused_by_score, mmr_order
from baywindow.documents.base import Document, Hits, Passage, hits_of
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError
from baywindow.models.base import Embedder


def p(name: str, score: float = 0.0) -> Passage:
    return Passage(text=name, source=name, start=0, end=len(name), line=1, score=score)


def hits(*passages: Passage) -> Hits:
    return hits_of(list(passages))


def named(found: Hits) -> list[tuple[str, float]]:
    return [(place.source, score) for place, score in found if isinstance(place, Passage)]


class Letters(Embedder):
    """Counts letters: similar spellings are near."""

    name, dim, max_tokens = "letters", 26, 100

    def embed(self, texts, kind="passage"):
        found = np.array([[text.lower().count(chr(97 + n)) + 1e-3 for n in range(26)] for text in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


TEXTS = ["the oak tree stands", "an oak by the river", "tea and trees", "notes on rivers", "rust"]


@pytest.fixture
def run() -> SimpleNamespace:
    return SimpleNamespace(corpus=InMemory([Document(t, f"s{n}") for n, t in enumerate(TEXTS)], embedder=Letters()))


def test_scores_worked_example() -> None:
    # BM25 10 and 5 become 1 and 0.5. Cosines 0.6 and 0.2 become 1.6/1.6 = 1 and 1.2/1.6 = 0.75. With alpha 0.75:
    # a: words 1, no vector: as similar as the last, 0.75 -> 0.25 + 0.5625; b: 0.125 + 0.75; c: no words, 0.75 -> 0.5625.
    found = fused_by_score(hits(p("a", 10), p("b", 5)), hits(p("b", 0.6), p("c", 0.2)), 0.75)
    assert named(found) == [("b", pytest.approx(0.875)), ("a", pytest.approx(0.8125)), ("c", pytest.approx(0.5625))]


def test_ranks_worked_example() -> None:
    # k = 2. a: 1/3; b: 1/4 + 1/3 = 7/12; c: 1/4.
    found = fused_by_rank([hits(p("a"), p("b")), hits(p("b"), p("c"))], 2)
    assert named(found) == [("b", pytest.approx(7 / 12)), ("a", pytest.approx(1 / 3)), ("c", pytest.approx(1 / 4))]


def test_one_empty_list_leaves_the_other_in_its_order() -> None:
    ranked = hits(p("a", 3), p("b", 2), p("c", 1))
    assert [source for source, _ in named(fused_by_score(ranked, [], 0.8))] == ["a", "b", "c"]
    assert [source for source, _ in named(fused_by_score([], ranked, 0.8))] == ["a", "b", "c"]
    assert fused_by_score([], [], 0.8) == fused_by_rank([[], []], 60) == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ranks_equal_a_slow_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"d{n}" for n in range(12)]
    lists = [[names[i] for i in rng.permutation(12)[:8]] for _ in range(3)]
    expected = {n: sum(1 / (60 + ranking.index(n) + 1) for ranking in lists if n in ranking) for n in set().union(*lists)}
    found = named(fused_by_rank([hits(*(p(n) for n in ranking)) for ranking in lists], 60))
    assert dict(found) == pytest.approx(expected)
    assert [score for _, score in found] == sorted(expected.values(), reverse=True)


def test_what_both_lists_like_comes_first_where_one_alone_fails() -> None:
    # "gold" is second in both lists; each list's own first is nowhere in the other.
    words = hits(p("w", 9), p("gold", 8), p("x", 1))
    meaning = hits(p("v", 0.9), p("gold", 0.85), p("y", 0.1))
    assert named(fused_by_score(words, meaning, 0.5))[0][0] == "gold"
    assert named(fused_by_rank([words, meaning], 60))[0][0] == "gold"


def test_alpha_at_its_ends_is_one_of_the_parts(run: SimpleNamespace) -> None:
    corpus = run.corpus
    asked = "oak tree"
    assert Hybrid(alpha=1.0, k=5).retrieve(run, asked, None)[0].key == corpus.vectors(asked, 1)[0].key
    assert Hybrid(alpha=0.0, k=5).retrieve(run, asked, None)[0].key == corpus.full_text(asked, 1)[0].key


@pytest.mark.parametrize("fuse", ["scores", "ranks"])
def test_narrowing_equals_searching_when_everything_is_given(run: SimpleNamespace, fuse) -> None:
    whole = Hybrid(k=3, fuse=fuse).retrieve(run, "oak tree", list(run.corpus.passages()))
    assert whole[0].text == Hybrid(k=3, fuse=fuse).retrieve(run, "oak tree", None)[0].text
    given = [x for x in run.corpus.passages() if x.source in ("s3", "s4")]
    assert {x.source for x in Hybrid(k=9, fuse=fuse).retrieve(run, "oak tree", given)} == {"s3", "s4"}


def test_mmr_worked_example() -> None:
    # Two equal vectors and one across: after the first of the pair its twin is worth 0.5*0.9 - 0.5*1 = -0.05, the other 0.5*0.1 - 0 = 0.05.
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    relevance = np.array([0.9, 0.9, 0.1], dtype=np.float32)
    assert mmr_order(vectors, relevance, 3, 0.5) == [0, 2, 1]
    assert mmr_order(vectors, relevance, 3, 1.0) == [0, 1, 2]
    assert mmr_order(vectors, relevance, 1, 0.5) == [0]


def test_mmr_and_rerank_are_options(run: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(Hybrid(k=3, mmr_lambda=0.5).retrieve(run, "oak", None)) == 3
    asked: list[str] = []

    class ByLength:
        def score(self, query, texts):
            asked.append(query)
            return np.array([len(t) for t in texts], dtype=np.float32)

    monkeypatch.setattr(hybrid, "_reranker", lambda name: ByLength())
    found = Hybrid(k=5, rerank="any").retrieve(run, "oak", None)
    assert [len(x.text) for x in found] == sorted((len(x.text) for x in found), reverse=True)
    assert asked == ["oak"]


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("depth", 0), ("rrf_k", -1), ("alpha", 1.1), ("mmr_lambda", -0.1), ("fuse", "sum")])
def test_options_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Hybrid(**{field: value})  # type: ignore[arg-type]
