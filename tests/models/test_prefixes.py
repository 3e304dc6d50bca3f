"""A prompt whose beginning was kept is answered as if it had been read from its start."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from baywindow import recipe
from baywindow.errors import BayError, SourceError
from baywindow.models.base import Message, Sampling
from baywindow.models.prefixes import BLOCK_TOKENS, Prefix

TEXT = "\n\n".join(f"Room {n} holds the {('blue', 'green', 'red')[n % 3]} box and the key {n * 37 % 101}." for n in range(24))
SAMPLING = Sampling(max_new_tokens=24)


class Remembering(Prefix):
    """Keeps one state and gives it again."""

    def __init__(self, ids, state=None):
        self.ids, self.key, self.state = ids, ids, state
        self.read_tokens = []

    def longest(self, load):
        return self.state

    def keep(self, state, read_tokens, seconds):
        self.state = state
        self.read_tokens.append(read_tokens)


def asking(question, text=TEXT):
    return [Message("system", "Answer."), Message("user", f"{text}\n\n{question}")]


def beginning(model, question, text=TEXT):
    return model.beginning(asking(question, text), asking("", text), SAMPLING)


@pytest.fixture
def model(load):
    made = load(chat=True)
    made.context_length = 8192
    return made


def answers(model, questions, prefix=None, sampling=SAMPLING):
    together = model.together([asking(q) for q in questions], [sampling] * len(questions), prefix)
    for _ in together:
        pass
    return [together.completion(i) for i in range(len(questions))]


def logits_of(model, monkeypatch, act):
    """Every logit that was computed meanwhile."""
    from baywindow.models.transformers import loop

    seen, forward = [], loop.forward
    with monkeypatch.context() as patched:
        patched.setattr(loop, "forward", lambda *args, **more: seen.append(forward(*args, **more)) or seen[-1])
        act()
    return seen


def test_the_beginning_is_whole_blocks_that_no_question_changes(model):
    found = beginning(model, "Where is the key 37?")
    assert len(found) % BLOCK_TOKENS == 0
    assert found == beginning(model, "Which box?")
    whole = model.prompt_tokens(asking(""), SAMPLING)
    assert whole - BLOCK_TOKENS <= len(found) < whole
    assert beginning(model, "Which box?", "Short.") == ()
    assert model.beginning("x" * 600, "x" * 600, SAMPLING) == tuple(model.text_ids("x" * 600)[:512])
    assert len(model.beginning("x" * 513, "x" * 513, SAMPLING)) == 256  # one token behind it would look like a step of decoding


@pytest.mark.parametrize("inside", ["", "snapkv(budget_tokens=64)", "kivi(bits=4, residual_tokens=32)", "self_extend(group_tokens=8)"])
def test_bit_for_bit_with_and_without(model, monkeypatch, inside):
    import torch

    def check(view):
        plain = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"]))
        prefix = Remembering(beginning(model, "Which box?"))
        first = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"], prefix))
        assert prefix.read_tokens == [len(prefix.ids)]
        for _ in range(2):  # asking changes nothing of what was kept
            again = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"], prefix))
            assert len(again) == len(plain) - len(prefix.ids) // BLOCK_TOKENS
            assert all(torch.equal(a, b) for a, b in zip(plain[::-1], again[::-1], strict=False))
        assert all(torch.equal(a, b) for a, b in zip(plain, first, strict=True))
        (other,) = answers(view, ["Where is the key 37?"], prefix)
        assert other.text == view.generate(asking("Where is the key 37?"), SAMPLING).completion.text
        assert (other.cached_tokens, other.prompt_tokens) == (
            len(prefix.ids),
            model.prompt_tokens(asking("Where is the key 37?"), SAMPLING),
        )

    if not inside:
        check(model)
        return
    with model.attached(recipe.parse(inside).inside) as view:
        check(view)


def test_a_state_serves_a_longer_beginning(model):
    short = Remembering(beginning(model, "?", TEXT[:700]))
    assert 0 < len(short.ids) < len(beginning(model, "?"))
    # What was kept of the shorter text ends in a block that the longer one shares.
    ids = tuple(beginning(model, "?")[: len(short.ids)])
    assert ids == short.ids
    for _ in model.together([asking("?", TEXT[:700])], [SAMPLING], short):
        pass
    longer = Remembering(beginning(model, "Which box?"), short.state)
    (said,) = answers(model, ["Which box?"], longer)
    assert longer.read_tokens == [len(longer.ids) - len(short.ids)]
    assert (said.cached_tokens, said.text) == (len(short.ids), answers(model, ["Which box?"])[0].text)


def test_several_questions_share_one_beginning(model):
    questions = ["Which box?", "Where is the key 37?", "How many?"]
    prefix = Remembering(beginning(model, questions[0]))
    together = answers(model, questions, prefix)
    assert [one.text for one in together] == [answers(model, [q])[0].text for q in questions]
    assert [one.cached_tokens for one in answers(model, questions, prefix)] == [len(prefix.ids)] * 3
    assert prefix.state.tokens == len(prefix.ids)


@pytest.mark.parametrize("inside", ["", "snapkv(budget_tokens=64)"])
def test_exact_files_give_the_same_bits_and_coded_ones_come_near(model, tmp_path, monkeypatch, inside):
    import torch

    def check(view):
        prefix = Remembering(beginning(model, "Which box?"))
        plain = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"], prefix))
        assert prefix.state.save(tmp_path / "exact", "exact")
        assert prefix.state.save(tmp_path / "coded", "4")
        nbytes = {name: sum(f.stat().st_size for f in (tmp_path / name).iterdir()) for name in ("exact", "coded")}
        assert nbytes["coded"] < nbytes["exact"] / 3  # of 32 bits
        prefix.state = view.states.load(tmp_path / "exact")
        again = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"], prefix))
        assert all(torch.equal(a, b) for a, b in zip(plain[::-1], again[::-1], strict=False))
        prefix.state = view.states.load(tmp_path / "coded")
        near = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"], prefix))
        error = (near[0] - again[0]).abs().max() / again[0].abs().max()
        assert 0 < error < 0.2  # 63 steps from the smallest to the largest of a token's values

    if not inside:
        check(model)
        return
    with model.attached(recipe.parse(inside).inside) as view:
        check(view)


def test_damage_is_refused(model, tmp_path):
    prefix = Remembering(beginning(model, "Which box?"))
    answers(model, ["Which box?"], prefix)
    for level in ("exact", "3"):
        folder = tmp_path / level
        prefix.state.save(folder, level)
        for file in folder.iterdir():
            whole = file.read_bytes()
            for bad in (whole[: len(whole) // 2], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b""):
                file.write_bytes(bad)
                with pytest.raises(BayError):
                    model.states.load(folder)
            file.write_bytes(whole)
        assert model.states.load(folder).tokens == prefix.state.tokens


def test_a_state_of_another_shape_is_refused(model, load, tmp_path):
    from dataclasses import replace

    from baywindow.models.transformers.prefixes import Plain

    prefix = Remembering(beginning(model, "Which box?"))
    answers(model, ["Which box?"], prefix)
    layers = prefix.state.layers
    short = [replace(layer, keys=layer.keys[:, :, :-1].clone()) for layer in layers]
    for n, wrong in enumerate((layers[:1], short, [replace(layer, values=layer.values.half()) for layer in layers])):
        Plain(wrong, prefix.state.tokens).save(tmp_path / str(n), "exact")
        with pytest.raises(SourceError, match="shapes"):
            model.states.load(tmp_path / str(n))


def test_layers_with_a_sliding_window_keep_what_it_needs(byte_tokenizer, tmp_path):
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    from baywindow.models.transformers import TransformersModel

    tokenizer = byte_tokenizer(chat=True)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
        num_key_value_heads=2, sliding_window=100, layer_types=["sliding_attention", "full_attention"], initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Gemma3ForCausalLM(config).eval().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = TransformersModel(str(tmp_path / "model"), device="cpu", dtype="float32")
    prefix = Remembering(beginning(model, "Which box?"))
    (plain,), (first,) = answers(model, ["Which box?"]), answers(model, ["Which box?"], prefix)
    assert [layer.keys.shape[2] for layer in prefix.state.layers] == [99, len(prefix.ids)]
    assert prefix.state.save(tmp_path / "state", "exact")
    prefix.state = model.states.load(tmp_path / "state")
    (again,) = answers(model, ["Which box?"], prefix)
    assert plain.text == first.text == again.text
    assert len(plain.text) > 5


def test_prompts_read_beside_each_other_from_a_real_store(model, tmp_path: Path):
    """Long prompts with the same beginning, another long one and a short one, at once, over the engine."""
    from baywindow.server.engine import Engine
    from baywindow.server.prefixes import CacheOptions, PrefixStore
    from baywindow.server.wrapped import Queued

    store = PrefixStore(tmp_path, CacheOptions(level="exact"))
    engine = Engine(model, prefixes=store)
    view = Queued(engine, "a", threading.Event())
    prompts = [asking("Which box?"), asking("How many?"), asking("Which box?", TEXT[::-1]), [Message("user", "Hello.")]]
    try:
        expected = [model.generate(prompt, SAMPLING).completion.text for prompt in prompts]
        assert view.generate(prompts[0], SAMPLING).completion.cached_tokens == 0
        streams = [view.generate(prompt, SAMPLING) for prompt in prompts]
        found = [stream.completion for stream in streams]
        assert [one.text for one in found] == expected
        assert [one.cached_tokens > 0 for one in found] == [True, True, False, False]
    finally:
        engine.close()
