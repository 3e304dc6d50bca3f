"""A prompt whose beginning was kept is answered as if it had been read from its start."""

from __future__ import annotations

import math
import threading

import pytest

from baywindow import recipe
from baywindow.errors import BayError, SourceError
from baywindow.models.base import Message, Sampling
from baywindow.models.prefixes import BLOCK_TOKENS, Prefix, whole_blocks
from baywindow.models.stable import stable_part

TEXT = "\n\n".join(f"Room {n} holds the {('blue', 'green', 'red')[n % 3]} box and the key {n * 37 % 101}." for n in range(24))
SAMPLING = Sampling(max_new_tokens=24)


class Remembering(Prefix):
    """Keeps one state and gives it again."""

    def __init__(self, ids, state=None):
        self.ids, self.key, self.near, self.state = ids, ids, ids[: whole_blocks(len(ids))], state
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


def sizes_of(model, monkeypatch, act):
    """The tokens of every forward meanwhile."""
    from baywindow.models.transformers import loop

    seen, forward = [], loop.forward
    with monkeypatch.context() as patched:
        patched.setattr(loop, "forward", lambda m, ids, *more, **named: seen.append(ids.shape[1]) or forward(m, ids, *more, **named))
        act()
    return seen


def test_the_beginning_is_all_that_no_question_changes(model):
    found = beginning(model, "Where is the key 37?")
    assert found == beginning(model, "Which box?")
    assert model.tokenizer.decode(found) == f"<|im_start|>system\nAnswer.<|im_end|>\n<|im_start|>user\n{TEXT}\n\n"
    # Of text that is all question the last two tokens are left: one alone would look like a step of decoding.
    assert model.beginning("x" * 600, "x" * 600, SAMPLING) == tuple(model.text_ids("x" * 600)[:598])
    assert len(model.beginning("x" * 515, "x" * 515, SAMPLING)) == 512  # and so would one behind the whole blocks


def test_a_prompt_is_read_in_pieces_of_a_block_and_its_question_apart(model, monkeypatch):
    """Whatever reads it by itself: the same pieces, and so the same reply, as where its beginning is kept."""
    prompt, stable = asking("Which box?"), len(beginning(model, "Which box?"))
    assert stable == 850
    question = model.prompt_tokens(prompt, SAMPLING) - stable
    one = Sampling(max_new_tokens=1)
    expected = [256, 256, 256, 82, question]
    assert sizes_of(model, monkeypatch, lambda: model.generate(prompt, one).completion) == expected
    assert sizes_of(model, monkeypatch, lambda: model.generate_many([prompt], one)) == expected
    assert sizes_of(model, monkeypatch, lambda: answers(model, ["Which box?"], sampling=one)) == expected
    prefix = Remembering(beginning(model, "Which box?"))
    assert sizes_of(model, monkeypatch, lambda: answers(model, ["Which box?"], prefix, one)) == expected
    assert sizes_of(model, monkeypatch, lambda: answers(model, ["Which box?"], prefix, one)) == [question]
    short = [Message("user", "x" * 300 + "\n\nWhich box?")]  # its beginning would not be kept
    assert len(sizes_of(model, monkeypatch, lambda: model.generate(short, one).completion)) == 2


@pytest.mark.parametrize("inside", ["", "snapkv(budget_tokens=64)", "kivi(bits=4, residual_tokens=32)", "self_extend(group_tokens=8)"])
def test_bit_for_bit_with_and_without(model, monkeypatch, inside):
    import torch

    def check(view):
        plain = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"]))
        ids = beginning(model, "Which box?")
        prefix = Remembering(ids[: whole_blocks(len(ids))] if inside else ids)  # as `PrefixStore.of` has it
        first = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"], prefix))
        assert prefix.read_tokens == [len(prefix.ids)]
        for _ in range(2):  # asking changes nothing of what was kept
            again = logits_of(view, monkeypatch, lambda: answers(view, ["Which box?"], prefix))
            assert len(again) == len(plain) - math.ceil(len(prefix.ids) / BLOCK_TOKENS)
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


def test_a_state_serves_a_longer_beginning_from_its_whole_blocks(model, monkeypatch):
    """Those a longer prompt reads too, while its pieces do not end where the shorter one's question began: bit for bit again."""
    import torch

    short = Remembering(beginning(model, "?", TEXT[:700]))
    for _ in model.together([asking("?", TEXT[:700])], [SAMPLING], short):
        pass
    whole = whole_blocks(len(short.ids))
    assert 0 < whole < len(short.ids) == short.state.tokens
    state = short.state.upto(whole)
    assert all(a.keys.data_ptr() == b.keys.data_ptr() for a, b in zip(state.layers, short.state.layers, strict=True))  # no copy
    longer = Remembering(beginning(model, "Which box?"), state)
    plain = logits_of(model, monkeypatch, lambda: answers(model, ["Which box?"]))
    again = logits_of(model, monkeypatch, lambda: answers(model, ["Which box?"], longer))
    assert longer.read_tokens == [len(longer.ids) - whole]
    assert all(torch.equal(a, b) for a, b in zip(plain[::-1], again[::-1], strict=False))


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


@pytest.mark.parametrize("window", [100, 800, 2000])
def test_layers_with_a_sliding_window_keep_what_it_needs(byte_tokenizer, tmp_path, monkeypatch, window):
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    from baywindow.models.transformers import TransformersModel

    tokenizer = byte_tokenizer(chat=True)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
        num_key_value_heads=2, sliding_window=window, layer_types=["sliding_attention", "full_attention"], initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Gemma3ForCausalLM(config).eval().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = TransformersModel(str(tmp_path / "model"), device="cpu", dtype="float32")
    ids = beginning(model, "Which box?")
    prefix = Remembering(ids)
    plain = logits_of(model, monkeypatch, lambda: answers(model, ["Which box?"]))
    assert len(plain) > 5 + math.ceil(len(ids) / BLOCK_TOKENS)

    def check():
        again = logits_of(model, monkeypatch, lambda: answers(model, ["Which box?"], prefix))
        assert all(torch.equal(a, b) for a, b in zip(plain[::-1], again[::-1], strict=False))

    check()
    whole = prefix.state
    assert [layer.keys.shape[2] for layer in whole.layers] == [min(window - 1, len(ids)), len(ids)]
    assert sum(layer.keys.shape[2] for layer in whole.marked.values()) == (min(window - 1, 768) if window < len(ids) else 0)
    check()
    prefix.state = whole.upto(768)
    assert [layer.keys.shape[2] for layer in prefix.state.layers] == [min(window - 1, 768), 768]
    check()
    for n, state in enumerate((whole, whole.upto(768))):
        assert state.save(tmp_path / f"state{n}", "exact")
        prefix.state = model.states.load(tmp_path / f"state{n}")
        check()
    # What has slid away is not written, so a file can be cut back only where nothing has.
    loaded = model.states.load(tmp_path / "state0")
    assert (loaded.upto(768) is None) == (window < len(ids))


@pytest.fixture
def server(model, tmp_path):
    """The model as a tenant sees it through an engine with a document cache, again and again on one folder."""
    from baywindow.server.engine import Engine
    from baywindow.server.prefixes import CacheOptions, PrefixStore
    from baywindow.server.wrapped import Queued

    running = []

    def start(tenant="a", **options):
        while running:
            running.pop().close()
        running.append(Engine(model, prefixes=PrefixStore(tmp_path, CacheOptions(**{"level": "exact"} | options))))
        return lambda who=tenant, inside=(): Queued(running[0], who, threading.Event(), inside)

    yield start
    running.pop().close()


def test_of_a_second_question_only_what_stands_behind_the_text_is_read(model, server, monkeypatch):
    stable, one = len(beginning(model, "?")), Sampling(max_new_tokens=1)
    questions = ["Which box?", "Where is the key 37?", "How many?"]
    behind = [model.prompt_tokens(asking(q), one) - stable for q in questions]

    def sizes(view, question):
        return sizes_of(model, monkeypatch, lambda: view.generate(asking(question), one).completion)

    view = server()
    assert sizes(view(), questions[0]) == [256, 256, 256, 82, behind[0]]
    assert sizes(view(), questions[1]) == [behind[1]]
    assert sizes(view("b"), questions[1]) == [256, 256, 256, 82, behind[1]]  # another tenant's is another's
    view = server()  # the first one wrote what had been used again
    assert sizes(view(), questions[2]) == [behind[2]]
    assert sizes(view("b"), questions[2]) == [256, 256, 256, 82, behind[2]]


def test_a_conversation_goes_on_from_the_whole_blocks_of_what_it_was(model, server, monkeypatch):
    """Its stable part has grown; so has that of a question in two paragraphs, which belongs to it for the most part."""
    one = Sampling(max_new_tokens=1)
    view = server()
    view().generate(asking("Which box?"), one).completion
    grown = [*asking("Which box?"), Message("assistant", "The blue one."), Message("user", "And which key?")]
    for prompt in (grown, asking("Be brief.\n\nWhich box?")):
        tokens, stable = model.prompt_tokens(prompt, one), len(model.beginning(prompt, stable_part(prompt), one))
        assert 850 < stable < 1024
        read = sizes_of(model, monkeypatch, lambda prompt=prompt: view().generate(prompt, one).completion)
        assert read == [stable - 768, tokens - stable]
    assert server()().generate(grown, one).completion.cached_tokens == 768  # that was used, so it is on disk


def test_what_memory_has_no_room_for_is_found_on_disk_by_either_length(model, server):
    server(memory_bytes=0)().generate(asking("Which box?"), SAMPLING).completion
    view = server(memory_bytes=0)
    assert view().generate(asking("How many?"), SAMPLING).completion.cached_tokens == 850
    assert view().generate(asking("Be brief.\n\nHow many?"), SAMPLING).completion.cached_tokens == 768


def test_with_techniques_inside_whole_blocks_are_kept(model, server):
    view = server()
    inside = recipe.parse("snapkv(budget_tokens=64)").inside
    found = [view("a", inside).generate(asking(q), SAMPLING).completion.cached_tokens for q in ("Which box?", "How many?")]
    assert found == [0, 768]


def test_a_batch_shares_what_all_begin_with(model, server):
    """The whole text where only the last paragraph differs, else its whole blocks."""
    view = server()
    view().generate(asking("?"), SAMPLING).completion
    for questions, shared in (("Which box?", "How many?"), 850), (("A.\n\nWhich box?", "B.\n\nHow many?"), 768):
        expected = [model.generate(asking(q), SAMPLING).completion.text for q in questions]
        rows = view().together([asking(q) for q in questions], [SAMPLING] * 2)
        for _ in rows:
            pass
        found = [rows.completion(i) for i in range(2)]
        assert [(one.text, one.cached_tokens) for one in found] == [(text, shared) for text in expected]


def test_prompts_read_beside_each_other_from_a_real_store(model, server):
    """Long prompts with the same beginning, another long one and a short one, at once, over the engine."""
    view = server()()
    prompts = [asking("Which box?"), asking("How many?"), asking("Which box?", TEXT[::-1]), [Message("user", "Hello.")]]
    expected = [model.generate(prompt, SAMPLING).completion.text for prompt in prompts]
    assert view.generate(prompts[0], SAMPLING).completion.cached_tokens == 0
    streams = [view.generate(prompt, SAMPLING) for prompt in prompts]
    found = [stream.completion for stream in streams]
    assert [one.text for one in found] == expected
    assert [one.cached_tokens > 0 for one in found] == [True, True, False, False]
