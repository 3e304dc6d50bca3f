"""The seam inside real models: equal to stock, and a needle that stays or goes as it must. Slow: seconds to a minute each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from baywindow.window import Prefilled, attach

pytestmark = [pytest.mark.slow, pytest.mark.model]
FILLER = "The sky over the harbour was grey that morning, and the boats stayed where they were. "
NEEDLE = "The secret number of the lighthouse is 5172394. "


def folders() -> list[Path]:
    """Converted models in the user's cache; none are downloaded here."""
    home = Path(os.environ.get("BAY_CACHE") or Path.home() / ".cache" / "baywindow") / "models"
    return sorted(p for p in home.glob("*") if (p / "config.json").is_file())


@pytest.fixture(scope="module", params=["gemma-3-270m", "qwen2.5-coder-0.5b"])
def loaded(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = [p for p in folders() if p.name.startswith(request.param)]
    if not found:
        pytest.skip(f"{request.param} is not converted here; `bay models add` makes it")
    model = AutoModelForCausalLM.from_pretrained(found[0], dtype=torch.bfloat16).eval()
    return model, AutoTokenizer.from_pretrained(found[0])


@torch.no_grad()
def test_the_seam_equals_the_stock_model(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ids = torch.tensor([tokenizer.encode(FILLER * 40)])[:, :700]  # beyond Gemma 3's window of 512
    expected = model(ids).logits
    steps = model.generate(ids[:, :600], max_new_tokens=8, do_sample=False, top_p=None, top_k=None, temperature=None)
    with attach(model, fold_gqa=False) as w:
        assert torch.equal(model(ids, past_key_values=w.cache()).logits, expected)
        assert torch.equal(model(ids, use_cache=False).logits, expected)
        ours = model.generate(
            ids[:, :600], max_new_tokens=8, do_sample=False, top_p=None, top_k=None, temperature=None, past_key_values=w.cache()
        )
    assert ours.tolist() == steps.tolist()


def test_a_needle_in_the_middle_stays_or_goes_as_it_must(loaded: tuple[Any, Any]) -> None:
    """About 400 tokens, half of them kept: attention at the question finds the needle, a window of recent tokens cannot have it."""
    model, tokenizer = loaded
    if "qwen" not in str(model.config.model_type):
        pytest.skip("the base model does not answer questions reliably enough to show it")
    text = FILLER * 8 + NEEDLE + FILLER * 12
    question = "What is the secret number of the lighthouse? Answer with the number only."
    found = {
        recipe: "5172394" in Prefilled(model, tokenizer, text, recipe, question=mode).ask(question, max_new_tokens=10)  # type: ignore[arg-type]
        for recipe, mode in {
            "stock": "out",
            "snapkv(budget_fraction=0.5)": "in",
            "streaming_llm(budget_fraction=0.5)": "out",
            "kivi(bits=4)": "out",
        }.items()
    }
    assert found == {
        "stock": True,
        "snapkv(budget_fraction=0.5)": True,
        "streaming_llm(budget_fraction=0.5)": False,
        "kivi(bits=4)": True,
    }
