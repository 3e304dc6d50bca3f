"""Replies held to a JSON schema, with a model of random weights: what it writes is in the form, or cut off in the middle of it."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

import torch

from baywindow.errors import ConfigError
from baywindow.models.base import Message, Sampling

PROMPT = (Message("user", "the and"),)
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["the", "band"]}, "n": {"type": "integer", "minimum": 3, "maximum": 12}},
    "required": ["ok", "kind", "n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(6))
def test_a_random_model_writes_what_the_schema_says(load, seed):
    model = load(chat=True)
    done = model.generate(PROMPT, Sampling(max_new_tokens=120, json_schema=SCHEMA, temperature=1.0, seed=seed)).completion
    assert done.finish == "stop"
    made = json.loads(done.text)
    assert sorted(made) == ["kind", "n", "ok"]
    assert (type(made["ok"]), made["kind"] in ("the", "band"), made["n"] in range(3, 13)) == (bool, True, True)
    assert model.generate(PROMPT, Sampling(max_new_tokens=12, temperature=1.0, seed=seed)).completion.text[:1] != "{"


def test_rows_of_a_batch_have_forms_of_their_own(load):
    model = load(chat=True)
    asked = [
        Sampling(max_new_tokens=60, json_schema=SCHEMA, temperature=1.0, seed=2),
        Sampling(max_new_tokens=9),
        Sampling(max_new_tokens=60, json_schema={"enum": ["a", "the"]}),
    ]
    alone = [model.generate(PROMPT, sampling).completion for sampling in asked]
    batch = model.together([PROMPT] * 3, asked)
    list(batch)
    assert [batch.completion(row) for row in range(3)] == alone
    assert json.loads(alone[2].text) in ("a", "the")
    many = model.generate_many([PROMPT, PROMPT], asked[0])
    assert [done.text for done in many] == [alone[0].text] * 2


def test_a_reply_that_is_cut_off_is_the_beginning_of_one(load):
    done = load(chat=True).generate(PROMPT, Sampling(max_new_tokens=4, json_schema={"const": "bandana and the rest"})).completion
    assert done.finish == "length"
    assert '"bandana and the rest"'.startswith(done.text)
    assert len(done.text) >= 4


def test_a_schema_that_is_none_is_refused(load):
    with pytest.raises(ConfigError, match="cannot be followed"):
        load(chat=True).generate(PROMPT, Sampling(max_new_tokens=9, json_schema={"type": "wat"}))
    with pytest.raises(ConfigError, match="cannot be followed"):
        load(chat=True).check_schema({"type": "wat"})


def test_scores_are_the_models_own_before_temperature_and_schema(load):
    model = load(chat=True)
    sampling = Sampling(max_new_tokens=8, temperature=1.3, seed=3, logprobs=2)
    done = model.generate(PROMPT, sampling).completion
    assert "".join(s.text for s in done.scores if "\ufffd" not in s.text) in done.text.replace("\ufffd", "")
    # the oracle: one forward over prompt and reply
    ids = model._renderer.ids(PROMPT)
    with torch.inference_mode():
        first = model.model(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
    best = first.topk(2)
    assert [logprob for _, logprob in done.scores[0].top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert [text for text, _ in done.scores[0].top] == [model.tokenizer.decode([i]) for i in best.indices.tolist()]
    held = model.generate(PROMPT, Sampling(max_new_tokens=30, json_schema={"const": "a"}, logprobs=0)).completion
    brace = model.tokenizer.convert_tokens_to_ids('"')
    assert held.scores[0].logprob == pytest.approx(float(first[brace]), abs=1e-4)
    assert "".join(score.text for score in held.scores) == held.text == '"a"'
    assert held.scores[0].top == ()
    assert model.generate(PROMPT, Sampling(max_new_tokens=3)).completion.scores == ()


def test_scores_end_where_the_text_does(load, tiny):
    """A reciter says its text for certain; what ends the reply, and what a stop string takes away, is no part of it."""
    saying = "bäck🙂 END"
    model = load(chat=True, saying=saying)
    done = model.generate(PROMPT, Sampling(max_new_tokens=40, logprobs=0)).completion
    assert done.text == saying
    assert [s.text for s in done.scores if "\ufffd" not in s.text] == list(saying)
    assert all(-math.log(4) < score.logprob <= 0 for score in done.scores)
    cut = model.generate(PROMPT, Sampling(max_new_tokens=40, stop=(" END",), logprobs=0)).completion
    assert [s.text for s in cut.scores if "\ufffd" not in s.text] == list("bäck🙂")
