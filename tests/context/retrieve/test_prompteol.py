"""`prompteol`: the form, the state that is read, and the ranking by it."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.retrieve.prompteol import EXAMPLE, FORM, Prompteol, plain
from baywindow.context.run import Run
from baywindow.errors import CapabilityError, ConfigError

STATES = {"Ships sail.": [3.0, 0.1], "Bread is baked.": [0.1, 3.0], "Boats sail off.": [2.0, 0.3], "sail where.": [4.0, 0.2]}


@pytest.fixture
def stating(scripted):
    class Stating(scripted):
        capabilities = frozenset({"text", "weights"})

        def last_states(self, texts):
            self.texts = list(texts)
            return np.array([next((v for t, v in STATES.items() if f'"{t}"' in text), [1.0, 1.0]) for text in texts], dtype=np.float32)

    return Stating


@pytest.fixture
def lines(corpus):
    return corpus(a="Ships sail.\nBread is baked.\nBoats sail off")


def test_texts_are_cleaned_as_in_the_papers_code() -> None:
    assert plain('He said "go"\n now') == "He said 'go' now."
    assert plain("where?") == "where."
    assert plain("Stop!") == "Stop!"
    assert plain("  ") == ""


def test_the_nearest_states_come_first(lines, stating) -> None:
    # Cosines with (4, 0.2): (3, 0.1) 0.99986, (2, 0.3) 0.9951, (0.1, 3) 0.083.
    run = Run("sail where?", lines, stating([]))
    found = Prompteol(centre=False).retrieve(run, "sail where?", list(lines.passages()))
    assert [p.text for p in found] == ["Ships sail.", "Boats sail off", "Bread is baked."]
    assert [p.score for p in found] == pytest.approx([0.99986, 0.99511, 0.08318], abs=1e-4)
    assert run.model.texts[0] == f"{EXAMPLE} {FORM.format(text='sail where.')}"
    assert run.meter.prompt_tokens == sum(len(t.split()) for t in run.model.texts)


def test_centring_takes_off_what_all_share(lines, stating) -> None:
    run = Run("sail where?", lines, stating([]))
    found = Prompteol(example=False).retrieve(run, "sail where?", list(lines.passages()))
    states = np.array([STATES[t] for t in ("sail where.", "Ships sail.", "Bread is baked.", "Boats sail off.")])
    states -= states.mean(0)
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    assert {p.text: p.score for p in found} == pytest.approx(
        dict(zip(("Ships sail.", "Bread is baked.", "Boats sail off"), states[1:] @ states[0], strict=True)), abs=1e-5
    )
    assert run.model.texts[0] == FORM.format(text="sail where.")


def test_full_text_chooses_what_is_embedded(lines, stating) -> None:
    run = Run("sail", lines, stating([]))
    assert [p.text for p in Prompteol().retrieve(run, "sail", None)] == ["Boats sail off"]  # "sail." is another word to this corpus
    assert len(run.model.texts) == 2


def test_a_long_passage_is_cut_at_the_window(corpus, stating) -> None:
    run = Run("q", corpus(a="word " * 300), stating([], context_length=80))
    Prompteol().retrieve(run, "q", list(run.corpus.passages()))
    assert all(len(t.split()) <= 80 for t in run.model.texts)
    assert run.model.texts[1].endswith('means in one word:"')


def test_without_budget_the_order_stays(lines, stating) -> None:
    run = Run("q", lines, stating([]), meter=Meter(budget=Budget(tokens=5)))
    given = list(lines.passages())
    assert Prompteol(k=2).retrieve(run, "q", given) == given[:2]
    assert any("does not allow" in n for n in run.notes)


def test_a_closed_model_is_refused(lines, scripted) -> None:
    with pytest.raises(CapabilityError):
        Prompteol().retrieve(Run("sail", lines, scripted([])), "sail", None)
    with pytest.raises(ConfigError, match="depth"):
        Prompteol(depth=0)
