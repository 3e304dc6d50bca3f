"""`corag`: sets, not single passages; the search against every list there is."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from baywindow.budget import Meter
from baywindow.context.retrieve.corag import Corag
from baywindow.context.retrieve.corag import scores as scoring
from baywindow.context.retrieve.corag.scores import RerankedScores, SetScores, VectorScores
from baywindow.context.retrieve.corag.search import Search
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError


def unit(rows) -> np.ndarray:
    made = np.array(rows, dtype=np.float32)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


def test_vector_scores_worked_example() -> None:
    # Question (1,1)/√2; a = (1,0), b = (0,1), c = a again. a alone: 1/√2; a+b: exactly the question, 1; a+c: still 1/√2.
    vectors, question = unit([[1, 0], [0, 1], [1, 0]]), unit([1, 1])
    found = VectorScores(vectors, question)
    np.testing.assert_allclose(found.with_one_more((), np.array([0, 1, 2])), [0.70711] * 3, atol=1e-4)
    np.testing.assert_allclose(found.with_one_more((0,), np.array([1, 2])), [1.0, 0.70711], atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("budget", [2, 5, 9])
def test_the_search_finds_the_best_of_all_lists(seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, question = unit(rng.normal(size=(5, 4))), unit(rng.normal(size=4))
    costs = rng.integers(1, 4, size=5).tolist()
    best = -np.inf
    for size in range(1, 6):
        for chosen in permutations(range(5), size):
            if sum(costs[i] for i in chosen) <= budget:
                best = max(best, float(unit(vectors[list(chosen)].sum(0)) @ question))
    search = Search(VectorScores(vectors, question), costs, budget, 5, 1.41, 0.1)
    search.run(500)
    assert search.best_score == pytest.approx(best, abs=1e-5)
    assert sum(costs[i] for i in search.best) <= budget
    assert len(set(search.best)) == len(search.best)


def test_rewards_and_visits_are_backed_up_in_batches() -> None:
    """Worked example. Two candidates worth 0.6 and 0.2 alone, 0.5 and 0.4 as (0, 1) and (1, 0); C and λ are 0."""

    class Fixed(SetScores):
        def with_one_more(self, chosen, added):
            worth = {(0,): 0.6, (1,): 0.2, (0, 1): 0.5, (1, 0): 0.4}
            return np.array([worth[(*chosen, int(i))] for i in added], dtype=np.float32)

    search = Search(Fixed(), [1, 1], 10, 5, 0.0, 0.0)
    root = search._root
    search.run(1)
    assert (root.rewards.round(4).tolist(), root.counts.tolist(), root.visits) == ([0.6, 0.2], [1, 1], 2)
    search.run(1)  # to 0, whose one child is worth 0.5: mean (0.6 + 0.5) / 2
    assert (root.rewards.round(4).tolist(), root.counts.tolist(), root.visits) == ([1.1, 0.2], [2, 1], 3)
    assert search.best == (0,)
    search.run(1)  # (0, 1) is full: visited again with its own 0.5
    assert root.rewards.round(4).tolist() == [1.6, 0.2]
    assert root.children[0].counts.tolist() == [2]


def test_it_chooses_sets_that_are_smaller_and_less_redundant() -> None:
    """The paper's claim in miniature: three copies of one half of the answer, one of the other half."""
    vectors, question = unit([[1, 0.05, 0], [1, 0.04, 0], [1, 0.03, 0], [0.1, 1, 0], [0, 0, 1]]), unit([1, 0.8, 0])
    search = Search(VectorScores(vectors, question), [5] * 5, 15, 5, 1.41, 0.1)
    search.run(200)
    assert sorted(search.best)[-1] == 3
    assert len(search.best) == 2
    one_by_one = np.argsort(-(vectors @ question))[:3]
    assert unit(vectors[list(search.best)].sum(0)) @ question > unit(vectors[one_by_one].sum(0)) @ question


def test_retrieve_orders_and_pays_in_the_models_tokens(scripted) -> None:
    texts = ["one two three", "four five", "six"]
    passages = [Passage(text=t, source=f"s{i}", start=0, end=len(t), line=1) for i, t in enumerate(texts)]
    corpus = SimpleNamespace(embeddings=lambda ps: unit([[1, 0], [0.9, 0.1], [0, 1]]), embed_query=lambda q: unit([1, 0.6]))
    notes: list[str] = []
    run = SimpleNamespace(corpus=corpus, model=scripted([]), meter=Meter(), note=notes.append)
    found = Corag(budget_tokens=4).retrieve(run, "q", passages)
    assert {p.source for p in found} == {"s0", "s2"}  # together they are nearest; "one two three" and "four five" exceed 4 words
    assert Corag(budget_tokens=2).retrieve(run, "q", passages)[0].source in ("s1", "s2")
    assert Corag(budget_tokens=10).retrieve(run, "q", []) == []
    assert Corag(budget_tokens=2).retrieve(run, "q", passages[:1]) == passages[:1]
    assert "no passage fits" in notes[0]


def test_a_cross_encoder_reads_the_joined_texts(monkeypatch) -> None:
    asked: list[str] = []

    class Fake:
        def score(self, query, texts):
            asked.extend(texts)
            return np.array([2.0, -2.0], dtype=np.float32)

    monkeypatch.setattr(scoring, "reranker", lambda name: Fake())
    found = RerankedScores("any", "q", ["a", "b", "c"]).with_one_more((1,), np.array([0, 2]))
    assert asked == ["b\na", "b\nc"]
    np.testing.assert_allclose(found, [0.8808, 0.1192], atol=1e-4)  # the logistic function of 2 and -2


def test_the_deadline_ends_it_after_one_iteration() -> None:
    search = Search(VectorScores(unit([[1, 0], [0, 1]]), unit([1, 1])), [1, 1], 5, 5, 1.41, 0.1)
    search.run(1000, lambda: False)
    assert search.best in ((0,), (1,))


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("candidates", 0), ("iterations", 0), ("exploration", -1.0), ("cost_weight", -1.0)])
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        Corag(**{field: value})
