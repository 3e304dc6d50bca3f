"""`graphreader`: a graph of facts, paths that explore it with a notebook each, an answer from all notebooks."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.capped import Capped
from baywindow.context.facts import EXTRACT_SYSTEM, extract_prompt, key_of
from baywindow.context.notes import ANSWER_NOTES_FORM
from baywindow.context.prompt import Packed
from baywindow.context.read.graphreader import PLAN_SYSTEM, REASON_SYSTEM, SELECT_SYSTEM, GraphReader
from baywindow.context.read.graphreader.explore import AT_NEIGHBOURS, AT_NODE, CHUNK_SYSTEM, NEIGHBOUR_SYSTEM, NODE_SYSTEM
from baywindow.context.read.graphreader.graph import built
from baywindow.context.read.rag import Rag
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Call, Run
from baywindow.errors import ConfigError

KINDS = {
    EXTRACT_SYSTEM: "extract",
    PLAN_SYSTEM: "plan",
    SELECT_SYSTEM: "select",
    NODE_SYSTEM: "node",
    CHUNK_SYSTEM: "chunk",
    NEIGHBOUR_SYSTEM: "neighbours",
    REASON_SYSTEM: "answer",
}


def kind(prompt) -> str:
    return KINDS.get(prompt[0].content, "repair")


def small(**options) -> GraphReader:
    # One line of 34 words with 7 of fence and separation is one chunk.
    return GraphReader(**{"chunk_tokens": 64, "facts_tokens": 60, "notebook_tokens": 40, "max_new_tokens": 30, **options})


SAID = ["Ada has a sister called Bo.", "Bo works in the mill.", "The mill stands in Oslo.", "Cy likes boats."]
FACTS = [
    ["Ada has a sister called Bo. [1] | Ada; Bo"],
    ["Bo works in the mill. [2] | Bo; the mill"],
    ["The mill stands in Oslo. [3] | Mill; Oslo"],
    ["Cy likes boats. [4] | Cy; boats"],
]
QUESTION = "In which town does Ada's sister work?"


@pytest.fixture
def story(corpus):
    return corpus(story="\n".join(f"chunk {i} {said} {'word ' * 28}" for i, said in enumerate(SAID)))


def extracted(prompt) -> str:
    return json.dumps({"facts": FACTS[int(re.search(r"chunk (\d)", prompt[-1].content)[1])]})


def at_node(notebook, action, *chunks) -> str:
    return json.dumps({"notebook": notebook, "action": action, "chunks": list(chunks)})


def at_chunk(notebook, action) -> str:
    return json.dumps({"notebook": notebook, "action": action})


def script(steps, select='{"nodes": ["Ada: 100"]}'):
    """Replies: the graph, the plan and the selection are fixed, the steps of the exploration come one by one."""
    steps = iter(steps)

    def reply(prompt):
        fixed = {"plan": "Find the sister, then her town.", "select": select, "answer": "Oslo [3]"}
        return extracted(prompt) if kind(prompt) == "extract" else fixed.get(kind(prompt)) or next(steps)

    return reply


def test_one_path_from_facts_to_a_chunk_to_neighbours_to_the_answer(story, scripted):
    steps = [
        at_node("Bo is the sister. [1]", "read_chunk", "1"),
        at_chunk("Bo is Ada's sister. [1]", "read_subsequent_chunk"),
        at_chunk("Bo is Ada's sister [1] and works in the mill. [2]", "search_more"),
        '{"neighbor": "bo"}',
        at_node("Bo is Ada's sister [1] and works in the mill. [2]", "read_neighbor"),
        "The Mill",
        at_node("Bo, Ada's sister [1], works in the mill [2], which is in Oslo. [3]", "read_chunk", "3"),
        at_chunk("Bo, Ada's sister [1], works in the mill [2] in Oslo. [3]", "termination"),
    ]
    model = scripted(script(steps), context_length=1500)
    assert small(start_nodes=1).read(Run(QUESTION, story, model), None) == "Oslo [3]"
    assert [kind(p) for p in model.prompts] == [
        *["extract"] * 4,
        "plan",
        "select",
        *["node", "chunk", "chunk", "neighbours", "node", "neighbours", "node", "chunk"],
        "answer",
    ]
    head = "Plan: Find the sister, then her town.\n\nNotebook: "
    node, chunk, after, neighbours, _, choose, mill, _ = (p[-1].content for p in model.prompts[6:14])
    assert node == f"{head}(empty)\n\nFacts on Ada:\n(chunk 1) Ada has a sister called Bo. [1]\n\nQuestion: {QUESTION}\n\n{AT_NODE.wording}"
    assert chunk.startswith(f"{head}Bo is the sister. [1]\n\n<passage [1] from story:1>\nchunk 0 ")
    assert "<passage [2] from story:2>\nchunk 1 " in after
    assert (
        neighbours
        == f"{head}Bo is Ada's sister [1] and works in the mill. [2]\n\nNeighbours:\nBo\n\nQuestion: {QUESTION}\n\n{AT_NEIGHBOURS.wording}"
    )
    assert "Neighbours:\nthe mill\n\n" in choose  # Ada was visited; "the mill" and "Mill" are one element, as first written
    assert "Facts on the mill:\n(chunk 2) Bo works in the mill. [2]\n(chunk 3) The mill stands in Oslo. [3]\n\n" in mill
    assert model.prompts[-1][-1].content == (
        f"Notes:\nNotebook 1: Bo, Ada's sister [1], works in the mill [2] in Oslo. [3]\n\nQuestion: {QUESTION}\n{ANSWER_NOTES_FORM}"
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The Mill", "mill", True),
        ("Ada's", "Ada", True),
        ("a boat ", "Boat.", True),
        ("St. Ives", "st ives", True),
        ("mill", "mills", False),
    ],
)
def test_elements_are_the_same_by_spelling(one, other, same):
    assert (key_of(one) == key_of(other)) is same


def test_the_graph_joins_what_facts_name_together(story, scripted):
    chunks = [Packed(extract_prompt(Run("q", story, scripted([])), [p]), (p,)) for p in story.passages()]
    run = Run("q", story, scripted(extracted))
    graph = built(Capped(run, 99), chunks, Call(name="x", max_new_tokens=60))
    # Oracle: pairs by hand from FACTS.
    pairs = {("ada", "bo"), ("bo", "mill"), ("mill", "oslo"), ("cy", "boats")}
    for key in graph.names:
        assert set(graph.neighbours(key)) == {b for a, b in pairs if a == key} | {a for a, b in pairs if b == key}
    assert graph.chunks_of("mill") == [1, 2]
    assert graph.nearest("Does Cy row?")[0] == "cy"
    assert (graph.find("THE MILL"), graph.find("Rome")) == ("mill", None)


def test_a_fact_without_elements_or_marks_is_still_reached_and_cited(story, scripted):
    chunks = [Packed(extract_prompt(Run("q", story, scripted([])), [p]), (p,)) for p in story.passages()]
    run = Run("q", story, scripted(lambda p: "Bo works in the mill." if "chunk 1" in p[-1].content else NOT_FOUND))
    for chunk in chunks:
        run.number(chunk.shown[0])
    graph = built(Capped(run, 99), chunks, Call(name="x", max_new_tokens=60))
    assert list(graph.names) == ["bo", "works", "mill"]
    assert graph.facts("mill")[0].text == "Bo works in the mill. [2]"


def test_start_nodes_are_the_best_scored_then_the_nearest_and_invented_ones_are_dropped(story, scripted):
    steps = [at_node("", "read_neighbor")] * 3 + ["termination"] * 3
    select = '{"nodes": ["Rome: 100", "Oslo: 20", "Cy: 90"]}'
    model = scripted(script(steps, select), context_length=1500)
    small(start_nodes=3).read(Run(QUESTION, story, model), None)
    starts = [re.search(r"Facts on (.*):", p[-1].content)[1] for p in model.prompts if kind(p) == "node"]
    assert starts == ["Cy", "Oslo", "Ada"]  # Ada fills up: the question names her


def test_paths_keep_notebooks_of_their_own_and_step_side_by_side(story, scripted):
    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "node":
            return at_node(f"facts on {re.search('Facts on (.*):', text)[1]}", "read_chunk")
        if kind(prompt) == "chunk":
            return at_chunk(re.search("Notebook: (.*)", text)[1] + " read", "termination")
        return script([], '{"nodes": ["Ada: 9", "Cy: 8"]}')(prompt)

    model = scripted(reply, context_length=1500)
    small(start_nodes=2).read(Run(QUESTION, story, model), None)
    assert [kind(p) for p in model.prompts[6:]] == ["node", "node", "chunk", "chunk", "answer"]
    assert "Notes:\nNotebook 1: facts on Ada read [1]\nNotebook 2: facts on Cy read [4]\n" in model.prompts[-1][-1].content


def test_invented_chunks_are_replaced_and_no_chunk_or_element_is_visited_twice(story, scripted):
    def reply(prompt):
        if kind(prompt) == "node":
            return at_node("n", "read_chunk", "77", "chunk 0")
        if kind(prompt) == "chunk":
            return at_chunk("n", "read_previous_chunk")
        if kind(prompt) == "neighbours":
            return re.search(r"Neighbours:\n(.*)\n", prompt[-1].content)[1]
        return script([])(prompt)

    model = scripted(reply, context_length=1500)
    small(start_nodes=1, max_steps=50).read(Run(QUESTION, story, model), None)
    read = [re.search(r"chunk (\d) ", p[-1].content.partition("<passage")[2])[1] for p in model.prompts if kind(p) == "chunk"]
    assert read == ["0", "1", "2"]
    visited = [re.search(r"Facts on (.*):", p[-1].content)[1] for p in model.prompts if kind(p) == "node"]
    assert visited == ["Ada", "Bo", "the mill", "Oslo"]


def test_the_claim_in_miniature_facts_three_hops_apart_are_joined_where_top_k_fails(story, scripted):
    def reader(prompt) -> str:
        text = prompt[-1].content.rpartition("Question:")[0]
        known = [said for said in SAID[:3] if said in text]
        if kind(prompt) == "node":
            return at_node(" ".join(known), "read_neighbor")
        if kind(prompt) == "neighbours":
            return re.search(r"Neighbours:\n(.*)\n", text)[1] if len(known) < 3 else "termination"
        if kind(prompt) in ("answer", "repair") or "passage" in text:
            return "Oslo" if len(known) == 3 else NOT_FOUND
        return script([])(prompt)

    def honest(prompt) -> str:
        return extracted(prompt) if kind(prompt) == "extract" else reader(prompt)

    got = small(start_nodes=1).read(Run(QUESTION, story, scripted(honest, context_length=700)), None)
    assert got == "Oslo"
    best = story.full_text(QUESTION, 2)
    assert Rag(max_new_tokens=30).read(Run(QUESTION, story, scripted(honest, context_length=700)), best) == NOT_FOUND


def test_without_any_fact_the_nearest_passages_are_read_and_that_is_said(story, scripted):
    model = scripted(lambda p: NOT_FOUND if kind(p) == "extract" else "in Oslo [3]", context_length=1500)
    run = Run("mill Oslo", story, model)
    assert small().read(run, None) == "in Oslo [3]"
    assert any("no facts could be taken" in note for note in run.notes)


def test_steps_calls_and_budget_are_capped_and_the_notebooks_are_answered_from(story, scripted):
    steps = [at_node("so far [1]", "read_chunk", "1"), at_chunk("so far [1]", "search_more"), '{"neighbor": "Bo"}'] * 9
    run = Run(QUESTION, story, scripted(script(steps), context_length=1500))
    assert small(start_nodes=1, max_steps=2).read(run, None) == "Oslo [3]"
    assert any("max_steps=2 was reached" in note for note in run.notes)
    model = scripted(script(steps), context_length=1500)
    run = Run(QUESTION, story, model)
    assert small(start_nodes=1, max_calls=9).read(run, None) == "Oslo [3]"
    assert len(model.prompts) == 9
    assert any("max_calls=9 was reached" in note for note in run.notes)
    run = Run(QUESTION, story, scripted(script(steps), context_length=1500), meter=Meter(budget=Budget(tokens=2000)))
    assert isinstance(small(start_nodes=1).read(run, None), str)
    assert run.meter.usage.tokens <= 2000


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    def reply(prompt):
        if kind(prompt) == "extract":
            n = re.search(r"<passage \[(\d+)\]", prompt[-1].content)[1]
            return json.dumps({"facts": [f"Boats came. [{n}] | boats"]})
        fixed = {"node": at_node("boats", "read_chunk", *map(str, range(1, 40))), "chunk": at_chunk("boats", "search_more"), "answer": "x"}
        return fixed.get(kind(prompt), "boats")

    model = scripted(reply, context_length=900)
    small(max_steps=40).read(Run("Who was the keeper?", planted, model), None)
    assert any("HACKED" in p[-1].content for p in model.prompts if kind(p) == "chunk")
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"start_nodes": 0}, {"max_steps": 0}, {"chunk_tokens": 1}, {"max_calls": 2}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        GraphReader(**option)
