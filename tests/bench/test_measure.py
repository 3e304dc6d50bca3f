"""One sample through real recipes on a tiny model with open weights: protocols, figures, failures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch, which runs local models")

from baywindow import recipe as recipes
from baywindow.bench import asking, fitting, measure
from baywindow.bench.base import Sample, Turn
from baywindow.bench.measure import Desk, Way
from baywindow.bench.store import Row
from baywindow.config import Settings
from baywindow.documents.base import Document
from baywindow.errors import ConfigError
from baywindow.models.base import Message, Sampling

SAMPLE = Sample(
    id="s",
    documents=(Document("one two six ten " * 5, "a.txt"), Document("six ten one two " * 5, "b.txt")),
    instruction="Read this.",
    question="which?",
    answer_prefix="it is",
    gold=("six",),
    scorer="includes_all",
    max_new_tokens=4,
    turns=(Turn(question="and now?", gold=("ten", "two"), scorer="includes_all", max_new_tokens=4),),
    metadata={"task": "t", "tokens": 160, "depth": 0.5},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    spec = importlib.util.spec_from_file_location("models_conftest", Path(__file__).parents[1] / "models" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    fakes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fakes)
    from baywindow.models.transformers import TransformersModel

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = fakes.byte_tokenizer(chat=False)
    fakes.tiny_model(tokenizer, None).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return TransformersModel(str(folder), device="cpu", dtype="float32", name="tiny")


def measured(model: Any, lines: list[str], way: Way = Way(), sample: Sample = SAMPLE) -> dict[str, list[Row]]:
    pairs = []
    for line in lines:
        recipe = recipes.parse(line)
        protocol = measure.protocol_of(recipe, model)
        pairs.append(
            (recipe, Row(model="tiny", task="t", length=160, sample=0, turn=0, recipe=line, recipe_hash=recipe.hash, protocol=protocol))
        )
    desk = Desk(model=model, settings=Settings())
    return dict(zip(lines, measure.measured(sample, pairs, desk, way), strict=True))


def test_every_question_has_a_row_with_its_figures(model: Any) -> None:
    rows = measured(model, ["stock", "snapkv(budget_tokens=40, window_tokens=8)"])["stock"]
    assert [r.turn for r in rows] == [0, 1]
    for row in rows:
        assert row.protocol == "prompt, context first"
        assert not row.error
        assert row.reply is not None
        assert row.nll is not None
        assert row.score is not None
        assert row.seconds > 0
        assert row.peak_rss_bytes > 0
        assert row.generated_tokens <= 4
    text = f"{SAMPLE.instruction}\n{SAMPLE.context}"
    tail = "\nwhich? it is"
    assert rows[0].prompt_tokens == len(model.data_ids(text)) + len(model.data_ids(tail))


def test_the_likelihood_is_the_models_own(model: Any) -> None:
    row = measured(model, ["stock"])["stock"][0]
    whole = model.score(f"{SAMPLE.instruction}\n{SAMPLE.context}\nwhich? it is", " six")
    assert row.nll == pytest.approx(whole.nll, abs=1e-3)
    assert row.nll_tokens == len(whole.logprobs)


def test_a_cache_that_drops_holds_less_and_reads_the_same(model: Any) -> None:
    found = measured(model, ["stock", "snapkv(budget_tokens=40, window_tokens=8)", "h2o(budget_tokens=40)"], Way(generate=False))
    stock, snap, alone = (rows[0] for rows in found.values())
    assert snap.kv_bytes < stock.kv_bytes / 2
    assert alone.kv_bytes < stock.kv_bytes
    assert snap.prompt_tokens == stock.prompt_tokens == alone.prompt_tokens


def test_without_a_reply_only_the_likelihood_is_measured(model: Any) -> None:
    for row in measured(model, ["stock"], Way(generate=False))["stock"]:
        assert row.reply is None
        assert row.score is None
        assert row.first_token_s is None
        assert row.nll is not None


def test_one_recipe_that_cannot_work_does_not_stop_the_next(model: Any) -> None:
    found = measured(model, ["longrope(factor=4)", "stock"], Way(generate=False))
    failed = found["longrope(factor=4)"]
    assert [r.turn for r in failed] == [0, 1]
    assert all("was not prepared" in r.error and r.nll is None for r in failed)
    assert not found["stock"][0].error


def test_a_text_beyond_the_window_is_a_recorded_error(model: Any) -> None:
    long = Sample(**{**vars(SAMPLE), "documents": (Document("one two six ten " * 40, "a.txt"),)})
    found = measured(model, ["stock", "self_extend"], Way(generate=False), long)
    assert "window" in found["stock"][0].error
    assert not found["self_extend"][0].error


def test_an_outside_part_goes_through_ask_and_the_gold_is_scored_after_its_last_prompt(model: Any) -> None:
    model.context_length, before = 2048, model.context_length  # the tiny model can be asked, if not well
    try:
        row = measured(model, ["stuff(max_new_tokens=8)"])["stuff(max_new_tokens=8)"][0]
    finally:
        model.context_length = before
    assert row.protocol == "ask"
    assert not row.error
    assert row.calls == 1
    assert row.nll is not None
    assert row.kv_bytes is None


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        (Turn(question="q", gold=("Ida",), scorer="includes_all"), " Ida"),
        (Turn(question="q", gold=("Ida",), scorer="includes_all", answer_prefix="it is "), "Ida"),
        (Turn(question="q", gold=("7", "9"), scorer="includes_all"), " 7, 9"),
        (Turn(question="q", gold=("Paris", "Lutetia"), scorer="includes_any"), " Paris"),
        (Turn(question="q", gold=("7",), scorer="includes_all", metadata={"answer": "it is 7"}), " it is 7"),
    ],
)
def test_the_text_whose_likelihood_is_measured_is_what_a_perfect_answerer_says(turn: Turn, text: str) -> None:
    assert measure.answer_text(turn) == text


def test_a_base_models_examples_stand_in_the_prompt_that_is_scored(model: Any) -> None:
    prompt = [Message("system", "s"), Message("user", "u")]
    sampling = Sampling(max_new_tokens=4, examples=(("a", "b"),))
    whole = asking.shown(model, prompt, sampling)
    assert [m.role for m in whole] == ["system", "user", "assistant", "user"]
    assert model._renderer.ids(whole) == model._renderer.ids(prompt, sampling.examples)


def test_a_length_beyond_the_window_names_techniques_that_reach_it(model: Any) -> None:
    reach, refused = fitting.reaches(model, [recipes.parse("stock"), recipes.parse("self_extend"), recipes.parse("longrope(factor=4)")])
    assert reach[recipes.parse("stock").hash] == 256
    assert reach[recipes.parse("self_extend").hash] > 512
    assert "not prepared" in refused[recipes.parse("longrope(factor=4)").hash]
    with pytest.raises(ConfigError, match="512 tokens exceed the window of tiny") as error:
        fitting.check(model, [512], {"x": 256})
    assert any(name in error.value.hint for name in ("self_extend", "dual_chunk", "rerope", "ntk", "linear"))
    fitting.check(model, [512], reach)  # somebody reaches it


def test_a_full_window_leaves_room_for_the_reply() -> None:
    assert fitting.ordered_tokens(1024, [32768], 128) == 1024
    assert fitting.ordered_tokens(32768, [32768], 128) == 32768 - 128 - fitting.SPARE_TOKENS
    assert fitting.ordered_tokens(4096, [], 128) == 4096


@pytest.mark.parametrize(("most", "written"), [(0, 8), (3, 3), (12, 8)], ids=["as the reader is set", "as the run says", "never more"])
def test_a_reader_writes_no_more_than_the_run_lets_a_reply_have(model: Any, most: int, written: int) -> None:
    model.context_length, before = 2048, model.context_length
    try:
        row = measured(model, ["stuff(max_new_tokens=8)"], Way(max_new_tokens=most))["stuff(max_new_tokens=8)"][0]
    finally:
        model.context_length = before
    assert (row.recipe, row.generated_tokens) == ("stuff(max_new_tokens=8)", written)
