"""Entailment by a local model: a tiny classifier made here, so that nothing is downloaded."""

from __future__ import annotations

import pytest

from baywindow.bench.entailment import NliModel
from baywindow.errors import ConfigError, ModelError

LABELS = {0: "contradiction", 1: "neutral", 2: "ENTAILMENT"}


def made(folder, labels, favourite=2):
    """A BERT of one layer whose bias decides for one class, saved with its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "foxes", "are", "red"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=16
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=16,
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.nn.functional.one_hot(torch.tensor(favourite), len(labels)).float())
    model.save_pretrained(folder)
    return str(folder)


def test_the_class_named_entailment_decides(tmp_path):
    yes = NliModel(made(tmp_path / "yes", LABELS))
    no = NliModel(made(tmp_path / "no", LABELS, favourite=1))
    assert yes.entails("foxes are red", "red foxes") is True
    assert no.entails("foxes are red", "red foxes") is False
    assert yes.entails("  ", "red foxes") is False
    assert yes.name.startswith("nli:")


def test_a_long_premise_loses_its_end_and_is_counted_and_the_claim_stays(tmp_path, monkeypatch):
    model = NliModel(made(tmp_path / "model", LABELS))
    seen = []
    run = model._pipe.model.forward
    monkeypatch.setattr(model._pipe.model, "forward", lambda **given: seen.append(given["input_ids"].tolist()[0]) or run(**given))
    assert model.entails("foxes are red " * 20, "red are foxes") is True
    assert model.truncated == 1
    assert len(seen[0]) == 16
    assert seen[0][-4:] == [6, 5, 4, 3]  # red are foxes [SEP]
    model.entails("foxes", "red")
    assert model.truncated == 1
    assert model.entails("foxes are red " * 3, "red are foxes " * 3) is True  # of 16, 3 are marks and 9 the claim: 4 are left
    assert seen[2] == [2, 4, 5, 6, 4, 3, *[6, 5, 4] * 3, 3]
    assert model.entails("foxes are red", "red are foxes " * 20) is True  # a claim longer than the model reads is cut itself
    assert (len(seen[3]), model.truncated) == (16, 3)


def test_a_model_without_entailment_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="LABEL_0, LABEL_1"):
        NliModel(made(tmp_path / "model", {0: "LABEL_0", 1: "LABEL_1"}, favourite=1))


def test_a_model_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        NliModel(str(tmp_path / "nowhere"))
