"""What lies apart: read by slot, fetched once, and the same tokens as if all lay together."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baywindow.errors import BudgetError
from baywindow.recipe import Recipe, make
from baywindow.window import attach
from baywindow.window.block import Block
from baywindow.window.caches.clusterkv import ClusterKV
from baywindow.window.engine import packing, saving
from baywindow.window.engine.apart import Apart, Looked
from baywindow.window.engine.room import Room
from baywindow.window.engine.shelf import Shelf

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(21))
CLUSTERS = {"budget_tokens": 20, "sink_tokens": 4, "cluster_tokens": 6, "dense_layers": 1, "update_tokens": 8, "update_clusters": 2}


def block_of(start: int, stop: int, *, rows: int = 2, padding: int = 0, per_head: bool = False) -> Block:
    """Slots ``start`` to ``stop`` of rows with two heads: key [slot, row, head], value [−slot, …]; ``padding`` slots of row 1 are empty."""
    at = torch.arange(start, stop)
    keys = torch.stack(torch.broadcast_tensors(at.view(1, 1, -1), torch.arange(rows).view(-1, 1, 1), torch.arange(2).view(1, 2, 1)), -1)
    positions = at.expand(rows, -1).clone()
    positions[1:] = (positions[1:] - padding).clamp(min=-1)
    positions = positions[:, None].expand(-1, 2, -1) if per_head else positions
    return Block(keys=keys.float(), values=-keys[..., :2].float(), positions=positions)


def same(a: Block, b: Block) -> None:
    for name in ("keys", "values", "positions"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize(("padding", "per_head"), [(0, False), (3, False), (0, True), (3, True)])
def test_it_reads_as_if_all_lay_together(padding: int, per_head: bool) -> None:
    old, new = (block_of(a, b, padding=padding, per_head=per_head) for a, b in ((0, 9), (9, 13)))
    whole, apart = Block.join([old, new]), Apart.of(Shelf.of(old), 0, 9, new)
    assert (apart.length, apart.heads) == (13, 2)
    index = torch.tensor([[[12, 0, 3, -1, 10], [8, 9, 9, 1, 0]], [[-1, 7, 7, 2, 11], [3, 4, 12, 8, -1]]])
    same(apart.take(index.clamp(min=0)), whole.take(index.clamp(min=0)))
    assert "keys" not in vars(apart)  # by slot, so not everything was read
    for part in ((0, 4), (4, 11), (9, 13), (11, 12), (2, 9), (0, 13)):
        same(apart.part(*part), whole.part(*part))
        same(apart.part(*part).first(1), whole.part(*part).first(1))
        at = torch.arange(part[1] - part[0]).flip(0).expand(2, 2, -1)
        same(apart.part(*part).take(at), whole.part(*part).take(at))
    same(apart, whole)


def test_worked_example_of_a_lookup_after_another() -> None:
    """Slots 0 to 5 lie apart, 6 and 7 are near. The first lookup wants 1, 3 and 6: two of them are fetched. The second wants 3, 4, 1, 7 in
    head 0 and 5, 0, a hole and 7 in head 1, where nothing was remembered but 0: 4 and 5 are fetched, three were there."""
    old, new = block_of(0, 6, rows=1), block_of(6, 8, rows=1)
    apart = Apart.of(Shelf.of(old), 0, 6, new)
    first = apart.fetch(torch.tensor([[[1, 3, 6], [0, -1, 7]]]), None)
    assert (first.apart, first.brought) == (3, 3)
    assert first.looked.index.tolist() == [[[1, 3], [0, -1]]]  # near tokens are not remembered
    wanted = torch.tensor([[[3, 4, 1, 7], [5, 0, -1, 7]]])
    second = apart.fetch(wanted, first.looked)
    assert (second.apart, second.brought) == (5, 2)
    assert second.keys[0, :, :, 0].tolist() == [[3, 4, 1, 7], [5, 0, 0, 7]]
    assert second.keys[0, 1, :, 2].tolist() == [1, 1, 0, 1]  # of head 1; a hole is zeros
    assert second.values[0, 0, :, 0].tolist() == [-3, -4, -1, -7]
    lying = Looked(first.looked.index, first.looked.keys + 100, first.looked.values)
    assert apart.fetch(wanted, lying).keys[0, 0, :, 0].tolist() == [103, 4, 101, 7]  # what is remembered is not read again


def test_shelves_that_were_one_go_their_own_ways() -> None:
    """Two questions of one context: the first writes behind it in place, the second finds the place taken and copies."""
    context = Shelf.of(block_of(0, 40))
    one, two = context.append(block_of(40, 42)), context.append(block_of(50, 53))
    three = one.append(block_of(42, 60))
    assert [shelf.length for shelf in (context, one, two, three)] == [40, 42, 43, 60]
    same(Apart.of(one, 0, 42, block_of(0, 0)), block_of(0, 42))
    same(Apart.of(two, 0, 43, block_of(0, 0)), Block.join([block_of(0, 40), block_of(50, 53)]))
    same(Apart.of(three, 0, 60, block_of(0, 0)), block_of(0, 60))
    assert one.counts.tolist() == [[42, 42], [42, 42]]
    assert one.tensors()["keys"].untyped_storage().data_ptr() == context.tensors()["keys"].untyped_storage().data_ptr()
    swapped = one.rows(torch.tensor([1, 0, 1]))
    assert swapped.tensors()["keys"][:, 0, 0, 1].tolist() == [1, 0, 1]
    back = Shelf.restore({name: t.clone() for name, t in two.tensors().items()})
    same(Apart.of(back, 0, 43, block_of(0, 0)), Block.join([block_of(0, 40), block_of(50, 53)]))


def test_what_is_let_go_is_not_in_memory_and_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("resident memory is read from /proc")
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))

    def resident() -> int:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    near = Block(keys=torch.zeros(1, 1, 1, 64), values=torch.zeros(1, 1, 1, 64), positions=torch.zeros(1, 1, dtype=torch.long))
    room, before = Room.like(near, 2**16), resident()  # 2 · 2¹⁶ · 64 · 4 bytes: 32 MiB
    room.keys.fill_(3.0), room.values.fill_(4.0)
    assert resident() - before > 30 * 2**20
    room.let_go()
    assert resident() - before < 8 * 2**20
    assert float(room.keys[0, 0, 77, 5]) == 3.0
    assert float(room.values.mean()) == 4.0
    assert list((tmp_path / "offload").iterdir()) == []  # no name: nothing to clean up


def test_a_full_disk_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(BudgetError, match="No space left"):
        Room.like(block_of(0, 1), 8)


class Spy(ClusterKV):
    """Counts, from the slots it names, what must be fetched: those of the prompt that the lookup before did not name."""

    named: dict[int, Tensor] = {}
    counts: list[int] = []

    def recall(self, asked: Any) -> Tensor | None:
        index = super().recall(asked)
        if index is not None:
            far = asked.block.far if isinstance(asked.block, Apart) else 0
            for b in range(index.shape[0]):
                for h in range(index.shape[1]):
                    now = {i for i in index[b, h].tolist() if 0 <= i < far}
                    before = self.named.get((asked.layer.index, b, h), set())  # type: ignore[call-overload]
                    self.counts[0] += len(now)
                    self.counts[1] += len(now - before)
                    self.named[asked.layer.index, b, h] = now  # type: ignore[index]
        return index


def said(model: Any, recipe: Recipe | str, mask: Tensor, steps: int = 12) -> tuple[Tensor, Any, Any]:
    with torch.no_grad(), attach(model, recipe) as w:
        cache = w.prefill(IDS[:, :40] * mask, mask=mask, chunk_tokens=16)
        out = []
        for i in range(steps):
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            out.append(model(IDS[:, 40 + i : 41 + i], attention_mask=mask, past_key_values=cache).logits)
        return torch.cat(out, dim=1), cache, w.report()


@pytest.mark.parametrize("padding", [0, 9])
def test_only_what_was_selected_and_not_there_is_fetched_with_the_same_answers(tiny: Callable[..., Any], padding: int) -> None:
    model, mask = tiny("llama"), torch.ones(2, 40, dtype=torch.long)
    mask[1, :padding] = 0
    Spy.named, Spy.counts = {}, [0, 0]
    here, kept, plain = said(model, Recipe((Spy(**CLUSTERS),)), mask)
    assert Spy.counts == [0, 0]
    assert kept.store(1).shelf is None
    assert not any("apart" in note for note in plain.notes)
    Spy.named, Spy.counts = {}, [0, 0]
    there, cache, report = said(model, Recipe((Spy(**CLUSTERS), make("offload", {"group_tokens": 4}))), mask)
    torch.testing.assert_close(there, here, atol=1e-6, rtol=1e-6)
    asked, fetched = cache.apart
    assert [asked, fetched] == Spy.counts
    assert 0 < fetched < asked
    assert f"of {asked} tokens looked up apart from the device, {1 - fetched / asked:.0%} were there" in str(report)
    assert cache.store(0).shelf is None  # the dense layer is the mover's
    for i in (1, 2):
        assert len(cache.store(i).tail) < CLUSTERS["update_tokens"] + 4 + 1
        assert cache.store(i).held().tolist() == kept.store(i).held().tolist()


OPTIONS = "sink_tokens=2, local_tokens=12, block_tokens=4, blocks=2, representatives=2, piece_tokens=6"
INFLLM = f"infllm({OPTIONS})"
CLUSTERKV = "clusterkv(budget_tokens=20, sink_tokens=4, cluster_tokens=6, update_tokens=8) + offload(group_tokens=4)"


@torch.no_grad()
@pytest.mark.parametrize("made", [CLUSTERKV, INFLLM, f"{INFLLM} + cachegen(quality=4)"])
def test_copies_beams_and_saved_contexts(made: str, tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "GROUP_TOKENS", 4)
    model = tiny("llama")
    with attach(model, made) as w:
        cache = w.prefill(IDS[:, :40])
        assert cache.store(2).shelf is not None
        first, second = copy.deepcopy(cache), copy.deepcopy(cache)

        def steps(of: Any, ids: Tensor) -> Tensor:
            return torch.cat([model(ids[:, i : i + 1], past_key_values=of).logits for i in range(10)], dim=1)

        want = steps(first, IDS[:, 40:50])
        steps(second, IDS[:, 50:60])  # writes behind the same context
        torch.testing.assert_close(steps(copy.deepcopy(cache), IDS[:, 40:50]), want, atol=1e-6, rtol=1e-6)
        saving.save(cache, tmp_path / "kept", {"recipe": made})
        loaded = saving.load(w, tmp_path / "kept", saving.read_manifest(tmp_path / "kept", {"recipe": made}))
        assert loaded.store(2).shelf.length == cache.store(2).shelf.length
        assert torch.equal(loaded.store(2).shelf.positions, cache.store(2).shelf.positions)
        if "cachegen" in made:
            kept, held = (c.store(2).shelf.tensors()["keys"] for c in (loaded, cache))
            assert float((kept - held).square().mean() / held.square().mean()) < 0.01
        else:
            torch.testing.assert_close(steps(loaded, IDS[:, 40:50]), want, atol=1e-6, rtol=1e-6)
        cache.reorder_cache(torch.tensor([1, 0]))
        torch.testing.assert_close(steps(cache, IDS[:, 40:50].flip(0)).flip(0), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_infllm_holds_on_the_device_what_its_options_say(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Window, block and group in the tail; first tokens and looked-up blocks of the last lookup; however long the text."""
    monkeypatch.setattr(packing, "GROUP_TOKENS", 4)
    model, ids = tiny("llama"), torch.cat([IDS] * 4, dim=1)
    with attach(model, INFLLM) as w:
        cache = w.prefill(ids, chunk_tokens=12)
        model(ids[:, :1], past_key_values=cache)
        for store in cache.stores:
            assert store.held().tolist() == [[241, 241]] * 2
            assert len(store.tail) < 12 + 4 + 4
            assert store.tail.keys.shape[2] < 64
            assert store.looked.keys.shape[2] <= 2 + 2 * 4 + 4
        asked, fetched = cache.apart
        assert 0 < fetched < asked
