"""A local model with a recipe's inside half in place: the way from `bay ask --recipe "snapkv | …"` to the window engine."""

from __future__ import annotations

import pytest

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError
from baywindow.models.base import Message, Sampling
from baywindow.recipe import parse

LONG = [Message("user", "the band and the hand " * 6)]


@pytest.fixture
def random_model(load):
    return load(chat=True)


def inside(line: str):
    return parse(line).inside


def said(model, prompt=LONG, new_tokens=12) -> str:
    return model.generate(prompt, Sampling(max_new_tokens=new_tokens)).completion.text


def test_at_full_budget_the_view_says_what_the_model_says(random_model):
    plain = said(random_model)
    with random_model.attached(inside("snapkv(budget_tokens=4096)")) as view:
        assert said(view) == plain
        assert view.name.endswith("+snapkv(budget_tokens=4096)")
    assert said(random_model) == plain


def test_a_small_budget_is_kept_and_said(random_model):
    with random_model.attached(inside("snapkv(budget_tokens=40, window_tokens=8)")) as view:
        said(view)
        remark = view.remark()
    assert "snapkv" in remark
    seen = random_model.count_tokens(LONG) + 11  # the last new token is never fed
    assert f"of {seen} tokens a head" in remark
    kept = int(remark.split("kept ")[1].split(" ")[0])
    assert 40 <= kept <= 40 + 11
    assert random_model.remark() == ""


def test_the_prompt_is_compressed_once_and_whole_however_it_is_fed(random_model, monkeypatch):
    found = []
    for size in (16, 31, 4096):
        monkeypatch.setattr("baywindow.models.transformers.loop.CHUNK_TOKENS", {"cpu": size})
        with random_model.attached(inside("snapkv(budget_tokens=40, window_tokens=8)")) as view:
            found.append(said(view))
    assert found[0] == found[1] == found[2]


def test_a_position_scheme_lengthens_the_window_and_the_model_is_as_before_afterwards(random_model):
    window = random_model.context_length
    beyond = [Message("user", "the band and the hand " * 40)]
    with pytest.raises(ContextLengthError):
        said(random_model, beyond)
    with random_model.attached(inside("self_extend(group_tokens=8)")) as view:
        # (L - W) G + W with the default W = L / 4
        assert view.context_length == (window - window // 4) * 8 + window // 4
        assert len(said(view, beyond)) > 0
    assert random_model.context_length == window
    with pytest.raises(ContextLengthError):
        said(random_model, beyond)


def test_batches_give_each_row_what_it_gets_alone(random_model):
    prompts = [LONG, [Message("user", "a hand and the band " * 3)], [Message("user", "the")]]
    with random_model.attached(inside("snapkv(budget_tokens=24, window_tokens=8)")) as view:
        together = [c.text for c in view.generate_many(prompts, Sampling(max_new_tokens=8))]
        alone = [said(view, p, 8) for p in prompts]
    assert together == alone


def test_the_model_is_put_back_after_an_error(random_model):
    plain = said(random_model)
    with pytest.raises(RuntimeError, match="on purpose"), random_model.attached(inside("snapkv")):
        raise RuntimeError("on purpose")
    assert said(random_model) == plain


def test_a_model_that_is_not_open_refuses(scripted):
    with pytest.raises(CapabilityError, match="snapkv works inside a model"):
        scripted([]).attached(inside("snapkv"))


def test_what_needs_preparing_is_refused_until_it_was_prepared(random_model, tmp_path, monkeypatch):
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))
    (part,) = inside("longrope(factor=2.0, population=4, parents=2, mutations=1, crossovers=1, rounds=1, samples=1)")
    with pytest.raises(CapabilityError, match="longrope"), random_model.attached((part,)):
        pass
    assert random_model.prepare(part, "the band and the hand of the land " * 40).is_file()
    with random_model.attached((part,)) as view:
        assert view.context_length == 2 * random_model.context_length


def test_what_has_nothing_to_prepare_says_so(random_model, scripted):
    (part,) = inside("snapkv")
    with pytest.raises(ConfigError, match="snapkv has nothing to prepare"):
        random_model.prepare(part, "text")
    with pytest.raises(CapabilityError, match="not open"):
        scripted([]).prepare(part, "text")


def test_what_is_still_held_of_the_prompt_is_known_by_position(random_model):
    """Streaming drops the middle in all heads alike: the first tokens and the last are held whole, the text is the prompt that was read."""
    assert random_model.held() is None
    with random_model.attached(inside("streaming_llm(budget_tokens=24, sink_tokens=4)")) as view:
        said(view, new_tokens=1)
        held = view.held()
    assert held is not None
    n = random_model.count_tokens(LONG)
    assert held.share.tolist() == [1.0] * 4 + [0.0] * (n - 24) + [1.0] * 20
    assert LONG[0].content.strip() in held.text
    assert [held.text[a:b] for a, b in held.offsets] == [random_model.tokenizer.decode([i]) for i in random_model._renderer.ids(LONG)]


def test_nothing_dropped_is_nothing_to_tell(random_model):
    with random_model.attached(inside("snapkv(budget_tokens=4096)")) as view:
        said(view, new_tokens=2)
        assert view.held() is None


def test_shares_are_the_mean_over_heads_and_layers(random_model):
    with random_model.attached(inside("random(budget_tokens=20)")) as view:
        said(view, new_tokens=1)
        held = view.held()
    n = random_model.count_tokens(LONG)
    assert held is not None
    assert held.share.sum() == pytest.approx(20, abs=1e-3)
    assert len(held.share) == n
    assert 0 < held.share.min() + 1e-9 < held.share.max() <= 1
