"""Counting the tokens of a model that runs elsewhere."""

from __future__ import annotations

import json

import pytest

from baywindow.errors import ModelError
from baywindow.models.base import Message
from baywindow.models.counting import Counter


def test_an_estimate_counts_bytes_and_is_no_exact_count():
    counter = Counter()
    assert not counter.exact
    assert counter.of("abcdef") == 2  # 6 bytes at 3 a token
    assert counter.of("äöü") == 2  # 6 bytes, 3 characters
    assert counter.of("") == 0


def test_the_estimate_is_corrected_from_what_the_server_says():
    counter = Counter()
    prompt = [Message("user", "x" * 900)]
    assert counter.of(prompt) == 300 + 40  # and 32 + 8 for a template nobody has seen yet
    counter.learn([Message("user", "hi!")], 11)  # 1 token and so 10 of the template
    assert counter.of(prompt) == 310
    counter.learn(prompt, 235)  # 225 tokens for 900 bytes: 4 a token
    assert counter.of(prompt) == 235
    assert counter.of("x" * 8) == 2


def test_a_local_tokenizer_counts_exactly_and_learns_the_templates_share(tmp_path):
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": 3, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2, "<s>": 3}, "unk_token": "?"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    for where in (tmp_path, tmp_path / "tokenizer.json"):
        counter = Counter(str(where))
        assert counter.exact
        assert counter.of("a b a") == 3
        assert counter.of("<s>") == 3  # a control token in content is three pieces of text, not one token
        prompt = [Message("system", "a"), Message("user", "a b")]
        counter.learn(prompt, 3 + 7)
        assert counter.of([Message("system", "b b"), Message("user", "a")]) == 3 + 7
        assert counter.of([Message("user", "a")]) == 1 + 40  # other roles, not yet seen


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="no tokenizer"):
        Counter(str(tmp_path / "tokenizer.json"))
