"""The picture shows what is held, no more and no less."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.engine.picture import kept_map

IDS = torch.randint(1, 97, (2, 30), generator=torch.Generator().manual_seed(6))


@torch.no_grad()
def test_the_picture_shows_what_is_held(tiny: Callable[..., Any]) -> None:
    """Sliding window 8 holds 7; the full layer holds two sinks and four recent tokens: 12 columns in 2 heads there, 14 in the others."""
    model = tiny("gemma3")
    with attach(model, "streaming_llm(budget_tokens=6, sink_tokens=2)") as w:
        with pytest.raises(ConfigError, match="no cache to draw"):
            w.picture()
        model(IDS, past_key_values=w.cache())
        kept = kept_map(w.last_cache)  # type: ignore[arg-type]
        drawn = ET.fromstring(w.picture())
    assert kept.shape == (3, 2, 30)
    assert kept[1, 0].nonzero().flatten().tolist() == [0, 1, 26, 27, 28, 29]
    assert kept[0, 1].nonzero().flatten().tolist() == list(range(23, 30))
    [path] = [e for e in drawn.iter() if e.tag.endswith("path")]  # a column a token: every cell is empty or full
    assert path.get("fill-opacity") == "1"
    # Layer 1, head 0 is the third row: two layer lines of one pixel and two rows of four lie above it. Cells are three wide.
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v4h-\d+z", str(path.get("d")))
    assert [(int(x) - 28, int(w)) for x, y, w in runs if int(y) == 9] == [(0, 6), (78, 12)]
    assert sum(int(w) for _, _, w in runs) == 3 * (2 * 7 + 2 * 6 + 2 * 7)


@torch.no_grad()
def test_a_cell_of_several_tokens_is_as_dark_as_its_share(tiny: Callable[..., Any]) -> None:
    """960 tokens in 240 columns: a sink of 2 tokens fills half of its cell, 14 recent ones three and a half."""
    with attach(tiny("llama"), "streaming_llm(budget_tokens=16, sink_tokens=2)") as w:
        tiny("llama")(torch.ones(1, 960, dtype=torch.long), past_key_values=w.cache())
        drawn = ET.fromstring(w.picture())
    shades = {e.get("fill-opacity"): str(e.get("d")).count("M") for e in drawn.iter() if e.tag.endswith("path")}
    assert shades == {"0.5": 3 * 2 * 2, "1": 3 * 2}  # three layers, two heads
    assert [e.text for e in drawn.iter() if e.tag.endswith("text")] == ["0", "1", "2", "0", "960"]


@torch.no_grad()
def test_a_cache_belongs_to_one_batch(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model) as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        with pytest.raises(ConfigError, match="holds 2 sequences and was given 1"):
            model(IDS[:1], past_key_values=cache)
