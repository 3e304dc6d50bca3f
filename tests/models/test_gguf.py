"""A GGUF becomes a model folder once, whole or not at all. The files are written here with the `gguf` package."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")
pytest.importorskip("gguf")

import gguf as gguf_library
import torch
from transformers import AutoTokenizer

from baywindow.errors import ModelError
from baywindow.models import gguf
from baywindow.models.base import Message, Sampling
from baywindow.models.gguf_header import read_header
from baywindow.models.transformers import TransformersModel

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    stem, _, end = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, number, inner = stem.split(".", 3)
        return f"blk.{number}.{NAMES[inner]}.{end}"
    return f"{NAMES[stem]}.{end}"


@pytest.fixture(scope="session")
def written(tmp_path_factory, tiny):
    """A tiny chat model as a .gguf in float32, and the folder it was written from."""
    from transformers import AutoModelForCausalLM

    folder = tiny(chat=True, seed=6)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config = model.config
    path = tmp_path_factory.mktemp("gguf") / "tiny model.gguf"
    writer = gguf_library.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(tokenizer))
    words = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in words])
    writer.add_token_merges(["t h", "th e", "Ġ the", "a n", "an d", "Ċ Ċ"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(gguf_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(written, tmp_path):
    return shutil.copy(written[0], tmp_path / "tiny model.gguf")


def test_the_converted_model_is_the_one_that_was_written(written):
    path, folder = written
    made = TransformersModel(str(path), device="cpu", dtype="float32")
    original = TransformersModel(str(folder), device="cpu", dtype="float32")
    for name, tensor in original.model.state_dict().items():
        assert torch.equal(made.model.state_dict()[name], tensor.bfloat16().float()), name
    prompt = [Message("user", "the and <|im_end|> 🙂")]
    assert made._renderer.ids(prompt) == original._renderer.ids(prompt)
    assert made.context_length == 256
    assert made.generate(prompt, Sampling(max_new_tokens=3)).completion.generated_tokens == 3
    assert made.fingerprint == f"sha256:{gguf.read_manifest(gguf.find(path))['sha256']}"


def test_converted_once_and_found_again_under_another_name(source, tmp_path, monkeypatch):
    said = []
    folder = gguf.converted(source, progress=said.append)
    assert [line.split()[0] for line in said] == ["unpacking", "unpacking:", "unpacking:", "writing", "reading"]
    assert said[2] == "unpacking: 20 of 27 tensors"
    monkeypatch.setattr(gguf, "_convert_into", lambda *a: pytest.fail("converted again"))
    assert gguf.converted(source, progress=said.append) == folder
    assert gguf.converted(shutil.move(source, tmp_path / "renamed.gguf")) == folder
    assert len(said) == 5
    assert [(place, manifest["name"]) for place, manifest in gguf.all_converted()] == [(folder, "tiny model")]


def test_the_quick_tokenizer_is_used_only_where_it_is_the_same(source):
    folder = gguf.converted(source)
    assert gguf.read_manifest(folder)["plain_tokenizer"] is True
    assert gguf.plain_tokenizer(folder).chat_template == AutoTokenizer.from_pretrained(folder).chat_template
    file = folder / "tokenizer.json"
    rules = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"pre_tokenizer": rules}))
    assert gguf.is_plain(folder) is False  # AutoTokenizer brings Qwen's own rules, the file now says others


def test_a_folder_of_an_older_format_is_made_anew(source):
    folder = gguf.converted(source)
    (folder / gguf.MANIFEST).write_text('{"format": 0}')
    assert gguf.find(source) is None
    assert gguf.read_manifest(gguf.converted(source))["format"] == gguf.FORMAT


@pytest.mark.parametrize("keep", [3, 4, 20, 2000, 0.5, -1])
def test_a_file_cut_short_is_refused_before_any_work(source, keep, monkeypatch):
    monkeypatch.setattr(gguf, "_convert_into", lambda *a: pytest.fail("began to convert"))
    with open(source, "rb") as file:
        whole = file.read()
    size = int(len(whole) * keep) if isinstance(keep, float) else keep
    with open(source, "wb") as file:
        file.write(whole[:size])
    with pytest.raises(ModelError, match=r"cut short or damaged|not a GGUF") as refused:
        gguf.converted(source)
    assert "\n" not in refused.value.message
    assert gguf.all_converted() == []


def test_other_files_are_named(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(ModelError, match="not a GGUF"):
        gguf.converted(tmp_path / "a.gguf")
    (tmp_path / "b.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match=r"cut short|not a GGUF"):
        gguf.converted(tmp_path / "b.gguf")
    with pytest.raises(ModelError, match="cannot be read"):
        gguf.converted(tmp_path / "none.gguf")


def test_an_interrupted_conversion_leaves_nothing(source, monkeypatch, tmp_path):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "_write_tokenizer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gguf.converted(source)
    assert [p for p in (tmp_path / "cache" / "models").iterdir() if p.is_dir()] == []
    monkeypatch.undo()


def test_what_a_killed_conversion_left_goes_with_the_next(source, monkeypatch):
    left = gguf._place(Path(source)).with_name(f".{gguf._place(Path(source)).name}.abc")
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half of it")
    gguf.converted(source)
    assert not left.exists()


def test_the_file_is_parsed_once_and_the_library_is_as_before(source, capfd, monkeypatch):
    parsed, reader = [], gguf_library.GGUFReader
    begun = reader.__init__
    monkeypatch.setattr(reader, "__init__", lambda self, path, *rest: (parsed.append(path), begun(self, path, *rest))[1])
    gguf.converted(source)
    assert len(parsed) == 1
    assert gguf_library.GGUFReader is reader
    assert capfd.readouterr().err == ""  # no bars over our own lines


def test_a_full_disk_is_one_line(source, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf, "_write_tokenizer", full)
    with pytest.raises(ModelError, match="No space left"):
        gguf.converted(source)


def _convert(path, conversions):
    real = gguf._convert_into
    gguf._convert_into = lambda *a: (conversions.put(1), real(*a))
    gguf.converted(path)


@pytest.mark.slow
def test_two_processes_convert_once(source):
    context = multiprocessing.get_context("spawn")
    conversions = context.Queue()
    workers = [context.Process(target=_convert, args=(source, conversions)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [w.exitcode for w in workers] == [0, 0]
    assert conversions.qsize() == 1


def test_the_header_agrees_with_the_reader_of_the_gguf_package(source):
    header = read_header(gguf.Path(source))
    reader = gguf_library.GGUFReader(source)
    assert header.architecture == "qwen2"
    assert header.tensors == len(reader.tensors)
    assert header.values["qwen2.context_length"] == 256
    assert header.needed_bytes == max(int(t.data_offset) + int(np.int64(t.n_bytes)) for t in reader.tensors)
