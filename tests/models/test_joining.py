"""Rows that join and leave a running batch: each says what it would say alone, in little more memory than it needs."""

from __future__ import annotations

import pytest

from baywindow.errors import ContextLengthError
from baywindow.models.base import Message, Sampling
from baywindow.models.prefixes import Prefix

LONG = Sampling(max_new_tokens=40)


def prompt(n, word="and the "):
    return [Message("user", word * n)]


@pytest.fixture(params=["full", "sliding"])
def model(request, load, byte_tokenizer, tmp_path):
    """Random weights; with full attention, or with a layer that sees seven tokens back."""
    if request.param == "full":
        return load(chat=True)
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    from baywindow.models.transformers import TransformersModel

    tokenizer = byte_tokenizer(chat=True)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
        num_key_value_heads=2, sliding_window=8, layer_types=["sliding_attention", "full_attention"], initializer_range=0.2,
        max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Gemma3ForCausalLM(config).eval().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return TransformersModel(str(tmp_path / "model"), device="cpu", dtype="float32")


class Seen:
    """Chooses as the model's own chooser does, and keeps the logits it saw, in order, by the reply they are for."""

    def __init__(self, model, monkeypatch):
        self.logits = {}
        make = model.chooser

        def chooser(sampling, rows=1):
            inner, kept = make(sampling, rows), self.logits.setdefault(len(self.logits), [])

            def choose(logits):
                kept.append(logits[0].clone())
                return inner(logits)

            choose.picks = inner.picks
            return choose

        monkeypatch.setattr(model, "chooser", chooser)


def run(batch, joining):
    """Run to the end; ``joining`` gives what joins after a step, by its number. Texts by row, and the rows and columns of each step."""
    texts, sizes = {}, []
    for n, step in enumerate(batch):
        for row, text in enumerate(step):
            texts[row] = texts.get(row, "") + text
        sizes.append((len(batch._numbers), batch._flight.mask.shape[1] if batch._flight is not None else 0))
        for one in joining.get(n, ()):
            batch.join(*one)
    return texts, sizes


def test_who_joins_late_is_answered_as_alone(model, monkeypatch):
    asked = [(prompt(4), Sampling(max_new_tokens=30)), (prompt(9), Sampling(max_new_tokens=25)), (prompt(1, "the x "), LONG)]
    seen = Seen(model, monkeypatch)
    texts, alone = [], []
    for p, s in asked:
        one = model.together([p], [s])
        texts.append("".join(step[0] for step in one))
        alone.append(one.completion(0))
    batch = model.together([asked[0][0]], [asked[0][1]])
    said, sizes = run(batch, {3: [[[asked[1][0]], [asked[1][1]]]], 10: [[[asked[2][0]], [asked[2][1]]]]})
    assert [said[row] for row in range(3)] == texts
    assert [batch.completion(row) for row in range(3)] == alone
    for row in range(3):
        assert len(seen.logits[row]) == len(seen.logits[3 + row]) > 1
        for ours, theirs in zip(seen.logits[row], seen.logits[3 + row], strict=True):
            assert (ours - theirs).abs().max() < 1e-4
    assert max(rows for rows, _ in sizes) == 3


def test_who_leaves_takes_its_columns_along(model):
    """The long prompt is done after five steps; then the cache holds no more than the short one needs."""
    batch = model.together([prompt(1), prompt(9)], [LONG, Sampling(max_new_tokens=5)])
    _, sizes = run(batch, {})
    short, long = (model.prompt_tokens(prompt(n), LONG) for n in (1, 9))
    assert sizes[4] == (2, long + 4)
    assert sizes[5] == (1, short + 5)
    assert sizes[-1] == (1, short + batch.completion(0).generated_tokens - 1)


def test_layers_hold_what_the_mask_says(model):
    batch = model.together([prompt(3), prompt(9)], [LONG, Sampling(max_new_tokens=5)])
    for n, _ in enumerate(batch):
        rows, columns = batch._flight.mask.shape
        for layer in batch._flight.cache.layers:
            width = min(columns, layer.sliding_window - 1) if layer.is_sliding else columns
            assert layer.keys.shape[::2] == layer.values.shape[::2] == (rows, width)
            assert layer.get_seq_length() == columns
        if n == 2:
            batch.join([prompt(12)], [Sampling(max_new_tokens=6)])
    assert n > 9


def test_those_who_are_answered_do_not_wait_for_a_long_prompt(model, monkeypatch):
    """A piece of it is read between two steps."""
    from baywindow.models.transformers import loop

    alone = model.generate(prompt(9), Sampling(max_new_tokens=3)).completion.text
    monkeypatch.setitem(loop.CHUNK_TOKENS, "cpu", 16)
    batch = model.together([prompt(1)], [LONG])
    tokens = []
    for _ in batch:
        tokens.append([row.reply.generated_tokens for row in batch._rows])
        if tokens[-1] == [1]:
            batch.join([prompt(9)], [Sampling(max_new_tokens=3)])
    began = tokens.index([1]) + 1
    pieces = -(-model.prompt_tokens(prompt(9), LONG) // 16)
    assert pieces >= 3
    assert tokens[began : began + pieces] == [[2 + i, int(i == pieces - 1)] for i in range(pieces)]
    assert batch.completion(1).text == alone


def test_a_cancelled_or_late_newcomer_is_not_read_on(model, monkeypatch):
    from baywindow.models.transformers import loop

    monkeypatch.setitem(loop.CHUNK_TOKENS, "cpu", 16)
    batch = model.together([prompt(1)], [LONG])
    for n, _ in enumerate(batch):
        if n == 0:
            batch.join([prompt(9)], [LONG])
            batch.join([prompt(9)], [Sampling(max_new_tokens=3, seconds=0)])
        if n == 1:
            batch.drop(1)
    assert (batch.completion(1).finish, batch.completion(1).generated_tokens) == ("cancelled", 0)
    assert (batch.completion(2).finish, batch.completion(2).generated_tokens) == ("deadline", 0)
    assert batch.completion(0).generated_tokens == 40 or batch.completion(0).finish == "stop"


def test_a_row_that_runs_out_of_time_while_others_go_on(model, monkeypatch):
    batch = model.together([prompt(1), prompt(2)], [LONG, LONG])
    for n, _ in enumerate(batch):
        if n == 3:
            monkeypatch.setattr(batch._rows[0].clock, "running", lambda: False)
    assert (batch.completion(0).finish, batch.completion(0).generated_tokens) == ("deadline", 4)
    assert batch.completion(1).generated_tokens > 4


def test_a_prompt_that_is_too_long_does_not_join(model):
    batch = model.together([prompt(1)], [LONG])
    for n, _ in enumerate(batch):
        if n == 0:
            with pytest.raises(ContextLengthError):
                batch.join([prompt(1), prompt(90)], [LONG, LONG])
    assert len(batch._rows) == 1


def test_newcomers_may_share_a_beginning(model):
    """It is read once for both, or was read before."""

    class Kept(Prefix):
        key = near = "x"

        def __init__(self, ids):
            self.ids, self.state, self.read = ids, None, []

        def longest(self, load):
            return self.state

        def keep(self, state, read_tokens, seconds):
            self.state = state
            self.read.append(read_tokens)

    asked = [[Message("user", "and the " * 6 + end)] for end in ("x", "the y")]
    alone = [model.generate(p, LONG).completion for p in asked]
    ids = model.begun(asked[0], LONG)[0][:20]
    prefix = Kept(tuple(ids))
    batch = model.together([prompt(2)], [LONG])
    for n, _ in enumerate(batch):
        if n in (1, 3):
            batch.join(asked, [LONG, LONG], prefix)
    assert [batch.completion(row).text for row in range(1, 5)] == [done.text for done in alone] * 2
    assert [batch.completion(row).cached_tokens for row in range(5)] == [0, 0, 0, 20, 20]
    assert prefix.read == [20]


def test_room_is_bounded_by_rows_memory_and_time(model, monkeypatch):
    from baywindow.models.transformers import batching, together

    each = batching.kv_bytes_per_token(model.model)
    most = batching._MOST_ROWS["cpu"]
    batch = model.together([prompt(1), prompt(2)], [LONG, LONG])
    assert batch.room(10, 10) == 0  # nothing runs yet
    steps = iter(batch)
    next(steps)
    assert batch.room(10, 10) == most - 2
    batch.join([prompt(1)], [LONG])
    assert batch.room(10, 10) == most - 3  # who is being read counts
    columns = batch._flight.mask.shape[1]
    reach = columns + 39
    for tokens, rows in ((3 * (reach - columns) + 2 * reach, 2), (3 * (reach - columns) + 2 * reach - 1, 1)):
        # Three rows grow to where they reach; a quarter of what is free is theirs and the newcomers'.
        monkeypatch.setattr(batching, "free_bytes", lambda device, tokens=tokens: 4 * each * tokens)
        assert batch.room(10, 10) == rows
    monkeypatch.undo()
    monkeypatch.setattr(together, "MOST_EVER", 4)
    assert batch.room(10, 10) == 1
    monkeypatch.setattr(model, "attached_to", True)
    assert batch.room(10, 10) == 0


def test_a_cache_of_another_kind_stays_as_it_began(model):
    """Its rows are fed on until the last one is done."""
    stock = model.new_cache

    class Odd(type(stock().layers[0])):
        pass

    def odd():
        cache = stock()
        cache.layers[0].__class__ = Odd
        return cache

    if stock().layers[0].is_sliding:
        pytest.skip("one kind is enough")
    alone = [model.generate(prompt(n), s).completion for n, s in ((1, LONG), (3, Sampling(max_new_tokens=4)))]
    model.new_cache = odd
    batch = model.together([prompt(1), prompt(3)], [LONG, Sampling(max_new_tokens=4)])
    sizes = set()
    for _ in batch:
        sizes.add(len(batch._numbers))
        assert batch.room(1, 1) == 0
    assert sizes == {2}
    assert [batch.completion(row) for row in range(2)] == alone
