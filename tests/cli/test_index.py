"""`bay index` on real files and a real index, with an embedder that hashes words."""

from __future__ import annotations

import json

import baywindow.models.embedders as embedders
from baywindow.errors import MissingExtraError


def test_files_are_added_changed_removed_and_listed(bay, folder):
    assert bay("index", ".").stdout == "2 added, 0 changed, 0 removed, 0 unchanged\nevery chunk has its vector\n"
    assert bay("index", ".").stdout.startswith("0 added, 0 changed, 0 removed, 2 unchanged\n")
    (folder / "garden.md").write_text("# Garden\n\nNothing grows any more in this garden.\n")
    (folder / "house.md").unlink()
    assert bay("index", ".").stdout.startswith("0 added, 1 changed, 1 removed, 0 unchanged\n")
    listed = bay("index", "--list")
    assert listed.stdout.split("\t")[:4] == [str(folder), "1", "1", "100%"]
    assert "word hashes" in listed.stderr
    info = json.loads(bay("index", "--list", "--json").stdout)
    assert (info["exists"], info["files"], info["roots"][0]["path"]) == (True, 1, str(folder))


def test_a_path_is_forgotten_by_its_name(bay, folder):
    bay("index", ".")
    assert bay("index", "--remove", "house.md").stdout == "forgot 1 file of house.md\n"
    assert json.loads(bay("index", "--list", "--json").stdout)["files"] == 1
    done = bay("index", "--remove", "house.md")
    assert done.exit_code == 2
    assert "is not in the index" in done.stderr


def test_rebuilding_reads_everything_again(bay, folder):
    bay("index", ".")
    assert bay("index", ".", "--rebuild").stdout.startswith("2 added")
    assert bay("index", "--rebuild").stdout.startswith("2 added")


def test_an_index_elsewhere_is_another_index(bay, folder, tmp_path):
    assert bay("index", "house.md", "--index", str(tmp_path / "other")).exit_code == 0
    assert "nothing is indexed yet" in bay("index", "--list").stdout
    assert str(tmp_path / "other") in bay("index", "--list", "--index", str(tmp_path / "other")).stderr


def test_bad_input_is_one_line_with_a_hint(bay, folder):
    for arguments in ([], ["nosuch"]):
        done = bay("index", *arguments)
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 2
        assert "\nhint: " in done.stderr


def test_without_the_extra_there_are_words_and_a_line_that_says_so(bay, folder, monkeypatch):
    def missing(name=None, settings=None):
        raise MissingExtraError.of("the embedder", "local")

    monkeypatch.setattr(embedders, "load_embedder", missing)
    done = bay("index", ".")
    assert done.exit_code == 0
    assert done.stdout == "2 added, 0 changed, 0 removed, 0 unchanged\n"
    assert "words only, no vectors" in done.stderr
    assert bay("index", ".", "--embedder", "some/model").exit_code == 2
