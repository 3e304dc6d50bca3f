"""What is printed of documents cannot command a terminal, and pipes get plain lines."""

from __future__ import annotations

import json

import pytest

from baywindow.cli import output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b]0;title\x07\x1b[31mred", "]0;title[31mred"),
        ("over\rwritten\x08", "overwritten"),
        ("\x9b2J", "2J"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("naïve 東京 🙂 e\u0301", "naïve 東京 🙂 e\u0301"),
        ("lone \ud800 surrogate", "lone  surrogate"),
    ],
)
def test_clean(text: str, shown: str):
    assert output.clean(text) == shown


def test_markup_is_printed_as_it_is(capsys):
    output.say("[red]a[/red] [link=x]")
    assert capsys.readouterr().out == "[red]a[/red] [link=x]\n"


def test_long_lines_are_not_broken_in_a_pipe(capsys):
    output.say("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_table_in_a_pipe_is_tab_separated_without_a_heading(capsys):
    table = output.new_table("a", "b")
    table.add_row("1", "x" * 200)
    table.add_row("2", "y")
    output.tabulate(table)
    assert capsys.readouterr().out == f"1\t{'x' * 200}\n2\ty\n"


def test_json_keeps_every_character(capsys):
    output.tell_json({"text": "naïve \u202e"})
    assert json.loads(capsys.readouterr().out) == {"text": "naïve \u202e"}


def test_progress_in_a_log_is_a_line_now_and_then(capsys, monkeypatch):
    times = iter([100.0, 100.1, 105.1, 105.1, 106.0, 111.0, 111.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(times))
    with output.Progress() as progress:
        for text in ("one", "two", "three", "four"):
            progress(text)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "two\nfour\n"


def test_shorten_and_size():
    assert output.shorten("a  b\nc", 10) == "a b c"
    assert output.shorten("abcdef", 4) == "abc…"
    assert [output.size(n) for n in (0, 999, 1000, 1_500_000, 2e12)] == ["0 B", "999 B", "1.0 KB", "1.5 MB", "2000.0 GB"]
