"""Which model answers, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baywindow.errors import MissingExtraError, ModelError
from baywindow.models import embedded, hub, select
from baywindow.models.openai_compatible import OpenAIModel
from baywindow.models.select import DEFAULT_HUB_MODEL, candidates, first_usable, is_remote, load

SETTINGS = select._Defaults()


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("BAY_MODEL", raising=False)
    hub.hub_answers.cache_clear()
    yield
    hub.hub_answers.cache_clear()


@pytest.fixture
def extras(monkeypatch):
    """Pretend to have the extra, or not, whatever this machine has."""

    def have(local: bool, gemma: bool = True):
        monkeypatch.setattr(select, "_has_local_extra", lambda: local)
        monkeypatch.setattr(embedded, "installed", lambda: gemma)

    return have


def test_the_order_and_the_reasons(extras, monkeypatch):
    extras(True)
    monkeypatch.setattr(select, "is_cached", lambda name: False)
    found = candidates(replace(SETTINGS, model="org/mine"))
    assert [c.name for c in found][:3] == ["org/mine", DEFAULT_HUB_MODEL, "embedded"]
    assert "BAY_MODEL or bay.toml" in found[0].why
    assert not found[1].usable
    assert "HF_HUB_OFFLINE" in found[1].why
    assert found[2].usable
    assert found[2].label == "small base model"
    assert "Gemma Terms of Use" in found[2].licence


def test_the_first_usable_answers(extras, monkeypatch):
    extras(True)
    monkeypatch.setattr(select, "is_cached", lambda name: False)
    assert first_usable(SETTINGS).name == "embedded"
    monkeypatch.setattr(select, "is_cached", lambda name: name == DEFAULT_HUB_MODEL)
    assert first_usable(SETTINGS).name == DEFAULT_HUB_MODEL
    assert first_usable(replace(SETTINGS, model="org/mine")).name == "org/mine"


def test_the_environment_names_one(monkeypatch, extras):
    extras(True)
    monkeypatch.setenv("BAY_MODEL", "org/mine")
    assert candidates()[0].name == "org/mine"


def test_a_configured_path_that_is_gone_is_not_usable(extras, tmp_path):
    extras(True)
    found = candidates(replace(SETTINGS, model=str(tmp_path / "gone.gguf")))[0]
    assert not found.usable
    assert "does not exist" in found.why


def test_nothing_usable_says_what_to_install(extras):
    extras(False)
    with pytest.raises(ModelError, match=r"baywindow\[local\]"):
        load(settings=SETTINGS)
    with pytest.raises(MissingExtraError, match=r"baywindow\[local\]"):
        load("org/name", settings=SETTINGS)


@pytest.mark.parametrize(
    ("name", "base_url", "remote"),
    [
        ("openai:gpt-x", None, True),
        ("gpt-x", None, False),
        ("gpt-x", "http://localhost:8000/v1", True),
        ("org/name", "http://localhost:8000/v1", True),
        ("embedded", "http://localhost:8000/v1", False),
        ("./model.gguf", "http://localhost:8000/v1", False),
        ("/models/qwen", "http://localhost:8000/v1", False),
    ],
)
def test_what_is_served_and_what_is_local(name, base_url, remote):
    assert is_remote(name, replace(SETTINGS, base_url=base_url)) is remote


def test_a_served_model_takes_the_settings():
    settings = replace(SETTINGS, base_url="http://10.0.0.5:8000/v1", context=8192, concurrency=7, timeout_s=9.0, api_key_env="K")
    model = load("openai:qwen", settings=settings)
    assert isinstance(model, OpenAIModel)
    assert (model.name, model.context_length, model.remote) == ("qwen", 8192, "http://10.0.0.5:8000/v1")
    assert (model.endpoint.concurrency, model.endpoint.timeout_s, model.endpoint.api_key_env) == (7, 9.0, "K")


def test_wrong_names_are_one_line_with_the_nearest(extras):
    extras(True)
    for name, expected in (("embeded", "nearest: embedded"), ("Qwen/Qwen2.5-0.5B-Instrct", f"nearest: {DEFAULT_HUB_MODEL}")):
        with pytest.raises(ModelError, match=expected) as raised:
            load(name, settings=SETTINGS)
        assert "\n" not in raised.value.message
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        load("nobody/nothing", settings=SETTINGS)


def test_a_hub_that_does_not_answer_is_given_up_soon(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    answers, why = hub.hub_answers("org/name")
    assert not answers
    assert "cannot be reached" in why


def test_a_folder_loads_by_its_path(tiny):
    folder = str(tiny(chat=True))
    model = load(folder, settings=replace(SETTINGS, device="cpu", dtype="float32", context=99))
    assert (model.name, model.context_length) == (folder, 99)


def test_the_licence_is_the_packages():
    terms = embedded.licence()
    assert terms.url.startswith("https://ai.google.dev/gemma")
    if embedded.installed():
        assert "Gemma" in terms.file.read_text(encoding="utf-8")


def test_an_endpoint_without_a_model_name_is_refused_and_no_other_model_answers():
    from baywindow.config import Settings

    with pytest.raises(ModelError, match="which model of http://localhost:9/v1"):
        select.load(settings=Settings(base_url="http://localhost:9/v1"))
