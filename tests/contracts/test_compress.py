"""What every compressor of the registry must do, whatever its method: keep its budget, keep its spans, say what it dropped."""

from __future__ import annotations

import dataclasses
import re
import zlib

import numpy as np
import pytest

from baywindow import recipe, registry
from baywindow.context.base import Compressor
from baywindow.context.condensed import Condensed, cited
from baywindow.context.run import Run
from baywindow.documents.base import Document, Passage
from baywindow.documents.memory import InMemory
from baywindow.errors import BayError, CapabilityError
from baywindow.models.base import Embedder, Inspection, Score

NAMES = [card.name for card in registry.cards("context/compress")]
QUESTION = "When did the harbour master Osric close the old pier?"
STORY = [f"Day {n}. The boats of berth {n} came in with {n * 3} crates of fish. Nobody counted them twice." for n in range(40)]
STORY[23] = "Day 23. The harbour master Osric closed the old pier in 1987. It rained."
UNICODE = "Ümlaute und Straßen: der Hafen schließt.\n港は一九八七年に閉鎖された。とても寒い。\n🙂🙂 emoji, and a\u0301 combining. Ende!"


class Words(Embedder):
    """Bags of words."""

    name, dim, max_tokens = "words", 256, 100

    def embed(self, texts, kind="passage"):
        found = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row[zlib.crc32(word.encode()) % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def seeing(scripted):
    """A model that counts words, and whose log-probabilities and insides are made of the words themselves (rarer: less likely)."""

    class Seeing(scripted):
        capabilities = frozenset({"text", "logprobs", "weights"})
        layers = 4

        def score(self, prompt, continuation):
            spans = [m.span() for m in re.finditer(r"\S+", continuation)]
            known = {w.lower() for w in prompt.split()} if isinstance(prompt, str) else set()
            worth = [-0.5 if continuation[a:b].lower() in known else -(1 + zlib.crc32(continuation[a:b].encode()) % 7) for a, b in spans]
            return Score(np.array(worth, dtype=np.float32), tuple(continuation[a:b] for a, b in spans), offsets=tuple(spans))

        def inspect(self, text, layers, want):
            spans = tuple(m.span() for m in re.finditer(r"\S+", text))
            asked = {w.strip("?.,").lower() for w in QUESTION.split()}
            seen = np.array([[float(text[a:b].strip("?.,").lower() in asked) for a, b in spans]], dtype=np.float32)
            return Inspection(spans, scores=dict.fromkeys(layers, seen))

    def reply(prompt):
        return "A summary of it: boats and fish."

    return lambda context_length=4096: Seeing(reply, context_length=context_length)


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def story() -> InMemory:
    return InMemory([Document("\n\n".join(STORY), "log.txt")], chunk_tokens=48, embedder=Words())


def made(name: str, **options) -> Compressor:
    return registry.get(name)(**options)


def exact(corpus: InMemory, passage: Passage) -> None:
    """Every promise of `Passage` and `Condensed`, read again from the source."""
    origin = cited(passage)
    assert corpus.excerpt(origin.source, origin.start, origin.end) == origin.text
    assert origin.line == 1 + corpus.excerpt(origin.source, 0, origin.start).count("\n")
    if isinstance(passage, Condensed):
        assert passage.key == origin.key
        assert passage.pieces
        assert list(passage.pieces) == sorted(passage.pieces)
        assert all(origin.start <= start < end <= origin.end for start, end in passage.pieces)
        if not passage.written:
            texts = [corpus.excerpt(passage.source, start, end) for start, end in passage.pieces]
            assert passage.text == passage.joint.join(texts)


def test_there_are_compressors() -> None:
    assert {"extractive", "selective_context", "long_llmlingua", "gemfilter", "semantic_compression", "struxgpt"} <= set(NAMES)


def test_cards_are_complete_and_options_round_trip(name) -> None:
    card = registry.card(name)
    assert card.summary
    assert card.claim
    assert (card.paper, card.year) != ("", 0)
    made_one = made(name)
    assert isinstance(made_one, Compressor)
    assert all(f.kw_only for f in dataclasses.fields(made_one))  # type: ignore[arg-type]
    assert recipe.parse(f"{recipe.Recipe((), (made_one,))}").outside == (made_one,)
    with pytest.raises((TypeError, BayError)):
        made(name, no_such_option=1)


@pytest.mark.parametrize("budget", [5, 60, 200, 437])
def test_the_budget_is_kept_in_tokens_of_the_model(name, budget, story, scripted) -> None:
    run = Run(QUESTION, story, seeing(scripted)())
    kept = made(name, budget_tokens=budget).compress(run, list(story.passages()))
    assert sum(run.model.count_tokens(p.text) for p in kept) <= budget
    if budget >= 60:
        assert kept


def test_half_of_the_text_is_a_budget_too(name, story, scripted) -> None:
    run = Run(QUESTION, story, seeing(scripted)())
    given = list(story.passages())
    kept = made(name, budget_fraction=0.5).compress(run, given)
    count = run.model.count_tokens
    assert 0 < sum(count(p.text) for p in kept) <= round(0.5 * sum(count(p.text) for p in given))


@pytest.mark.parametrize("budget", [60, 300])
def test_what_survives_maps_to_the_source(name, budget, story, scripted) -> None:
    run = Run(QUESTION, story, seeing(scripted)())
    kept = made(name, budget_tokens=budget).compress(run, list(story.passages()))
    assert kept
    for passage in kept:
        exact(story, passage)
        number = run.number(passage)
        assert run.numbered[number] == cited(passage)


def test_what_was_dropped_is_said_and_the_input_is_left_alone(name, story, scripted) -> None:
    run = Run(QUESTION, story, seeing(scripted)())
    given = list(story.passages())
    before = list(given)
    kept = made(name, budget_tokens=90).compress(run, given)
    assert given == before
    tokens = sum(run.model.count_tokens(p.text) for p in kept)
    total = sum(run.model.count_tokens(p.text) for p in given)
    assert any(re.search(rf"{name} kept {tokens} of {total} tokens", note) for note in run.notes), run.notes


def test_nothing_and_very_little_in(name, story, scripted) -> None:
    compressor = made(name, budget_tokens=40)
    assert compressor.compress(Run(QUESTION, story, seeing(scripted)()), []) == []
    for text in ("x", "One word.", "…", "a b"):
        corpus = InMemory([Document(text, "t.txt")], embedder=Words())
        given = list(corpus.passages())
        kept = compressor.compress(Run(QUESTION, corpus, seeing(scripted)()), given)
        assert [p.text for p in kept] == [text]
        exact(corpus, kept[0])


@pytest.mark.parametrize("budget", [3, 6, 12, 500])
def test_any_script_keeps_its_spans(name, budget, scripted) -> None:
    corpus = InMemory([Document(UNICODE, "u.txt"), Document("no stops at all " * 60, "v.txt")], chunk_tokens=32, embedder=Words())
    run = Run("Wann schließt der Hafen?", corpus, seeing(scripted)())
    kept = made(name, budget_tokens=budget).compress(run, list(corpus.passages()))
    assert sum(run.model.count_tokens(p.text) for p in kept) <= budget
    for passage in kept:
        exact(corpus, passage)


def test_the_same_input_gives_the_same_output_and_questions_do_not_mix(name, story, scripted) -> None:
    compressor, given = made(name, budget_tokens=80), list(story.passages())
    first = compressor.compress(Run(QUESTION, story, seeing(scripted)()), given)
    compressor.compress(Run("What rained?", story, seeing(scripted)()), given)
    assert compressor.compress(Run(QUESTION, story, seeing(scripted)()), given) == first


def test_a_compressed_text_can_be_compressed_again(name, story, scripted) -> None:
    run = Run(QUESTION, story, seeing(scripted)())
    once = made("extractive", budget_tokens=200).compress(run, list(story.passages()))
    twice = made(name, budget_tokens=70).compress(run, once)
    assert 0 < sum(run.model.count_tokens(p.text) for p in twice) <= 70
    for passage in twice:
        exact(story, passage)


def test_what_a_model_lacks_is_refused_with_the_reason(name, story, scripted) -> None:
    card = registry.card(name)
    missing = set(card.needs) - {"embedder", "text"}
    if not missing:
        assert set(card.needs) <= {"embedder", "text"}
        return
    with pytest.raises(CapabilityError):
        made(name, budget_tokens=30).compress(Run(QUESTION, story, scripted(lambda p: "x")), list(story.passages()))
