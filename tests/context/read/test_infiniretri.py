"""`infiniretri`: sentences that the question's attention finds, carried from window to window as text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from baywindow.context.read.infiniretri import JOINT, Infiniretri
from baywindow.context.read.stuff import Stuff
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import CapabilityError, ConfigError
from baywindow.models.base import Inspection


@pytest.fixture
def seeing(scripted):
    """Shows attention: a word attends to words equal to it (weight 1), hardly to others (0.001). Two heads that do the same."""

    class Seeing(scripted):
        capabilities = frozenset({"text", "weights"})

        def inspect(self, text, layers, want):
            assert layers == [-1]
            self.windows = [*getattr(self, "windows", []), text]
            spans = [m.span() for m in re.finditer(r"\S+", text)]
            names = np.array([text[a:b].strip(".?").lower() for a, b in spans])
            weights = np.where(names[:, None] == names[None, :], 1.0, 0.001) * np.tri(len(names))
            weights /= weights.sum(1, keepdims=True)
            return Inspection(tuple(spans), attention={-1: np.stack([weights, weights]).astype(np.float32)})

    return Seeing


def story(corpus, needles: dict[int, str], n: int = 60):
    text = [f"Line {i} tells of rain and of wind." for i in range(n)]
    for at, needle in needles.items():
        text[at] = needle
    return corpus(story="\n".join(text))


def test_the_score_by_hand(seeing):
    """Text ``a b``, question ``b``: one head-sum row, no smoothing. Attention from b: to a 0.001, to b 1, to itself 1."""
    model = seeing(["x"])
    seen = model.inspect(f"a b{JOINT}b", [-1], frozenset({"attention"}))
    scores, own = Infiniretri(phrase_tokens=1)._scores(seen, 3, None)
    total = 0.001 + 1 + 1
    weight = 2 * 1 / total  # two heads; the question token's attention on the question
    np.testing.assert_allclose(own, [[weight]], rtol=1e-5)
    np.testing.assert_allclose(scores, [weight**2 * 2 * 0.001 / total, weight**2 * 2 * 1 / total, 0], rtol=1e-5)


def test_smoothing_adds_the_neighbours(seeing):
    model = seeing(["x"])
    seen = model.inspect(f"a b c d{JOINT}b", [-1], frozenset({"attention"}))
    plain, _ = Infiniretri(phrase_tokens=1)._scores(seen, 7, None)
    wide, _ = Infiniretri(phrase_tokens=3)._scores(seen, 7, None)
    np.testing.assert_allclose(wide[:4], [plain[0] + plain[1], plain[:3].sum(), plain[1:4].sum(), plain[2] + plain[3]], rtol=1e-6)


def test_kept_sentences_travel_and_every_sentence_is_read_once(corpus, seeing):
    model = seeing(["Osric. [1]"], context_length=400)
    text = story(corpus, {5: "The keeper is Osric."})
    run = Run("Who is the keeper?", text, model)
    Infiniretri(window_tokens=80, top_tokens=3, phrase_tokens=1).read(run, None)
    assert len(model.windows) > 5
    new = [n for w in model.windows for n in re.findall(r"Line (\d+) ", w)]
    assert {int(n) for n in new} == set(range(60)) - {5}
    assert all("keeper is Osric" in w for w in model.windows[1:])  # found in the first window, carried through the others
    assert all(w.endswith(JOINT + "Who is the keeper?") for w in model.windows)
    final = model.prompts[-1][-1].content
    assert "keeper is Osric" in final
    assert final.count("<passage [") <= 3


def test_spans_stay_exact(corpus, seeing):
    text = story(corpus, {5: "The keeper is Osric."})
    run = Run("Who is the keeper?", text, seeing(["x"], context_length=400))
    Infiniretri(window_tokens=80, top_tokens=3, phrase_tokens=1).read(run, None)
    assert run.numbered
    for p in run.numbered.values():
        assert text.excerpt(p.source, p.start, p.end) == p.text
        assert p.line == text.texts["story"].count("\n", 0, p.start) + 1


def test_the_claim_in_miniature_a_needle_at_any_depth_of_a_text_many_times_the_window(corpus, seeing):
    def reader(prompt) -> str:
        return "Osric" if "Osric" in prompt[-1].content else NOT_FOUND

    for depth in (2, 150, 297):
        text = story(corpus, {depth: "The keeper is Osric."}, n=300)  # some 2,400 words in windows of 100
        model = seeing(reader, context_length=200)
        assert Infiniretri(window_tokens=100, top_tokens=4, phrase_tokens=1).read(Run("Who is the keeper?", text, model), None) == "Osric"
    far = story(corpus, {297: "The keeper is Osric."}, n=300)
    assert Stuff(max_new_tokens=40).read(Run("Who is the keeper?", far, seeing(reader, context_length=200)), None) == NOT_FOUND


def test_a_model_that_hides_its_attention_is_refused(garden, scripted):
    with pytest.raises(CapabilityError, match="attention"):
        Infiniretri().read(Run("q", garden, scripted(["x"])), None)


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="window_tokens"):
        Infiniretri(window_tokens=2)
