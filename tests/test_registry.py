"""Techniques are found by room and file name; cards are read without importing; other people's packages use the same door."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baywindow import registry
from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import NEEDS, ROOMS, Card, Technique, check_card

PLUGIN = Path(__file__).parent / "plugin_package"


def entry_point_package(folder: Path, name: str, source: str) -> None:
    """What an installed package leaves behind: a module and a dist-info that names it."""
    package = folder / f"pkg_{name}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"{name}.py").write_text(source)
    info = folder / f"pkg_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pkg-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[baywindow.techniques]\n{name} = pkg_{name}.{name}\n")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder on the import path for made-up packages; what the registry found in it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.clear()
    yield tmp_path
    monkeypatch.undo()
    for name in [m for m in sys.modules if m.startswith("pkg_")]:
        del sys.modules[name]
    registry.clear()


def source(room: str = "context/read", summary: str = "does something", extra: str = "") -> str:
    return (
        "from baywindow.registry import Technique, technique\n\n\n"
        f"@technique(room={room!r}, summary={summary!r}{extra})\nclass X(Technique):\n    pass\n"
    )


def test_every_card_read_from_source_equals_the_card_of_the_imported_class():
    cards = registry.cards()
    assert cards, "the package holds techniques"
    for card in cards:
        assert registry.get(card.name).card == card


def test_every_card_of_the_package_keeps_the_rules():
    for card in registry.cards():
        check_card(card)
        assert set(card.needs) <= NEEDS
        assert all(len(departure.split()) > 2 for departure in card.departures), f"{card.name}: a departure states its reason"
        assert not card.paper or 2000 < card.year < 2100


def test_listing_imports_neither_torch_nor_any_technique():
    script = (
        "import sys; from baywindow import registry; found = registry.cards();"
        "heavy = {'torch', 'transformers', 'lancedb', 'numpy', *(c.module for c in found)} & set(sys.modules); print(len(found), heavy)"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split(maxsplit=1)
    assert int(printed[0]) > 0
    assert printed[1].strip() == "set()"


def test_threads_that_come_at_once_read_the_sources_once(monkeypatch):
    read = []
    inner = registry._read_card
    monkeypatch.setattr(registry, "_read_card", lambda path, *rest: read.append(path) or inner(path, *rest))
    monkeypatch.setattr(registry, "_read_cards", functools.cache(registry._read_cards.__wrapped__))
    start = threading.Barrier(8)

    def look(_):
        start.wait()
        return len(registry.cards())

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(look, range(8)))
    assert len(found) == 1
    assert len(read) == len(set(read)) >= found.pop()


@pytest.mark.usefixtures("toys")
def test_wildcards_match_names_and_rooms_and_the_rooms_last_word():
    def names(pattern: str) -> list[str]:
        return [c.name for c in registry.cards(pattern) if c.name.startswith("toy")]

    assert names("toy_cache*") == ["toy_cache", "toy_cache_two"]
    assert names("window/*") == ["toy_position", "toy_position_two", "toy_cache", "toy_cache_two", "toy_quantiser"]
    assert names("read") == names("context/read") == ["toy_read", "toy_read_picky"]
    assert names("ToY*") == []
    assert registry.cards("nothing_like_this") == []


@pytest.mark.usefixtures("toys")
def test_an_unknown_name_lists_the_nearest_three():
    with pytest.raises(RecipeError, match="no technique is called 'toy_cahce'") as error:
        registry.get("toy_cahce")
    near = error.value.hint.removeprefix("nearest: ").partition(";")[0].split(", ")
    assert len(near) == 3
    assert near[0] == "toy_cache"


@pytest.mark.usefixtures("toys")
def test_get_gives_the_frozen_class_with_its_card():
    cls = registry.get("toy_pick")
    assert issubclass(cls, Technique)
    made = cls(k=3)
    assert made.options() == {"k": 3, "weights": (1.0, 0.5), "mode": "near", "label": None, "rerank": "toy", "strict": False}
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.k = 4
    assert cls.card.to_dict() == {
        "name": "toy_pick",
        "room": "context/retrieve",
        "summary": "picks passages",
        "paper": "",
        "year": 0,
        "needs": ("text",),
        "claim": "Picks.",
        "departures": ("None of it is real: it is a toy.",),
    }


def test_every_preset_parses_and_no_technique_has_its_name():
    from baywindow import recipe

    assert {"default", "default_inside"} <= set(registry.presets())
    for name, preset in registry.presets().items():
        assert preset.summary
        assert recipe.parse(name) == recipe.parse(preset.recipe)
        assert name not in {c.name for c in registry.cards()}


@pytest.mark.usefixtures("toys")
def test_two_packages_with_one_name_are_an_error_naming_both(elsewhere: Path):
    entry_point_package(elsewhere, "toy_read", source())
    registry.clear()
    with pytest.raises(ConfigError, match=r"two things are called 'toy_read': .*toy_read and .*toy_read"):
        registry.cards()


def test_a_technique_may_not_take_a_presets_name_or_the_reserved_word(elsewhere: Path):
    entry_point_package(elsewhere, "stock", source())
    with pytest.raises(ConfigError, match="two things are called 'stock'"):
        registry.cards()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (source(room="attic"), "unknown room 'attic'"),
        (source(summary=""), "1 to 90 characters"),
        (source(summary="s" * 91), "1 to 90 characters"),
        (source(extra=", needs=('magic',)"), r"unknown needs \['magic'\]"),
        (source(extra=", year=1000 + 1024"), "takes literals only"),
        ("x = 1\n", "holds no @technique"),
    ],
)
def test_a_bad_card_is_refused_with_the_rule_it_breaks(elsewhere: Path, text: str, complaint: str):
    entry_point_package(elsewhere, "bad", text)
    with pytest.raises(ConfigError, match=complaint):
        registry.cards()


def test_a_card_for_every_room_is_accepted_and_knows_its_side():
    sides = {room: Card(name="x", room=room, summary="s").side for room in ROOMS}
    assert {room for room, side in sides.items() if side == "inside"} == {room for room in ROOMS if room.startswith("window/")}


def test_an_entry_point_to_a_missing_module_is_an_error(elsewhere: Path):
    entry_point_package(elsewhere, "gone", source())
    (elsewhere / "pkg_gone" / "gone.py").unlink()
    with pytest.raises(ConfigError, match="names a module that is not there"):
        registry.cards()


@pytest.fixture(scope="module")
def installed_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/plugin_package, built and installed by pip as anybody would, into a folder of its own and without a network."""
    target = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("plugin") / "plugin_package"
    shutil.copytree(PLUGIN, copy, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-qq"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def test_an_installed_package_adds_a_technique_through_its_entry_point(installed_plugin: Path, monkeypatch: pytest.MonkeyPatch):
    from baywindow import recipe

    with pytest.raises(RecipeError):
        registry.card("longest_first")
    monkeypatch.syspath_prepend(str(installed_plugin))
    registry.clear()
    try:
        assert registry.card("longest_first").module == "bay_plugin.longest_first"
        assert registry.get("longest_first").card == registry.card("longest_first")
        parsed = recipe.parse("longest_first(keep=2)")
        assert str(parsed) == "longest_first(keep=2)"
        with pytest.raises(RecipeError, match="keep=0 is not allowed"):
            recipe.parse("longest_first(keep=0)")
    finally:
        monkeypatch.undo()
        registry.clear()


def test_the_installed_technique_works_in_a_run(installed_plugin: Path, monkeypatch: pytest.MonkeyPatch):
    from baywindow import recipe
    from baywindow.documents.base import Passage

    class Listener:
        notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    monkeypatch.syspath_prepend(str(installed_plugin))
    registry.clear()
    try:
        (part,) = recipe.parse("longest_first(keep=1)").outside
        passages = [Passage(text="ab", source="a", start=0, end=2, line=1), Passage(text="abc", source="a", start=2, end=5, line=1)]
        assert part.compress(Listener(), passages) == passages[1:]
        assert Listener.notes == ["1 shorter passages were left out"]
    finally:
        monkeypatch.undo()
        registry.clear()
