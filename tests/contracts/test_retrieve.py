"""What every retriever must do, over the registry."""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from baywindow import registry
from baywindow.context.base import Retriever
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import BayError
from baywindow.models.base import Embedder

NAMES = [card.name for card in registry.cards("context/retrieve")]
# Retrievers that need a language model are driven by their own tests; the contract here is that of plain ones.
PLAIN = [name for name in NAMES if not set(registry.card(name).needs) - {"embedder"}]


class Words(Embedder):
    name, dim, max_tokens = "words", 256, 100

    def embed(self, texts, kind="passage"):
        found = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row[zlib.crc32(word.encode()) % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def run() -> SimpleNamespace:
    texts = {f"f{n}.txt": f"Line {n} speaks of topic{n}.\n\nIt also names subject{n % 3} twice: subject{n % 3}.\n" for n in range(12)}
    corpus = InMemory([Document(text, source) for source, text in texts.items()], chunk_tokens=16, embedder=Words())
    return SimpleNamespace(corpus=corpus, texts=texts, question="what does it say of topic7", note=lambda text: None)


def test_there_are_retrievers() -> None:
    assert {"full_text", "vectors", "hybrid"} <= set(PLAIN)


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name: str) -> None:
    card = registry.card(name)
    assert card.summary
    assert card.claim
    assert (card.paper, card.year) != ("", 0)
    assert issubclass(registry.get(name), Retriever)
    assert all(f.kw_only for f in dataclasses.fields(registry.get(name)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_options_round_trip_and_unknown_ones_are_refused(name: str) -> None:
    made = registry.get(name)()
    assert registry.get(name)(**json.loads(json.dumps(made.options()))) == made
    with pytest.raises((TypeError, BayError)):
        registry.get(name)(no_such_option=1)


@pytest.mark.parametrize("name", PLAIN)
def test_passages_are_exact_spans_at_most_k_and_best_first(run: SimpleNamespace, name: str) -> None:
    found = registry.get(name)(k=5).retrieve(run, run.question, None)
    assert 0 < len(found) <= 5
    assert len({p.key for p in found}) == len(found)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert found[0].source == "f7.txt"
    for p in found:
        assert run.texts[p.source][p.start : p.end] == p.text


@pytest.mark.parametrize("name", PLAIN)
def test_a_later_retriever_narrows_and_leaves_its_input_alone(run: SimpleNamespace, name: str) -> None:
    given = list(run.corpus.passages())[4:12]
    before = list(given)
    found = registry.get(name)(k=3).retrieve(run, run.question, given)
    assert given == before
    assert {p.key for p in found} <= {p.key for p in given}
    assert len(found) == 3
    assert registry.get(name)(k=3).retrieve(run, run.question, []) == []


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_question_gives_the_same_answer(run: SimpleNamespace, name: str) -> None:
    technique = registry.get(name)()
    first = technique.retrieve(run, run.question, None)
    technique.retrieve(run, "something else about subject1", None)
    assert technique.retrieve(run, run.question, None) == first
