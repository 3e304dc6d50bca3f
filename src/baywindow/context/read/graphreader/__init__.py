"""Turn a long text into a graph of facts, explore it on several paths with a notebook each, and answer from the notebooks.

Paper: Li et al. 2024, GraphReader: Building Graph-based Agent to Enhance Long-Context Abilities of Large Language Models,
arXiv:2406.14550. The authors' code is not public.
Idea: every chunk gives atomic facts and their key elements; elements are nodes, neighbours share a fact. The agent plans, scores the
elements, and starts a path at each of the best: it reads the node's facts, then the chunks worth it, then their neighbours in the text,
then the element's neighbours in the graph, rewriting its notebook at each step. The answer weighs the notebooks of all paths.
Departs from the paper: see the card.
Shapes and units: ``chunk_tokens`` of text in a chunk, ``facts_tokens`` of facts from it, ``notebook_tokens`` a notebook; tokens of the
target model. ``max_steps`` counts the steps of one path.
Cost: one call a chunk (in parallel), two to plan and select, at most start_nodes × max_steps to explore (start_nodes at a time), one
answer.
Errors: ConfigError for an option below its least. When budget or cap end the exploring, the notebooks by then are answered from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.facts import extract_prompt
from baywindow.context.notes import NOTES_SYSTEM, answer_from_notes, lengths, notes_prompt, reserve
from baywindow.context.parts import answer_from_best, fitting, parts, prompt_fits
from baywindow.context.prompt import DATA_RULE, Packed, defused, messages
from baywindow.context.read.graphreader.explore import Explorer, chunk_prompt
from baywindow.context.read.graphreader.graph import Graph, built
from baywindow.context.reply import NOT_FOUND, declined
from baywindow.context.run import Call, Run
from baywindow.context.stages import reading_order
from baywindow.context.structured import Field, Form, ask
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

SELECT = Form((Field(name="nodes", about="element: score", kind="texts"),), rest="nodes")
PLAN_SYSTEM = (
    "Plan how to answer the question from a long text that you cannot see yet: which facts are needed, in which order, about whom or what. "
    f"Two or three short sentences. {DATA_RULE}"
)
SELECT_SYSTEM = (
    "Below are key elements of a long text. Score from 0 to 100 how likely each leads to the answer, and name those worth following, best "
    f"first, at least ten if there are so many. {NOTES_SYSTEM}"
)
REASON_SYSTEM = (
    "The notes are notebooks of readers who explored a long text independently. Where they contradict each other, follow the majority. "
    "Answer the question in one or two short sentences. Keep the numbers of the passages, like [1], behind what they support. "
    f"{NOTES_SYSTEM} If the notebooks do not hold the answer, reply only: {NOT_FOUND}"
)
PLAN_TOKENS = 128
SELECT_TOKENS = 256
EXPLORING_CALLS = 8  # kept back while the graph is built


@technique(
    summary="a graph of facts explored on several paths with notebooks; the answer weighs them",
    paper="arXiv:2406.14550",
    year=2024,
    claim="With a small window, exploring the graph keeps its score as texts grow, where reading the whole text at once drops.",
    departures=(
        "elements count as the same by spelling (case, articles, possessives): the paper's normalisation is not public",
        "only the candidates nearest to question and plan by words are scored: all elements of a long text fit no prompt",
        "start nodes that the model does not name are filled up from these candidates: small models name few or invent some",
        "numbers of chunks and names of elements that do not exist are dropped, nothing is visited twice, and steps are capped",
        "paths advance side by side, so that their calls run in parallel: each keeps a notebook of its own as in the paper",
        "facts and notebooks carry passage numbers, so that the answer can cite",
        "temperature is 0: the paper's 0.2 would make runs differ",
    ),
)
class GraphReader(NoteReader):
    chunk_tokens: int = 2000
    facts_tokens: int = 1024
    notebook_tokens: int = 256
    start_nodes: int = 5
    candidates: int = 50
    max_new_tokens: int = 256
    max_steps: int = 12
    max_calls: int = 256

    def __post_init__(self) -> None:
        check_options(self, chunk_tokens=64, facts_tokens=8, notebook_tokens=8, start_nodes=1, candidates=1)
        check_options(self, max_new_tokens=8, max_steps=1, max_calls=3)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        facts_tokens, answer_tokens = lengths(run, self.facts_tokens, self.max_new_tokens, share_of=5)
        notebook_tokens, answer_tokens = lengths(run, self.notebook_tokens, answer_tokens, share_of=9)
        capped = Capped(run, self.max_calls)
        keep = reserve(run, self.start_nodes * notebook_tokens, answer_tokens, REASON_SYSTEM)
        how = Call(name="explore", max_new_tokens=notebook_tokens, keep=keep)
        chunks = self._chunks(run, passages, replace(how, max_new_tokens=facts_tokens), notebook_tokens)
        run.progress(f"extracting facts from {len(chunks)} chunks")
        exploring = replace(keep, calls=1 + min(EXPLORING_CALLS, self.max_calls // 3))
        graph = built(capped, chunks, replace(how, max_new_tokens=facts_tokens, keep=exploring))
        if not graph.names:
            if not run.cut_short:
                run.note("no facts could be taken from the text; the passages nearest to the question were read instead")
            return answer_from_best(run, passages, "answer", answer_tokens)
        plan = _plan(capped, how)
        starts = self._starts(capped, graph, plan, how)
        notebooks = [path.notebook for path in Explorer(capped, graph, plan, how).run_all(starts, self.max_steps) if path.notebook]
        if not notebooks and run.cut_short:
            return answer_from_best(run, passages, "answer", answer_tokens)
        return answer_from_notes(run, _fitting(run, notebooks, answer_tokens), "answer", answer_tokens, REASON_SYSTEM)

    def _chunks(self, run: Run, passages: list[Passage] | None, how: Call, notebook_tokens: int) -> list[Packed]:
        """Chunks in reading order. Each is read again beside plan and notebook, under a longer instruction: room for these is held back."""
        again = run.model.count_tokens(chunk_prompt(run, (), "", "")) + PLAN_TOKENS // 2 + notebook_tokens
        room = max(1, run.room(again, notebook_tokens, how.keep))
        source = None if passages is None else reading_order(passages)
        text_tokens = min(self.chunk_tokens, room)
        return parts(run, source, lambda shown: extract_prompt(run, shown), how.max_new_tokens, text_tokens=text_tokens, keep=how.keep)

    def _starts(self, capped: Capped, graph: Graph, plan: str, how: Call) -> list[str]:
        """The best elements by the model's score; those it leaves open are the nearest to question and plan."""
        run = capped.run
        nearest = graph.nearest(f"{run.question} {plan}")[: self.candidates]

        def prompt(some: Sequence[str]) -> Prompt:
            names = "\n".join(defused(graph.names[key]) for key in some)
            return messages(
                SELECT_SYSTEM, f"Key elements:\n{names}\n\nPlan: {defused(plan)}\n\nQuestion: {run.question}\n\n{SELECT.wording}"
            )

        shown = fitting(run, nearest, lambda some: prompt_fits(run, prompt(some), how.max_new_tokens, how.keep), "key elements")
        select = replace(how, name="select", max_new_tokens=min(SELECT_TOKENS, 2 * how.max_new_tokens))
        reply = ask(capped, prompt(shown), SELECT, select)
        scored = _scored(graph, reply.texts("nodes") if reply is not None else [])
        return list(dict.fromkeys([*scored, *nearest]))[: self.start_nodes]


def _plan(capped: Capped, how: Call) -> str:
    """The rational plan; empty if the model gives none."""
    tokens = min(PLAN_TOKENS // 2, how.max_new_tokens)
    said = capped.call(messages(PLAN_SYSTEM, f"Question: {capped.run.question}"), replace(how, name="plan", max_new_tokens=tokens))
    return "" if not said or declined(said) else said


def _scored(graph: Graph, lines: Sequence[str]) -> list[str]:
    """The elements that were named, best score first; without a score they stand behind, in order."""
    scores: dict[str, float] = {}
    for line in lines:
        match = re.fullmatch(r"(.*?)\s*[:|(=-]+\s*(\d+(?:\.\d+)?)\D*", line)
        key = graph.find(match[1]) if match else graph.find(line)
        if key is not None:
            scores.setdefault(key, float(match[2]) if match else -1.0)
    return sorted(scores, key=lambda key: -scores[key])


def _fitting(run: Run, notebooks: Sequence[str], answer_tokens: int) -> list[str]:
    notes = [f"Notebook {i}: {text}" for i, text in enumerate(notebooks, 1)]
    return fitting(run, notes, lambda some: prompt_fits(run, notes_prompt(run, some, REASON_SYSTEM), answer_tokens), "notebooks")
