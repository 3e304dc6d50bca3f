"""Positions in little room: what is written down comes out again, and costs what the docstring says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.window import attach
from baywindow.window.block import Block
from baywindow.window.engine.places import Marks, Places, sequence_of
from baywindow.window.engine.tail import Tail


def positions_of(rows: list[list[list[int]]]) -> torch.Tensor:
    """[B, H, L] from lists of held positions, holes in front of the shorter ones."""
    longest = max(len(head) for row in rows for head in row)
    return torch.tensor([[[-1] * (longest - len(head)) + head for head in row] for row in rows])


def test_worked_example() -> None:
    """Positions 3, 4, 9 and 5 from 3 on: bits 0, 1, 6 of one byte are 1 + 2 + 64 = 67; bit 2 is 4. The second head has two holes."""
    marks = Marks.of(positions_of([[[3, 4, 9], [5]]]))
    assert marks is not None
    assert (marks.first, marks.length) == (3, 3)
    assert marks.bits.tolist() == [[[67], [4]]]
    assert marks.listed().tolist() == [[[3, 4, 9], [-1, -1, 5]]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("span", [9, 40, 700])
def test_any_choice_comes_out_again(seed: int, span: int) -> None:
    """Also where one head holds nothing and more than 255 slots are holes."""
    draw = torch.Generator().manual_seed(seed)
    rows = [[(torch.rand(span, generator=draw) < 0.5).nonzero().flatten().tolist() for _ in range(2)] for _ in range(2)]
    rows[1][0] = []
    positions = positions_of(rows)
    places = Places.of(positions)
    assert isinstance(places.old, Marks)
    assert torch.equal(places.listed(), positions)
    assert sum(t.numel() for t in places.tensors()) <= 4 * (span // 8 + 1)  # four heads in all, a bit a token


def test_tokens_in_sequence_cost_nothing_until_a_row_breaks_off() -> None:
    places = Places.of(torch.tensor([[5, 6], [2, 3]])).append(torch.tensor([[7], [4]]), (7, 4))
    assert sum(t.numel() for t in places.tensors()) == 0
    assert places.listed().tolist() == [[5, 6, 7], [2, 3, 4]]
    assert places.drop_first(1).drop_last(1).listed().tolist() == [[6], [3]]
    assert places.rows(torch.tensor([1, 1])).listed().tolist() == [[2, 3, 4], [2, 3, 4]]
    new = torch.tensor([[8, 9], [-1, 5]])  # the second row is padded in its middle
    assert sequence_of(new) is None
    broken = places.append(new, None)
    assert broken.listed().tolist() == [[5, 6, 7, 8, 9], [2, 3, 4, -1, 5]]
    assert broken.append(torch.tensor([[10], [6]]), (10, 6)).listed().tolist() == [[5, 6, 7, 8, 9, 10], [2, 3, 4, -1, 5, 6]]


def test_a_gap_in_a_row_is_not_taken_for_a_sequence() -> None:
    places = Places.of(torch.tensor([[0, 1, 2]])).append(torch.tensor([[7]]), (7,))
    assert places.listed().tolist() == [[0, 1, 2, 7]]


def test_what_was_chosen_then_said_on_top() -> None:
    """Chosen positions by head, then two tokens for all heads; taking back and copying keep them apart."""
    places = Places.of(positions_of([[[1, 6], [0, 2]]])).append(torch.tensor([[8, 9]]), (8,))
    assert isinstance(places.old, Marks)
    assert places.listed().tolist() == [[[1, 6, 8, 9], [0, 2, 8, 9]]]
    assert places.drop_last(1).listed().tolist() == [[[1, 6, 8], [0, 2, 8]]]
    assert places.drop_last(3).listed().tolist() == [[[1], [0]]]
    assert places.drop_first(1).listed().tolist() == [[[6, 8, 9], [2, 8, 9]]]


def test_what_cannot_be_marked_is_listed() -> None:
    """Out of order; holes behind tokens; so few tokens over so long a span that numbers are shorter; and where a caller asks for it."""
    for positions in ([[[4, 2]]], [[[2, -1]]], [[[0, 100_000]]]):
        places = Places.of(torch.tensor(positions))
        assert isinstance(places.old, torch.Tensor)
        assert places.listed().tolist() == positions
    assert isinstance(Places.of(torch.tensor([[[0, 2]]]), plain=True).old, torch.Tensor)


def test_writing_goes_on_in_a_list() -> None:
    """A list grows in place, and a copy of its rows is not written to."""
    places = Places.of(torch.tensor([[[0, 2], [1, 3]]]), plain=True)
    for step in range(40):
        before = places.rows(torch.tensor([0]))
        places = places.append(torch.tensor([[4 + step]]), None)
        assert before.listed().shape[-1] == 2 + step
    assert places.listed()[0, 1].tolist() == [1, 3, *range(4, 44)]


@torch.no_grad()
def test_bytes_of_a_cache(tiny: Callable[..., Any]) -> None:
    """Llama's tiny twin: 3 layers, 2 heads of 16 + 16 numbers in float32, 128 bytes a token and head. Stock holds exactly that; a choice of
    12 of 40 tokens by head needs at most 5 bytes more for each layer and head (fewer where the first tokens went)."""
    model, ids = tiny("llama"), torch.arange(1, 41)[None]
    for recipe, held, record in (("stock", 40, 0), ("snapkv(budget_tokens=12, window_tokens=4)", 12, 5)):
        with attach(model, recipe) as w:
            cache = w.cache()
            model(ids, past_key_values=cache)
            cache.close()
            assert 3 * 2 * (held * 128 + max(0, record - 1)) <= cache.nbytes() <= 3 * 2 * (held * 128 + record)


def test_tags_of_new_tokens_are_zero_wherever_the_tail_was_cut() -> None:
    """A tag grows in room of its own; what stood in that room before a token was taken back must not show."""
    block = Block(
        keys=torch.zeros(1, 1, 3, 2), values=torch.zeros(1, 1, 3, 2), positions=torch.arange(3)[None], tags={"t": torch.ones(1, 1, 3)}
    )
    tail, one = Tail(block), torch.zeros(1, 1, 1, 2)
    tail.append(one, one, torch.tensor([[3]]), (3,))
    tail.tags["t"][..., -1] = 5.0
    tail.append(one, one, torch.tensor([[4]]), (4,))
    assert tail.tags["t"].tolist() == [[[1.0, 1.0, 1.0, 5.0, 0.0]]]
    tail.drop_last(2)
    tail.append(one, one, torch.tensor([[3]]), (3,))
    assert tail.tags["t"].tolist() == [[[1.0, 1.0, 1.0, 0.0]]]
    tail.tags["t"] = tail.tags["t"] + 1.0  # a policy may put another tensor there
    tail.append(one, one, torch.tensor([[4]]), (4,))
    assert tail.tags["t"].tolist() == [[[2.0, 2.0, 2.0, 1.0, 0.0]]]
    assert block.tags["t"].tolist() == [[[1.0, 1.0, 1.0]]]
