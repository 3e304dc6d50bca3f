"""`bay search` on real files: passages with their places, in a pipe and as JSON."""

from __future__ import annotations

import json


def test_the_best_passage_comes_first_with_its_place(bay, folder):
    done = bay("search", "who painted the fence", ".", "--recipe", "full_text")
    assert done.exit_code == 0, done.stderr
    place, text = done.stdout.splitlines()[0].split("\t")
    assert place.startswith("garden.md:")
    assert "Ida painted the fence green in June." in text


def test_the_default_recipe_needs_no_model_and_k_limits_it(bay, folder):
    found = json.loads(bay("search", "roof", ".", "--k", "1", "--json").stdout)
    assert len(found) == 1
    assert found[0]["source"] == "house.md"
    assert found[0]["text"] == (folder / "house.md").read_text()[found[0]["start"] : found[0]["end"]]


def test_standard_input_is_searched_too(bay, folder):
    done = bay("search", "plum", "-", "--recipe", "full_text", stdin="An apple.\n\nA plum tree.\n")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("-:")
    assert "plum tree" in done.stdout


def test_nothing_found_is_said_on_stderr(bay, folder):
    done = bay("search", "zebra", ".", "--recipe", "full_text")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing was found" in done.stderr


def test_bad_input_is_one_line_with_a_hint(bay, folder):
    for arguments in (["x"], ["x", "nosuch.txt"], ["", "."], ["x", ".", "--recipe", "stuff"], ["x", ".", "--recipe", "hybird"]):
        done = bay("search", *arguments)
        assert done.exit_code == 2, arguments
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert "\nhint: " in done.stderr
