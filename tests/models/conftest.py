"""Tiny models made on the spot. No network, no downloads.

A *reciter* says one fixed text, whatever it is asked: its blocks add nothing to the residual stream, so the next token depends on the
last one only, and the output layer maps each token of the text to the one after it. A *random* model has random weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")  # the last is what Qwen tokenizers always have
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d"), ("Ċ", "Ċ"))
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Every byte occurs once, so each token has one successor; the emoji is four tokens, the umlaut two.
SAYING = "bäck🙂 END"
WINDOW = 256


def byte_tokenizer(chat: bool) -> Any:
    """One token a byte, six merges, three control tokens; ChatML when ``chat``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIAL, *alphabet, *(a + b for a, b in MERGES)])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=list(MERGES)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=SPECIAL[0], eos_token=SPECIAL[2], additional_special_tokens=[SPECIAL[1]]
    )
    tokenizer.chat_template = CHATML if chat else None
    return tokenizer


def tiny_model(tokenizer: Any, saying: str | None, seed: int = 0) -> Any:
    """Two Qwen2 blocks of width 64; a reciter of ``saying``, or random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.2,
    )
    model = Qwen2ForCausalLM(config).eval()
    if saying is None:
        return model
    embedding = torch.nn.functional.normalize(torch.randn(len(tokenizer), 64), dim=-1)
    said = tokenizer(saying, add_special_tokens=False).input_ids
    assert len(set(said)) == len(said), "a token of the saying occurs twice"
    starts = tokenizer.convert_tokens_to_ids(["Ċ", ":"])  # the last token of the chat form and of the plain one
    after = dict(zip(said, [*said[1:], tokenizer.eos_token_id], strict=True)) | {
        start: said[0] for start in starts if start not in said[:-1]
    }
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(embedding)
        model.lm_head.weight.zero_()
        for token, following in after.items():
            model.lm_head.weight[following] += 4 * embedding[token]
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
    return model


def write_tiny(folder: Path, *, chat: bool, saying: str | None = None, seed: int = 0) -> Path:
    """A model folder as `from_pretrained` takes it."""
    tokenizer = byte_tokenizer(chat)
    model = tiny_model(tokenizer, saying, seed)
    model.generation_config.do_sample = True  # `transformers serve` samples only if the folder says so
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes tiny model folders, each kind once: ``tiny(chat=True, saying=SAYING)``."""
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    made: dict[tuple[bool, str | None, int], Path] = {}

    def make(*, chat: bool, saying: str | None = None, seed: int = 0) -> Path:
        key = (chat, saying, seed)
        if key not in made:
            made[key] = write_tiny(tmp_path_factory.mktemp("tiny"), chat=chat, saying=saying, seed=seed)
        return made[key]

    return make


@pytest.fixture
def load(tiny: Callable[..., Path]) -> Callable[..., Any]:
    """A loaded tiny model in float32 on the CPU."""

    def make(**what: Any) -> Any:
        import torch

        from baywindow.models.transformers import TransformersModel

        torch.set_num_threads(1)
        return TransformersModel(str(tiny(**what)), device="cpu", dtype="float32")

    return make


@pytest.fixture(name="byte_tokenizer")
def byte_tokenizer_fixture() -> Callable[..., Any]:
    """Makes a tokenizer: ``byte_tokenizer(chat=True)``."""
    return byte_tokenizer
