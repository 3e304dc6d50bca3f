"""Offload: the same answers from the other side of a boundary, which is stood in for here by a fake device that counts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from baywindow.errors import CapabilityError, ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.block import Flat
from baywindow.window.caches import offload
from baywindow.window.caches.base import PlainSegment
from baywindow.window.caches.offload import Boundary, Fetch, HostSegment, Offload

IDS = torch.randint(1, 97, (2, 40), generator=torch.Generator().manual_seed(2))


class FakeDevice(Boundary):
    """What lies on the device is a fresh copy that is counted while it is alive; the host's copy is another one."""

    ahead = True

    def __init__(self) -> None:
        self.alive = 0
        self.most = 0
        self.events: list[str] = []
        self.owners: dict[int, str] = {}

    def down(self, tensor: Any) -> Any:
        self.events.append("down")
        return tensor.clone()

    def up(self, tensors: Mapping[str, Any], device: Any) -> Fetch:
        self.events.append("up")
        found = {}
        for name, tensor in tensors.items():
            found[name] = tensor.clone()
            nbytes = found[name].untyped_storage().nbytes()
            self.alive += nbytes
            weakref.finalize(found[name], self._gone, nbytes)
        self.most = max(self.most, self.alive)
        return Fetch(found, lambda: self.events.append("wait"))

    def _gone(self, nbytes: int) -> None:
        self.alive -= nbytes


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    device = FakeDevice()
    monkeypatch.setattr(offload, "boundary_of", lambda _: device)
    return device


def flat_of(*counts: int) -> Flat:
    n = sum(counts)
    values = torch.arange(n * 4, dtype=torch.float32).reshape(n, 4)
    return Flat(keys=values, values=values + 100, positions=torch.arange(n, dtype=torch.int32), counts=torch.tensor([list(counts)]))


def test_worked_example(fake: FakeDevice) -> None:
    """Down once a tensor when it is put away; up ahead of time; waited for when read; the second read has to fetch again."""
    segment = Offload().put(PlainSegment(flat_of(2, 1)), torch.device("cpu"))
    assert fake.events == ["down"] * 3  # keys, values, positions; counts never leave the host
    segment.prefetch()
    segment.prefetch()  # once is enough
    assert fake.events[3:] == ["up"]
    read = segment.flat()
    assert fake.events[4:] == ["wait"]
    assert torch.equal(read.keys, flat_of(2, 1).keys)
    assert torch.equal(read.values, flat_of(2, 1).values)
    segment.flat()
    assert fake.events[5:] == ["up", "wait"]


def test_what_was_read_is_let_go(fake: FakeDevice) -> None:
    segment = Offload().put(PlainSegment(flat_of(2, 1)), torch.device("cpu"))
    segment.prefetch()
    read = segment.flat()
    assert fake.alive == 3 * 4 * 4 * 2 + 3 * 4  # keys and values in float32, positions in int32
    del read
    assert fake.alive == 0


def test_put_away_once_and_rows_of_it(fake: FakeDevice) -> None:
    segment = Offload().put(PlainSegment(flat_of(2, 1)), torch.device("cpu"))
    assert Offload().put(segment, torch.device("cpu")) is segment
    assert segment.kind is PlainSegment
    twice = segment.rows(torch.tensor([0, 0]))
    assert isinstance(twice, HostSegment)
    assert twice.counts.tolist() == [[2, 1], [2, 1]]
    assert torch.equal(twice.flat().keys, flat_of(2, 1).keys.repeat(2, 1))
    with pytest.raises(CapabilityError, match="kind it holds"):
        HostSegment.restore({})


@torch.no_grad()
@pytest.mark.parametrize("rest", ["", " + kivi(bits=4, group_tokens=4, residual_tokens=4)", " + snapkv(budget_tokens=12, window_tokens=4)"])
def test_the_same_answers_as_without(rest: str, fake: FakeDevice, tiny: Callable[..., Any]) -> None:
    """Bit for bit, in a batch with a padded row, over a prompt and ten tokens, alone and after other caches."""
    model = tiny("llama")
    mask = torch.ones_like(IDS)
    mask[1, :9] = 0

    def answer(recipe: str) -> tuple[Any, Any]:
        with attach(model, recipe) as w:
            cache = w.cache()
            out = model.generate(
                IDS * mask, attention_mask=mask, past_key_values=cache, max_new_tokens=10, do_sample=False, output_logits=True,
                return_dict_in_generate=True,
            )  # fmt: skip
        return torch.stack(out.logits), cache

    here, _ = answer(f"stock{rest}".replace("stock + ", ""))
    there, cache = answer(f"offload(group_tokens=4){rest}")
    torch.testing.assert_close(there, here, atol=1e-5, rtol=1e-5)
    assert torch.equal(there.argmax(dim=-1), here.argmax(dim=-1))
    assert "up" in fake.events
    assert all(isinstance(s, HostSegment) for store in cache.stores for s in store.segments)


@torch.no_grad()
def test_the_device_never_holds_more_than_two_layers(fake: FakeDevice, tiny: Callable[..., Any]) -> None:
    """While one layer is read the next one's content is on its way, and nothing else is on the device."""
    model = tiny("llama")
    with attach(model, "offload(group_tokens=4)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        one_layer = sum(t.numel() * t.element_size() for n, t in cache.store(0).segments[0].tensors().items() if n != "counts")
        fake.most = fake.alive
        for i in range(3):
            model(IDS[:, i : i + 1], past_key_values=cache)
    assert cache.store(0).segments[0].counts.tolist() == [[40, 40], [40, 40]]
    assert one_layer <= fake.most <= 2 * one_layer
    assert fake.alive <= one_layer  # the first layer's, fetched for the next token


@torch.no_grad()
def test_each_layer_is_fetched_before_it_is_needed(fake: FakeDevice, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    with attach(model, "offload(group_tokens=4)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        model(IDS[:, :1], past_key_values=cache)
        order: list[str] = []
        layer_of = {id(store.segments[0]): i for i, store in enumerate(cache.stores)}
        start, read = HostSegment.prefetch, HostSegment.flat
        monkeypatch.setattr(HostSegment, "prefetch", lambda s: (order.append(f"fetch {layer_of[id(s)]}"), start(s))[1])
        monkeypatch.setattr(HostSegment, "flat", lambda s: (order.append(f"read {layer_of[id(s)]}"), read(s))[1])
        model(IDS[:, 1:2], past_key_values=cache)
    assert order == ["fetch 1", "read 0", "fetch 2", "read 1", "fetch 0", "read 2"]


@torch.no_grad()
def test_on_a_cpu_nothing_is_copied(tiny: Callable[..., Any]) -> None:
    segment = PlainSegment(flat_of(2, 1))
    assert Offload().put(segment, torch.device("cpu")).flat().keys.data_ptr() == segment.flat().keys.data_ptr()


def test_claim_recent_tokens_stay_on_the_device_until_there_is_a_group(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with torch.no_grad(), attach(model, "offload(group_tokens=5)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        stay = []
        for i in range(6):
            model(IDS[:, i : i + 1], past_key_values=cache)
            tail = cache.store(0).tail
            stay.append(0 if tail is None else len(tail))
    assert stay == [1, 2, 3, 4, 0, 1]


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="group_tokens"):
        Offload(group_tokens=0)


def test_cost_reads_everything_back() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, element_bytes=4)
    assert Offload().cost(shape).bytes_read == Offload().cost(shape).bytes_kept == 100 * 2 * 2 * 2 * 8 * 4
