"""`bay memory`: looking, changing, forgetting, as a person does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope


@pytest.fixture
def told(private_home: Path) -> None:
    """Two turns of mine and one of Bob's in the user's own memory; one of mine has a fact that was changed once."""
    with Memory(system="turn_retrieval(by='words')") as memory:
        with memory.working(["My cat is called Tom.", "It rains."]) as work:
            old = work.add("fact", "The cat is Tom", [work.fresh[0]])
            work.update(old, "The cat is called Tom", [work.fresh[0]], reason="clearer")
        memory.add("Bob's secret", Scope("bob"))


def rows(result) -> list[list[str]]:
    assert result.exit_code == 0, result.stderr
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_list_search_and_show(bay, told) -> None:
    listed = rows(bay("memory", "list"))
    assert [row[2:] for row in listed] == [["fact", "The cat is called Tom"]]
    assert [row[3] for row in rows(bay("memory", "list", "--said"))] == ["user: My cat is called Tom.", "user: It rains."]
    assert [row[2] for row in rows(bay("memory", "list", "--past"))] == ["fact (history)", "fact"]
    assert [row[3] for row in rows(bay("memory", "list", "--user", "bob"))] == ["user: Bob's secret"]
    found = rows(bay("memory", "search", "rains", "--k", "1"))
    assert [row[3] for row in found] == ["user: It rains."]  # the default system finds what was said
    shown = bay("memory", "show", listed[0][0][:8]).stdout
    assert "text: The cat is called Tom" in shown
    assert "user: me" in shown
    missing = bay("memory", "show", "m000000")
    assert (missing.exit_code, "there is no memory 'm000000' in this scope" in missing.stderr) == (2, True)


def test_json_is_one_document(bay, told) -> None:
    (fact,) = json.loads(bay("memory", "list", "--json").stdout)
    assert fact["scope"] == {"user": "me", "agent": "", "session": ""}
    assert json.loads(bay("memory", "show", fact["id"], "--json").stdout) == fact
    history = json.loads(bay("memory", "history", fact["id"], "--json").stdout)
    assert [len(history[name]) for name in ("versions", "decisions", "turns")] == [2, 2, 1]
    assert json.loads(bay("memory", "search", "cat", "--json").stdout)[0]["turns"] == fact["turns"]


def test_edit_history_and_undo(bay, told) -> None:
    name = rows(bay("memory", "list"))[0][0]
    edited = bay("memory", "edit", name, "The cat is called Tomas")
    decision = edited.stdout.split()[-1]
    shown = rows(bay("memory", "history", name))
    assert [row[3] for row in shown[:3]] == ["The cat is Tom", "The cat is called Tom", "The cat is called Tomas"]
    assert shown[5][0] == decision
    assert shown[5][2].startswith("UPDATE: ")
    assert shown[5][3] == "edited by a person"
    assert bay("memory", "undo", decision).exit_code == 0
    assert rows(bay("memory", "list"))[0][3] == "The cat is called Tom"


def test_forget_asks_first_and_compact_clears_the_files(bay, told, private_home: Path) -> None:
    name = rows(bay("memory", "list"))[0][0]
    refused = bay("memory", "forget", name, stdin="n\n")
    assert refused.exit_code != 0
    assert "Forget 1 turn and what was made of it?" in refused.stderr
    assert rows(bay("memory", "list"))
    done = bay("memory", "forget", name, "--yes")
    assert "forgot 1 turn and 2 versions of memories" in done.stdout
    assert [row[3] for row in rows(bay("memory", "list"))] == ["user: It rains."]
    assert bay("memory", "compact").exit_code == 0
    held = b"".join(path.read_bytes() for path in private_home.rglob("*") if path.is_file())
    assert b"Tom" not in held
    assert b"secret" in held
    assert "nothing holds these words" in bay("memory", "forget", "--query", "Tom", "--yes").stderr
    assert bay("memory", "forget", "--all", "--user", "bob", "--yes").exit_code == 0
    assert "nothing is remembered" in bay("memory", "list", "--user", "bob").stderr
    assert bay("memory", "forget").exit_code == 2
    assert bay("memory", "forget", "m1234", "--all").exit_code == 2


def test_export_and_import_move_a_memory(bay, told, tmp_path: Path) -> None:
    file = tmp_path / "me.jsonl"
    assert "wrote 4 turns and memories" in bay("memory", "export", str(file)).stdout
    assert "secret" not in file.read_text()
    other = str(tmp_path / "other")
    assert "4 turns and memories were new" in bay("memory", "import", str(file), "--store", other).stdout
    assert [row[3] for row in rows(bay("memory", "list", "--store", other))] == ["The cat is called Tom"]
    wrong = bay("memory", "import", str(tmp_path / "none.jsonl"))
    assert (wrong.exit_code, wrong.stderr.startswith("error: ")) == (2, True)


def test_what_is_remembered_cannot_command_the_terminal(bay, private_home: Path) -> None:
    with Memory(system="turn_retrieval(by='words')") as memory:
        memory.add("red \x1b[31m alert")
    assert "\x1b" not in bay("memory", "list").stdout
    assert "\x1b" not in bay("memory", "search", "alert").stdout


def test_the_settings_say_where_it_is(bay, told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BAY_MEMORY", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in bay("memory", "list").stderr
