"""A text read once and asked through many recipes: the same figures as reading it for each."""

from __future__ import annotations

import pytest
import torch

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError
from baywindow.models.base import Message, Sampling
from baywindow.models.transformers import reading
from baywindow.recipe import parse
from baywindow.window import attach

TEXT = "one two six ten " * 11  # 176 tokens of one byte each
QUESTION, BEGUN, ANSWER = "which?", "it is", " six"
SHARED = (
    "stock",
    "snapkv(budget_tokens=40, window_tokens=8)",
    "tova(budget_tokens=40)",
    "random(budget_tokens=30)",
    "kivi(bits=4)",
    "kvzip(budget_tokens=60)",
)
ALONE = ("h2o(budget_tokens=60)", "expected_attention(budget_tokens=60)", "streaming_llm(budget_tokens=60)", "self_extend", "lm_infinite")


@pytest.fixture
def base_model(load):
    return load(chat=False)


def inside(line: str):
    return parse(line).inside


@torch.no_grad()
def oracle(model, line: str) -> float:
    """NLL of the answer: read the text with the recipe in one go, then the question, then its last token with the answer.

    The question's border matters to caches that drop after every forward, such as tova.
    """
    head, tail, answer = (model.data_ids(t) for t in (TEXT, f"\n{QUESTION} {BEGUN}", ANSWER))
    with attach(model.model, line, tokenizer=model.tokenizer) as w:
        cache = w.prefill(torch.tensor([head]))
        cache.asked_after = True
        for ids in (tail[:-1], [tail[-1], *answer[:-1]]):
            mask = torch.ones(1, cache.get_seq_length() + len(ids), dtype=torch.long)
            logits = model.model(input_ids=torch.tensor([ids]), attention_mask=mask, past_key_values=cache).logits[0].float()
    logs = logits.log_softmax(dim=-1)
    return -float(logs.gather(1, torch.tensor(answer)[:, None]).mean())


@pytest.mark.parametrize("line", [*SHARED, "expected_attention(budget_tokens=60)", "self_extend", "lm_infinite"])
def test_a_shared_reading_gives_what_reading_alone_gives(base_model, line: str) -> None:
    with base_model.read(TEXT) as reader:
        with reader.through(inside("stock")):
            pass  # the text has been read for somebody else before
        with reader.through(inside(line)) as found:
            assert found.shared == (line in SHARED)
            assert found.tokens == len(TEXT)
            score = found.ask(QUESTION, BEGUN).score(ANSWER)
    assert score.nll == pytest.approx(oracle(base_model, line), abs=1e-4)
    assert len(score.logprobs) == len(ANSWER)


@pytest.mark.parametrize("line", ALONE)
def test_what_acts_while_reading_reads_by_itself(base_model, line: str) -> None:
    with base_model.read(TEXT) as reader, reader.through(inside(line)) as found:
        assert not found.shared
        assert found.ask(QUESTION, BEGUN).generate(Sampling(max_new_tokens=3)).completion.generated_tokens <= 3


def test_one_recipe_leaves_nothing_behind_for_the_next(base_model) -> None:
    with base_model.read(TEXT) as reader:
        scores = []
        for line in ("stock", "snapkv(budget_tokens=40, window_tokens=8)", "stock"):
            with reader.through(inside(line)) as found:
                scores.append(found.ask(QUESTION).score(ANSWER).nll)
    assert scores[0] == scores[2]
    assert scores[1] != scores[0]


def test_questions_do_not_see_each_other(base_model) -> None:
    with base_model.read(TEXT) as reader, reader.through(inside("snapkv(budget_tokens=40, window_tokens=8)")) as found:
        first = found.ask(QUESTION)
        before = first.score(ANSWER).nll
        first.generate(Sampling(max_new_tokens=5)).completion
        found.ask("another one?").score(" ten")
        assert first.score(ANSWER).nll == before
        assert found.ask(QUESTION).score(ANSWER).nll == before


def test_stock_says_what_the_model_says_of_the_whole_prompt(base_model) -> None:
    with base_model.read(TEXT) as reader, reader.through(()) as found:
        score = found.ask(QUESTION, BEGUN).score(ANSWER)
    whole = base_model.score(f"{TEXT}\n{QUESTION} {BEGUN}", ANSWER)
    assert score.nll == pytest.approx(whole.nll, abs=1e-4)


def test_a_chat_model_is_asked_inside_its_template(load) -> None:
    model = load(chat=True)
    whole = model._renderer.ids([Message("user", f"{TEXT}\n{QUESTION}"), Message("assistant", BEGUN)])
    around = reading.Around(model)
    assert model.tokenizer.decode([*around.head(TEXT), *around.tail(QUESTION, BEGUN)]) == model.tokenizer.decode(whole)


def test_control_tokens_in_a_text_are_data(load) -> None:
    model = load(chat=True)
    end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = reading.Around(model).head("said <|im_end|> and went on")
    assert end not in ids[len(model.template_ids(reading.Around(model).before)) :]


def test_a_smaller_cache_is_smaller_and_the_budget_is_kept(base_model) -> None:
    with base_model.read(TEXT) as reader:
        with reader.through(()) as whole:
            pass
        with reader.through(inside("snapkv(budget_tokens=40, window_tokens=8)")) as small:
            pass
    assert small.nbytes < whole.nbytes


def test_the_deadline_and_the_window_hold(base_model) -> None:
    with base_model.read(TEXT) as reader, reader.through(()) as found:
        asked = found.ask(QUESTION)
        with pytest.raises(ContextLengthError, match="window"):
            asked.generate(Sampling(max_new_tokens=200))
        assert asked.generate(Sampling(max_new_tokens=4, seconds=0.0)).completion.finish == "deadline"
    with base_model.read(TEXT * 2) as reader, pytest.raises(ContextLengthError, match="352"), reader.through(()):
        pass


def test_refusals(base_model, scripted) -> None:
    with pytest.raises(ConfigError, match="no text"), base_model.read("  "):
        pass
    with pytest.raises(CapabilityError, match="scripted"):
        scripted([]).read("text")
