"""Local models: the loop against transformers' own, batches against single prompts, scores against one full forward."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

import torch

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError, ModelError
from baywindow.models.base import Message, Sampling
from baywindow.models.transformers import TransformersModel, batching, loop
from baywindow.models.transformers.device import device_of, dtype_of

PROMPT = [Message("system", "Be kind."), Message("user", "the and an hello")]
PROMPTS = [[Message("user", text)] for text in ("a", "the and " * 9, "hello there", "x" * 60, "b")]


def ids_of(model, prompt):
    return model._renderer.ids(prompt)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_greedy_equals_generate_of_transformers(load, monkeypatch, chunk):
    monkeypatch.setitem(loop.CHUNK_TOKENS, "cpu", chunk)
    model = load(chat=True, seed=3)
    ids = torch.tensor([ids_of(model, PROMPT)])
    expected = model.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
    feed = loop.Feed(rows=ids.tolist(), cache=model.new_cache(), alive=lambda: True)
    steps = loop.step_tokens(model.model, feed, lambda logits: logits.argmax(-1).tolist(), model.lock)
    assert [next(steps)[0] for _ in range(len(expected))] == expected.tolist()


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=12), Sampling(max_new_tokens=12, temperature=1.5, top_p=0.9, seed=5)])
def test_a_batch_gives_what_each_prompt_gives_alone(load, sampling, monkeypatch):
    monkeypatch.setattr(batching, "_LEAST_FILL", 0.0)  # one batch, much padding
    model = load(chat=True, seed=1)
    groups = batching.batches([len(ids_of(model, p)) for p in PROMPTS], 12, model.model)
    assert len(groups) == 1
    assert model.generate_many(PROMPTS, sampling) == [model.generate(p, sampling).completion for p in PROMPTS]


def test_score_equals_one_full_forward(load, monkeypatch):
    monkeypatch.setattr("baywindow.models.transformers.scoring._LOGIT_VALUES", 1)  # the smallest chunks: 16 tokens
    model = load(chat=True, seed=2)
    prompt, continuation = "the and " * 6, "an hello " * 5
    score = model.score(prompt, continuation)
    ids = model.tokenizer(prompt + continuation, add_special_tokens=False).input_ids
    first = len(ids) - len(score.logprobs)
    with torch.no_grad():
        logs = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [float(logs[i - 1, ids[i]]) for i in range(first, len(ids))]
    np.testing.assert_allclose(score.logprobs, expected, atol=1e-5)
    chances = logs[first - 1 : -1].double().exp()
    np.testing.assert_allclose(score.entropies, -(chances * chances.log()).sum(-1), atol=1e-4)
    assert model.tokenizer.convert_tokens_to_string(list(score.tokens)) == continuation


def test_a_token_across_the_border_belongs_to_the_continuation(load):
    # " the" is one token: with the blank in the prompt, the token that spans both is scored, not two halves nobody trained.
    model = load(chat=True)
    assert model.score("an ", "the").tokens == ("Ġthe",)
    assert model.score("an", " the").tokens == ("Ġthe",)


def test_score_of_a_reply_follows_the_chat_template(load):
    model = load(chat=True, seed=2)
    score = model.score(PROMPT, "an")
    ids = torch.tensor([ids_of(model, PROMPT)])
    with torch.no_grad():
        expected = model.model(ids).logits[0, -1].log_softmax(-1)[model.tokenizer.convert_tokens_to_ids("an")]
    assert score.tokens == ("an",)
    assert score.logprobs[0] == pytest.approx(float(expected), abs=1e-5)


def test_score_of_nothing_and_after_nothing(load):
    model = load(chat=True)
    assert model.score("abc", "").logprobs.shape == (0,)
    assert model.score("", "ab").logprobs.shape == (2,)  # the first conditioned on the end of another text


def test_inspect_equals_what_transformers_shows(load):
    model = load(chat=True, seed=2)
    text = "the and 🙂"
    found = model.inspect(text, [0, -1], frozenset({"attention", "hidden"}))
    assert model.model.config._attn_implementation == "sdpa"  # the slow attention is gone again
    ids = torch.tensor([model.tokenizer(text, add_special_tokens=False).input_ids])
    model.model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model.model(ids, output_attentions=True, output_hidden_states=True)
    for layer in (0, -1):
        np.testing.assert_allclose(found.attention[layer], out.attentions[layer][0].numpy(), atol=1e-6)
    np.testing.assert_allclose(found.hidden[0], out.hidden_states[1][0].numpy(), atol=1e-6)
    assert found.offsets == ((0, 3), (3, 4), (4, 7), (7, 8), *[(8, 9)] * 4)  # the emoji is four tokens of one character
    assert found.hidden[0].shape == (8, 64)
    with pytest.raises(ConfigError, match="layer"):
        model.inspect(text, [2], frozenset({"hidden"}))


def test_a_prompt_that_does_not_fit_says_by_how_much(load):
    model = load(chat=True)
    have = model.count_tokens(PROMPT)
    with pytest.raises(ContextLengthError, match=f"by {have + 300 - model.context_length} tokens"):
        model.generate(PROMPT, Sampling(max_new_tokens=300))
    with pytest.raises(ContextLengthError):
        model.generate_many([PROMPT], Sampling(max_new_tokens=300))
    with pytest.raises(ContextLengthError):
        model.score("x" * 300, "y")


def test_a_deadline_inside_the_prompt_ends_without_a_token(load, monkeypatch):
    monkeypatch.setitem(loop.CHUNK_TOKENS, "cpu", 1)
    model = load(chat=True)
    forwards = []
    real = loop.forward
    monkeypatch.setattr(loop, "forward", lambda *a, **k: forwards.append(1) or real(*a, **k))
    alive = iter([True, True, False])
    feed = loop.Feed(rows=[ids_of(model, PROMPT)], cache=model.new_cache(), alive=lambda: next(alive))
    assert list(loop.step_tokens(model.model, feed, lambda logits: [0], model.lock)) == []
    assert len(forwards) == 2  # of three chunks of sixteen tokens


def test_a_deadline_that_has_passed_spends_nothing(load):
    model = load(chat=True)
    done = model.generate(PROMPT, Sampling(max_new_tokens=9, seconds=0)).completion
    assert (done.text, done.generated_tokens, done.finish) == ("", 0, "deadline")
    many = model.generate_many([PROMPT, PROMPT], Sampling(max_new_tokens=9, seconds=0))
    assert [(c.text, c.finish, c.prompt_tokens) for c in many] == [("", "deadline", 0)] * 2


def test_closing_a_stream_stops_the_model(load, monkeypatch):
    model = load(chat=True, saying="bäck🙂 END")
    forwards = []
    real = loop.forward
    monkeypatch.setattr(loop, "forward", lambda *a, **k: forwards.append(1) or real(*a, **k))
    stream = model.generate(PROMPT, Sampling(max_new_tokens=20))
    assert next(iter(stream)) == "b"
    stream.close()
    assert (stream.completion.text, stream.completion.finish, stream.completion.generated_tokens) == ("b", "cancelled", 1)
    assert len(forwards) == 1


def test_a_cache_that_holds_a_context_is_continued(load):
    model = load(chat=True, seed=4)
    ids = ids_of(model, PROMPT)
    cache = model.new_cache()
    with torch.no_grad():
        model.model(torch.tensor([ids[:10]]), past_key_values=cache)

    def said(rows, kept):
        feed = loop.Feed(rows=rows, cache=kept, alive=lambda: True)
        steps = loop.step_tokens(model.model, feed, lambda logits: logits.argmax(-1).tolist(), model.lock)
        return [next(steps)[0] for _ in range(8)]

    assert said([ids[10:]], cache) == said([ids], model.new_cache())


def test_examples_are_shown_to_base_models_only_and_as_many_as_fit(load):
    examples = (("q1", "one"), ("q2", "two"))
    chat, base = load(chat=True), load(chat=False)
    sampling = Sampling(max_new_tokens=4, examples=examples)
    assert chat.generate(PROMPT, sampling).completion.prompt_tokens == chat.count_tokens(PROMPT)
    assert base.prompt_tokens(PROMPT, sampling) > base.count_tokens(PROMPT) == base.prompt_tokens(PROMPT, Sampling(max_new_tokens=4))
    full = base.context_length - base.count_tokens(PROMPT)
    assert base.generate(PROMPT, Sampling(max_new_tokens=full, examples=examples)).completion.prompt_tokens == base.count_tokens(PROMPT)


def test_a_base_model_stops_where_the_form_says(load):
    base = load(chat=False, saying="no\nAx")
    assert base.label == "base model"
    assert base.generate(PROMPT, Sampling(max_new_tokens=30)).completion.text == "no\nAx"
    shown = base.generate(PROMPT, Sampling(max_new_tokens=30, examples=(("q", "one line"),))).completion
    assert (shown.text, shown.finish) == ("no", "stop")
    assert load(chat=False, saying="no\nUser:").generate(PROMPT, Sampling(max_new_tokens=30)).completion.text == "no"


def test_capabilities_and_fingerprint(load, tiny):
    model = load(chat=True)
    assert model.capabilities == {"text", "logprobs", "weights", "kv"}
    assert model.fingerprint.startswith("sha256:")
    assert model.fingerprint != load(chat=True, seed=9).fingerprint


def test_context_lowers_the_window_and_never_raises_it(tiny):
    folder = str(tiny(chat=True))
    assert TransformersModel(folder, device="cpu", context=100).context_length == 100
    assert TransformersModel(folder, device="cpu", context=10_000).context_length == 256


def test_loading_faults_are_one_line(tiny, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(ModelError, match="cannot be loaded") as broken:
        TransformersModel(str(tmp_path))
    assert "\n" not in broken.value.message
    with pytest.raises(ModelError, match="does not exist"):
        TransformersModel("./no-such-folder")
    with pytest.raises(ModelError, match="hub cannot be reached"):
        TransformersModel("nobody/nothing")


def test_pickled_weights_are_refused(tiny, tmp_path):
    folder = tiny(chat=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="no safetensors"):
        TransformersModel(str(tmp_path))


def test_a_model_that_brings_code_is_refused(tiny, tmp_path):
    for file in tiny(chat=True).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}')
    (tmp_path / "own.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(ModelError, match="code of its own"):
        TransformersModel(str(tmp_path))


def test_a_closed_model_says_so(load):
    model = load(chat=True)
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.generate(PROMPT)


def test_devices_and_formats():
    assert device_of("cpu").type == "cpu"
    assert dtype_of("float16", torch.device("cpu")) == torch.float16
    assert dtype_of("auto", torch.device("cpu")) in {torch.float32, torch.bfloat16}
    with pytest.raises(ConfigError, match="device"):
        device_of("tpu9")
    with pytest.raises(ConfigError, match="dtype"):
        dtype_of("int3", torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="not there"):
            device_of("cuda")


def test_attention_without_weights_is_a_missing_capability(load, monkeypatch):
    model = load(chat=True)
    monkeypatch.setattr("baywindow.models.transformers.scoring.eager", lambda model: nullcontext())
    with pytest.raises(CapabilityError, match="gives no weights"):
        model.inspect("abc", [0], frozenset({"attention"}))
