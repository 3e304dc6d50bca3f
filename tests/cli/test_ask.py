"""`bay ask` from the command line down to a scripted model: answer, sources, remarks, and what goes to which stream."""

from __future__ import annotations

import json

import pytest

from baywindow.cli import ask, output
from baywindow.trace import Answer, Citation

QUESTION = "Who painted the fence?"
RECIPE = ["--recipe", "full_text(k=2) > rag"]


def test_the_answer_goes_to_stdout_with_its_sources_and_the_rest_to_stderr(bay, folder, answers):
    model = answers("Ida did. [1]")
    done = bay("ask", QUESTION, ".", *RECIPE)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Ida did. [1]"
    assert lines[1:3] == ["", "Sources"]
    assert lines[3].startswith("[1] garden.md:")
    assert "Ida painted the fence" in lines[4]
    assert "1 call of scripted" in done.stderr
    assert "painted the fence" in model.prompts[0][-1].content


def test_not_found_is_an_answer_without_sources(bay, folder, answers):
    answers("NOT FOUND")
    done = bay("ask", "Who sang?", ".", *RECIPE)
    assert done.exit_code == 0
    assert "ot found in these documents" in done.stdout
    assert "Sources" not in done.stdout


def test_json_is_the_answer_and_nothing_else(bay, folder, answers):
    answers("Ida did. [1]", label="small base model")
    done = bay("ask", QUESTION, ".", *RECIPE, "--json", "--trace")
    found = json.loads(done.stdout)
    assert (found["text"], found["found"]) == ("Ida did. [1]", True)
    assert found["citations"][0]["source"] == "garden.md"
    assert found["trace"]["recipe"] == "full_text(k=2) > rag"


def test_standard_input_is_a_source(bay, folder, answers):
    answers("A plum tree. [1]")
    done = bay("ask", "Which tree?", "-", *RECIPE, stdin="An apple.\n\nA plum tree.\n")
    assert done.exit_code == 0, done.stderr
    assert "[1] -:" in done.stdout


def test_a_weak_model_is_labelled_and_the_best_passages_come_first(bay, folder, answers):
    answers("Ida did. [1]", label="small base model")
    said = bay("ask", QUESTION, ".", *RECIPE).stdout
    assert said.index("Best passages") < said.index("Ida painted the fence") < said.index("Answer (small base model)")
    assert said.index("Answer (small base model)") < said.index("Ida did. [1]")


def test_the_best_passages_of_a_weak_model_are_shown_before_it_has_written_anything(capsys):
    from baywindow.documents.base import Passage
    from baywindow.trace import Event

    teller = ask.Teller(output.Progress(), "small base model", quiet=False)
    found = tuple(Passage(text=f"text {n}", source="a", start=n, end=n + 6, line=n) for n in range(1, 6))
    teller(Event(kind="passages", passages=found))
    teller(Event(kind="passages", passages=found[::-1]))  # a later stage's choice does not show them again
    assert capsys.readouterr().out == "Best passages\n  a:1\n    text 1\n  a:2\n    text 2\n  a:3\n    text 3\n\n"
    teller = ask.Teller(output.Progress(), "small base model", quiet=True)
    teller(Event(kind="passages", passages=found))
    assert capsys.readouterr().out == ""


def test_what_leaves_the_machine_is_said_before_it_is_sent(bay, folder, answers, monkeypatch):
    model = answers("Ida did. [1]", remote="https://models.example/v1")
    order = []
    monkeypatch.setattr(output, "remark", lambda text: order.append(text))
    real = model.generate
    model.generate = lambda prompt, sampling: order.append("sent") or real(prompt, sampling)
    (folder / "bay.toml").write_text('base_url = "https://models.example/v1"\n')
    assert bay("ask", QUESTION, "garden.md", *RECIPE, "--model", "m").exit_code == 0
    assert order[0].startswith("sent to https://models.example/v1: the question and the passages")
    assert "bay.toml" in order[0]
    assert order.index("sent") > 0


def test_an_endpoint_without_a_models_name_is_not_passed_over_for_another_model(bay, folder, answers):
    answers("never said")
    done = bay("ask", QUESTION, ".", *RECIPE, "--base-url", "http://localhost:1/v1")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: which model of http://localhost:1/v1?\nhint: name it with --model")


def test_a_local_model_sends_nothing_and_says_nothing(bay, folder, answers):
    answers("Ida did. [1]")
    assert "sent to" not in bay("ask", QUESTION, ".", *RECIPE).stderr


def test_trace_shows_steps_and_what_became_of_the_context(bay, folder, answers):
    answers("Ida did. [1]")
    said = bay("ask", QUESTION, ".", *RECIPE, "--trace").stdout
    assert "Trace: full_text(k=2) > rag [" in said
    steps = [line.split("\t") for line in said.splitlines() if line.startswith(("full_text\t", "rag\t"))]
    assert [s[:2] for s in steps] == [["full_text", "0"], ["rag", "1"]]
    assert "passage" in said


def test_k_reaches_the_techniques_that_have_it(bay, folder, answers):
    model = answers("Ida did. [1]")
    assert bay("ask", QUESTION, ".", "--recipe", "full_text > rag", "--k", "1").exit_code == 0
    assert "roof" not in model.prompts[0][-1].content
    done = bay("ask", QUESTION, ".", "--recipe", "stuff", "--k", "1")
    assert done.exit_code == 2
    assert "no technique of stuff has an option k" in done.stderr


def test_a_budget_that_cannot_do_is_refused_before_any_call(bay, folder, answers):
    model = answers("never said")
    done = bay("ask", QUESTION, ".", *RECIPE, "--budget", "tokens=5")
    assert done.exit_code == 2
    assert "the budget is 5" in done.stderr
    assert model.prompts == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([QUESTION], "no documents were named"),
        ([QUESTION, "nosuch.pdf"], "nosuch.pdf"),
        (["", "."], "the question is empty"),
        ([QUESTION, ".", "--recipe", "stuf"], "no technique is called 'stuf'"),
        ([QUESTION, ".", "--recipe", "stuff(k=1)"], "stuff has no option 'k'"),
        ([QUESTION, ".", "--recipe", "rag > stuff"], "cannot stand in one recipe"),
        ([QUESTION, ".", "--budget", "hours=1"], "budget 'hours=1' is not understood"),
        ([QUESTION, ".", "--context", "3"], "context=3 is not allowed"),
    ],
)
def test_bad_input_is_one_line_with_a_hint(bay, folder, answers, arguments, complaint):
    model = answers("never said")
    done = bay("ask", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert complaint in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[1].startswith("hint: ")
    assert model.prompts == []


def test_a_mistyped_path_is_found_before_the_model_is_loaded(bay, folder, monkeypatch):
    from baywindow.models import select

    monkeypatch.setattr(select, "load", lambda *a, **k: pytest.fail("the model was loaded"))
    assert bay("ask", QUESTION, "nosuch.pdf").exit_code == 2


def test_an_unverified_quote_is_marked(capsys):
    citation = Citation(n=1, source="a.pdf", start=0, end=3, quote="abc", verified=False, page=2)
    ask.show_sources((citation,))
    assert "[1] a.pdf, page 2  (not verified" in capsys.readouterr().out


def test_at_a_terminal_the_answer_streams_and_a_corrected_one_is_shown_again(capsys, monkeypatch):
    from baywindow.trace import Event

    monkeypatch.setattr(output, "at_terminal", lambda: True)
    teller = ask.Teller(output.Progress(), "", quiet=False)
    for piece in ("Ida ", "did. [7]"):
        teller(Event(kind="token", text=piece))
    assert capsys.readouterr().out == "Ida did. [7]"
    teller.finish(Answer(text="Ida did."))
    captured = capsys.readouterr()
    assert "after its marks were checked" in captured.err
    assert captured.out == "\nIda did.\n"
    teller = ask.Teller(output.Progress(), "", quiet=False)
    teller(Event(kind="token", text="Ida did. [1]"))
    teller.finish(Answer(text="Ida did. [1]"))
    assert capsys.readouterr().out == "Ida did. [1]\n"


def test_an_answer_that_commands_the_terminal_is_cleaned(bay, folder, answers):
    answers("Ida \x1b[2J did. [1]")
    assert "\x1b" not in bay("ask", QUESTION, ".", *RECIPE).stdout
