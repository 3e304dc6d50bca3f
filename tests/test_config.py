"""Settings come from defaults, two files, the environment and flags, in rising order; slips are named with the file and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from baywindow import config
from baywindow.budget import Prices
from baywindow.config import Settings
from baywindow.errors import ConfigError


@pytest.fixture
def places(tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's configuration file and a project's, with the working folder two levels below the project."""
    user = private_home / "config" / "bay.toml"
    user.parent.mkdir(parents=True)
    below = tmp_path / "project" / "docs" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return user, tmp_path / "project" / "bay.toml"


def test_the_order_is_defaults_user_project_environment_flags(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    user, project = places
    assert Settings().concurrency == 4
    assert Settings().model is None
    user.write_text('model = "user"\nconcurrency = 5\ntimeout_s = 7\n')
    assert (Settings().model, Settings().concurrency, Settings().timeout_s) == ("user", 5, 7.0)
    project.write_text('model = "project"\nconcurrency = 6\n')
    assert (Settings().model, Settings().concurrency, Settings().timeout_s) == ("project", 6, 7.0)
    monkeypatch.setenv("BAY_MODEL", "environment")
    assert (Settings().model, Settings().concurrency, Settings().timeout_s) == ("environment", 6, 7.0)
    assert Settings(model="flag").model == "flag"
    assert Settings(model=None).model == "environment"  # a flag that was not given hides nothing


def test_the_nearest_project_file_counts_alone(places: tuple[Path, Path]):
    _, project = places
    project.write_text('model = "far"\nconcurrency = 9\n')
    (project.parent / "docs" / "bay.toml").write_text('model = "near"\n')
    assert (Settings().model, Settings().concurrency) == ("near", 4)


def test_where_each_setting_comes_from_can_be_asked(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    user, project = places
    user.write_text('model = "user"\ntimeout_s = 7\n')
    project.write_text('model = "project"\n')
    monkeypatch.setenv("BAY_DEVICE", "cpu")
    assert config.origins({"context": 5000, "model": None}) == {
        "model": str(project),
        "timeout_s": str(user),
        "device": "BAY_DEVICE",
        "context": "the flag or argument context",
    }


def test_tables_work_in_files_and_in_the_environment(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    _, project = places
    project.write_text(
        '[prices]\nprompt_usd = 0.15\n[recipes]\nmine = "hybrid(k=5) > rag"\n[recipes.table]\noutside = [{name = "hybrid", k = 3}]\n'
    )
    monkeypatch.setenv("BAY_PRICES__GENERATED_USD", "0.6")
    found = Settings()
    assert found.token_prices() == Prices(prompt_usd=0.15, generated_usd=0.6)
    assert found.recipe_of(" mine ") == "hybrid(k=5) > rag"
    assert found.recipe_of("table") == {"outside": [{"name": "hybrid", "k": 3}]}
    assert found.recipe_of("other") == "other"
    assert found.recipe_of(None) is None
    assert Settings(recipe="mine").recipe_of(None) == "hybrid(k=5) > rag"
    assert Settings(recipe="mine").recipe_of("given") == "given"


def test_no_prices_means_none(places: tuple[Path, Path]):
    assert Settings().token_prices() is None


@pytest.mark.parametrize(
    ("text", "complaint", "hint"),
    [
        ('modle = "x"', r"bay\.toml: there is no setting 'modle'", "nearest: model"),
        ("[prices]\npromt_usd = 1", r"bay\.toml: there is no setting prices\.'promt_usd'", "nearest: prices.prompt_usd"),
        ('api_key = "sk-1"', "there is no setting 'api_key'", "api_key_env"),
        ("model = ", r"bay\.toml is not valid TOML", "one setting a line"),
        ('concurrency = "many"', r"bay\.toml: concurrency='many' is not allowed", "concurrency is: calls to an endpoint"),
        ("concurrency = 0", r"bay\.toml: concurrency=0 is not allowed", "concurrency is"),
        ('dtype = "int3"', r"bay\.toml: dtype='int3' is not allowed", "dtype is"),
        ('device = "gpu"', r"bay\.toml: device='gpu' is not allowed", "cuda"),
        ("[prices]\nprompt_usd = -1", r"bay\.toml: prices\.prompt_usd=-1 is not allowed", "prices is"),
    ],
)
def test_a_slip_in_a_file_is_named(places: tuple[Path, Path], text: str, complaint: str, hint: str):
    _, project = places
    project.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as error:
        Settings()
    assert hint in error.value.hint


def test_a_slip_in_the_environment_or_a_flag_is_named(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="the flag or argument context: context=3 is not allowed"):
        Settings(context=3)
    with pytest.raises(ConfigError, match="there is no setting 'modle'"):
        Settings(modle="x")
    monkeypatch.setenv("BAY_TIMEOUT_S", "soon")
    with pytest.raises(ConfigError, match="BAY_TIMEOUT_S: timeout_s='soon' is not allowed"):
        Settings()
    monkeypatch.delenv("BAY_TIMEOUT_S")
    monkeypatch.setenv("BAY_PRICES", "cheap")
    with pytest.raises(ConfigError, match="BAY_PRICES: prices='cheap' is not allowed"):
        Settings()
    monkeypatch.delenv("BAY_PRICES")
    monkeypatch.setenv("BAY_RECIPES", "fast")
    with pytest.raises(ConfigError) as error:
        Settings()
    assert "BAY_PRICES__PROMPT_USD" in error.value.hint


def test_an_unreadable_encoding_is_named(places: tuple[Path, Path]):
    _, project = places
    project.write_bytes(b'model = "\xff"')
    with pytest.raises(ConfigError, match=r"bay\.toml is not valid TOML"):
        Settings()


def test_unknown_variables_are_pointed_out_and_do_no_harm(monkeypatch: pytest.MonkeyPatch, places: tuple[Path, Path]):
    monkeypatch.setenv("BAY_MODLE", "x")
    monkeypatch.setenv("BAY_PRICES__PROMPT_USD", "1")
    assert Settings().model is None
    assert config.unknown_variables() == {"BAY_MODLE": "BAY_MODEL"}


def test_settings_are_immutable_and_a_dotenv_file_is_left_alone(places: tuple[Path, Path]):
    (Path.cwd() / ".env").write_text("BAY_MODEL=dotenv\n")
    found = Settings()
    assert found.model is None
    with pytest.raises(ValueError, match="frozen"):
        found.model = "x"
