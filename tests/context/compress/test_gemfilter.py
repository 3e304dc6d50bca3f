"""`gemfilter`: what an early layer's last query points at is kept."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow.context.compress.gemfilter import ASK, Gemfilter, best_within, smoothed
from baywindow.context.run import Run
from baywindow.errors import ConfigError

TEXT = "a b c d e gem f g h i j k"


def pointing(prompt: str, word: str) -> float:
    return 10.0 if word == "gem" else 0.0


def test_smoothing_worked_example_and_oracle() -> None:
    # Kernel 3: the ends have two neighbours only: (3+0)/2, (3+0+6)/3, (0+6)/2.
    assert smoothed(np.array([3, 0, 6], dtype=np.float32), 3).tolist() == [1.5, 3.0, 3.0]
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=9 + seed).astype(np.float32)
        slow = [np.mean(x[max(0, i - 2) : i + 3]) for i in range(len(x))]
        np.testing.assert_allclose(smoothed(x, 5), slow, rtol=1e-5)


def test_a_word_has_its_best_tokens_score() -> None:
    offsets = ((0, 0), (0, 2), (2, 4), (5, 6))
    assert best_within(np.array([9, 1, 2, 3], dtype=np.float32), offsets, [(0, 4), (5, 6), (7, 9)]) == [2.0, 3.0, 0.0]


def test_worked_example(corpus, scoring) -> None:
    # With kernel 3 the gem's neighbours share its score; among equals the first comes first: e, gem, f.
    run = Run("which gem?", corpus(a=TEXT), scoring(pointing))
    (kept,) = Gemfilter(budget_tokens=3, kernel=3).compress(run, list(run.corpus.passages()))
    assert kept.text == "e gem f"
    ((seen, layers),) = run.model.inspected
    assert seen == TEXT + ASK.format(question="which gem?")
    assert layers == [4]  # 0.4 of 10 blocks
    assert run.meter.prompt_tokens == len(seen.split())


def test_a_whole_number_is_the_layer_itself(corpus, scoring) -> None:
    run = Run("q", corpus(a=TEXT), scoring(pointing))
    Gemfilter(budget_tokens=3, layer=7).compress(run, list(run.corpus.passages()))
    assert run.model.inspected[0][1] == [7]


def test_text_beyond_the_window_is_read_in_parts(corpus, scoring) -> None:
    lines = [" ".join(f"w{n}x{i}" for i in range(10)) for n in range(8)]
    lines[6] = lines[6].replace("w6x5", "gem")
    run = Run("q", corpus(a="\n".join(lines)), scoring(pointing, context_length=40))
    kept = Gemfilter(budget_tokens=1, kernel=1).compress(run, list(run.corpus.passages()))
    assert [p.text for p in kept] == ["gem"]
    assert len(run.model.inspected) > 1
    assert all(len(text.split()) <= 40 for text, _ in run.model.inspected)


@pytest.mark.parametrize(("field", "value"), [("layer", -0.1), ("layer", 2.5), ("kernel", 4), ("kernel", 0)])
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        Gemfilter(**{field: value})
