"""A context read once: many questions, on disk and back, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from baywindow.errors import ConfigError, ModelError, SourceError
from baywindow.window import Prefilled
from baywindow.window.engine import saving

TEXT = "the red fox saw a blue bird near the old mill and the fox ran to the mill at night " * 3
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"


def characters(extra: str = "", template: str | None = None, *, spaced: bool = False) -> Any:
    """One token a character, and two control tokens; ``spaced`` writes a blank between tokens, so that each is a finished word."""
    letters = ["<pad>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,:?\n<>/0123456789", *extra]
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if not spaced:
        tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<pad>", chat_template=template
    )


PACKED = "kivi(bits=4, group_tokens=8, residual_tokens=8)"
CHOSEN = "snapkv(budget_tokens=40, window_tokens=8)"
RECIPES = [
    "stock",
    CHOSEN,
    f"ada_kv + {CHOSEN}",
    PACKED,
    f"random(budget_tokens=40) + {PACKED}",
    "h2o(budget_tokens=40)",
    "streaming_llm(budget_tokens=40)",
    f"{CHOSEN} + offload(group_tokens=16)",
    f"think(residual_tokens=16) + {PACKED}",
    "xkv(residual_tokens=16) + kvquant(calibrated=False, group_tokens=8)",
    "xkv + offload(group_tokens=16)",
    f"{CHOSEN} + kvquant(calibrated=False, group_tokens=8)",
    f"self_extend(group_tokens=8, window_tokens=16) + {CHOSEN}",
    "clusterkv(budget_tokens=64, cluster_tokens=8, update_tokens=16) + offload(group_tokens=16)",
]


def test_asking_twice_gives_the_same_and_leaves_the_context_alone(tiny: Callable[..., Any]) -> None:
    p = Prefilled(tiny("llama"), characters(), TEXT, "snapkv(budget_tokens=40, window_tokens=8)")
    before = p.nbytes
    one, other, again = p.ask("where", max_new_tokens=8), p.ask("what did the fox see", max_new_tokens=8), p.ask("where", max_new_tokens=8)
    assert one == again
    assert one != other
    assert p.nbytes == before
    assert {n for layer in p.report().kept for row in layer for n in row} == {40}
    assert p.last_report is not None
    assert p.last_report.seen[0] > len(TEXT)
    assert "kept out" in p.last_report.question


def test_without_techniques_it_answers_as_the_stock_model(tiny: Callable[..., Any]) -> None:
    model, tokenizer = tiny("gemma3"), characters()
    ids = tokenizer.encode(TEXT) + tokenizer.encode("\n\nQuestion: where\nAnswer:", add_special_tokens=False)
    expected = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0)[0, len(ids) :]
    p = Prefilled(model, tokenizer, TEXT, chunk_tokens=50)
    assert p.ask("where", max_new_tokens=8) == tokenizer.decode(expected, skip_special_tokens=True).strip()


def test_streaming_gives_the_same_words(tiny: Callable[..., Any]) -> None:
    p = Prefilled(tiny("llama"), characters(), TEXT)
    assert "".join(p.stream("where", max_new_tokens=12)).strip() == p.ask("where", max_new_tokens=12)


def test_an_error_while_streaming_reaches_the_reader(tiny: Callable[..., Any]) -> None:
    p = Prefilled(tiny("llama"), characters(), TEXT)
    with pytest.raises(ConfigError, match="the question is empty"):
        list(p.stream(" "))


def test_the_question_can_take_part_in_the_choice(tiny: Callable[..., Any]) -> None:
    recipe = "snapkv(budget_tokens=40, window_tokens=8)"
    p = Prefilled(tiny("llama"), characters(), TEXT, recipe, question="in")
    assert {n for layer in p.report().kept for row in layer for n in row} == {len(TEXT)}  # nothing dropped before a question is there
    p.ask("where did it run", max_new_tokens=4)
    assert p.last_report is not None
    assert "took part" in p.last_report.question
    assert {n for layer in p.last_report.kept for row in layer for n in row} == {40 + 4}  # the last of the question, then three steps
    with pytest.raises(ConfigError, match="each_chunk"):
        Prefilled(tiny("llama"), characters(), TEXT, recipe, question="in", each_chunk=True)


def test_control_tokens_in_text_and_question_are_plain_characters(tiny: Callable[..., Any]) -> None:
    tokenizer = characters(template=TEMPLATE)
    p = Prefilled(tiny("llama"), tokenizer, "a</s>b", "stock")
    ids = torch.cat(p._cache.ids, dim=1)[0].tolist()
    assert tokenizer.decode(ids) == "<s>a</s>b"
    assert ids.count(tokenizer.eos_token_id) == 0
    assert ids[0] == tokenizer.bos_token_id
    assert p.frame.before == "<s>"
    assert p.frame.after == "</s><s>"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_saved_context_answers_the_same(tiny: Callable[..., Any], tmp_path: Path, recipe: str) -> None:
    model, tokenizer = tiny("gemma3"), characters()
    p = Prefilled(model, tokenizer, TEXT, recipe)
    folder = p.save(tmp_path / "doc.kv")
    assert sorted(f.name for f in folder.iterdir()) == ["manifest.json", "tensors.safetensors"]
    again = Prefilled.load(folder, model, tokenizer)
    assert [h.tolist() for h in again._cache.held()] == [h.tolist() for h in p._cache.held()]
    for question in ("where", "what did it see"):
        assert again.ask(question, max_new_tokens=8) == p.ask(question, max_new_tokens=8)
    assert again.recipe == p.recipe
    p.save(folder)  # replaces
    assert Prefilled.load(folder, model, tokenizer).ask("where", max_new_tokens=8) == p.ask("where", max_new_tokens=8)


@pytest.fixture
def saved(tiny: Callable[..., Any], tmp_path: Path) -> Path:
    return Prefilled(tiny("llama"), characters(), TEXT, "random(budget_tokens=20)").save(tmp_path / "doc.kv")


def test_another_model_tokenizer_or_version_is_refused_and_named(tiny: Callable[..., Any], saved: Path) -> None:
    model, tokenizer = tiny("llama"), characters()
    with pytest.raises(ModelError, match="another model"):
        Prefilled.load(saved, tiny("llama", seed=1), tokenizer)
    with pytest.raises(ModelError, match="another tokenizer"):
        Prefilled.load(saved, model, characters(extra="!"))
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(SourceError, match="format 99; this version reads format 2"):
        Prefilled.load(saved, model, tokenizer)


@pytest.mark.parametrize("harm", ["tensors", "manifest", "no json", "missing tensors", "missing manifest"])
def test_damage_is_noticed(tiny: Callable[..., Any], saved: Path, harm: str) -> None:
    tensors, manifest = saved / saving.TENSORS, saved / saving.MANIFEST
    if harm == "tensors":
        data = bytearray(tensors.read_bytes())
        data[-5] ^= 1
        tensors.write_bytes(bytes(data))
    elif harm == "manifest":
        manifest.write_text(manifest.read_text().replace('"seen": ', '"seen": 1'))
    elif harm == "no json":
        manifest.write_text("{")
    elif harm == "missing tensors":
        tensors.unlink()
    else:
        manifest.unlink()
    with pytest.raises(SourceError, match="not a saved context" if harm == "missing manifest" else "damaged"):
        Prefilled.load(saved, tiny("llama"), characters())


def test_a_manifest_cannot_name_files_outside_its_folder(tiny: Callable[..., Any], saved: Path, tmp_path: Path) -> None:
    """Even with a valid checksum."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"x")
    body = json.loads((saved / "manifest.json").read_text())
    body.pop("checksum")
    body["files"]["../secret.bin"] = saving.checksum(secret)
    (saved / "manifest.json").write_text(json.dumps({**body, "checksum": saving._digest(body)}))
    with pytest.raises(SourceError, match="damaged"):
        Prefilled.load(saved, tiny("llama"), characters())


def test_saving_never_replaces_something_else(tiny: Callable[..., Any], tmp_path: Path) -> None:
    p = Prefilled(tiny("llama"), characters(), TEXT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    with pytest.raises(SourceError, match="not a saved context"):
        p.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "keep"
    assert not [f for f in tmp_path.iterdir() if f.name != "mine"]  # no half-written folder is left


def test_what_cannot_be_read_is_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no text"):
        Prefilled(tiny("llama"), characters(), "")
    with pytest.raises(ConfigError, match="question"):
        Prefilled(tiny("llama"), characters(), TEXT, question="maybe")  # type: ignore[arg-type]


def test_two_contexts_share_one_model(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    a, b = Prefilled(model, characters(), TEXT), Prefilled(model, characters(), TEXT[::-1])
    alone = copy.copy(a)
    assert a.ask("where", max_new_tokens=6) != b.ask("where", max_new_tokens=6)
    assert a.ask("where", max_new_tokens=6) == alone.ask("where", max_new_tokens=6)


def test_closing_a_stream_stops_it_and_frees_the_model(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    p = Prefilled(model, characters(spaced=True), TEXT)
    words = p.stream("where", max_new_tokens=1000)
    assert isinstance(next(words), str)
    words.close()  # type: ignore[attr-defined]
    assert p.last_report is not None
    assert p.last_report.seen[0] < len(TEXT) + 500
    assert p.ask("where", max_new_tokens=2)  # detached again
