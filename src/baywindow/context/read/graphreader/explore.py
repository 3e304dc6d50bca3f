"""Paths through the graph: each starts at one element with an empty notebook, and reads facts, then chunks, then neighbours.

All paths go one step at a time, side by side, so that their calls run in parallel. A path never visits an element or a chunk twice.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from baywindow.context.capped import Capped
from baywindow.context.notes import NOTES_SYSTEM
from baywindow.context.parts import marked, prompt_fits, those_that_fit
from baywindow.context.prompt import DATA_RULE, defused, fenced, messages, pack_one
from baywindow.context.read.graphreader.graph import Graph
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, Reply, ask_many
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt

NOTEBOOK = Field(name="notebook", about="the whole notebook, written again with what is new, with [numbers]")
AT_NODE = Form(
    (
        NOTEBOOK,
        Field(name="action", about="", choices=("read_chunk", "read_neighbor")),
        Field(name="chunks", about="a chunk's number", kind="texts"),
    ),
    rest="notebook",
)
AT_CHUNK = Form(
    (
        NOTEBOOK,
        Field(name="action", about="", choices=("search_more", "read_previous_chunk", "read_subsequent_chunk", "termination")),
    ),
    rest="notebook",
)
AT_NEIGHBOURS = Form((Field(name="neighbor", about="the name of one element, or termination"),), rest="neighbor")
_TASK = "You explore a graph of facts from a long text to answer the question, following the plan, and keep a notebook of what helps."
NODE_SYSTEM = (
    f"{_TASK} Below are the facts on one element, each with the number of its chunk. Write the notebook again. Then choose: read_chunk, "
    "with the numbers of the chunks whose text is worth reading, or read_neighbor, if these facts lead nowhere. "
    f"{NOTES_SYSTEM}"
)
CHUNK_SYSTEM = (
    f"{_TASK} Below is the text of one chunk. Write the notebook again. Then choose: search_more, to go on elsewhere; read_previous_chunk "
    "or read_subsequent_chunk, if the text next to this one is needed; termination, if the notebook is enough to answer. "
    f"{DATA_RULE} {NOTES_SYSTEM}"
)
NEIGHBOUR_SYSTEM = (
    f"{_TASK} Choose the neighbouring element that most likely leads on, or termination, if the notebook is enough to answer or no element "
    f"helps. {NOTES_SYSTEM}"
)
EMPTY = "(empty)"


@dataclass
class Path:
    """One explorer: where it stands, what it wrote down, where it has been."""

    node: str
    notebook: str = ""
    stage: Literal["node", "chunk", "neighbours", "done"] = "node"
    queue: deque[int] = field(default_factory=deque)
    nodes: set[str] = field(default_factory=set)
    chunks: set[int] = field(default_factory=set)


@dataclass
class Explorer:
    """Moves paths through a graph."""

    capped: Capped
    graph: Graph
    plan: str
    how: Call

    def run_all(self, starts: Sequence[str], max_steps: int) -> list[Path]:
        """One path from each start, until all are done or steps or budget end."""
        paths = [Path(node, nodes={node}) for node in starts]
        for step in range(1, max_steps + 1):
            going = [path for path in paths if path.stage != "done"]
            if not going:
                return paths
            self.capped.run.progress(f"step {step}: {len(going)} paths")
            at = {stage: [path for path in going if path.stage == stage] for stage in ("node", "chunk", "neighbours")}
            self._together(at["node"], self._node_prompt, AT_NODE, self._after_node)
            self._together(at["chunk"], self._chunk_prompt, AT_CHUNK, self._after_chunk)
            self._together(at["neighbours"], self._neighbour_prompt, AT_NEIGHBOURS, self._after_neighbours)
        if any(path.stage != "done" for path in paths):
            self.capped.run.note(f"max_steps={max_steps} was reached on some paths; answered from their notebooks")
        return paths

    def _together(self, paths: Sequence[Path], prompt: Callable[[Path], Prompt], form: Form, after: Callable[[Path, Reply], None]) -> None:
        if not paths:
            return
        replies = ask_many(self.capped, [prompt(path) for path in paths], form, replace(self.how, name=f"at {paths[0].stage}"))
        for path, reply in zip(paths, replies, strict=True):
            if reply is None:
                path.stage = "done"
            else:
                after(path, reply)

    def _node_prompt(self, path: Path) -> Prompt:
        lines = [f"(chunk {fact.chunk + 1}) {fact.text}" for fact in self.graph.facts(path.node)]
        name = self.graph.names[path.node]
        return self._listing(NODE_SYSTEM, AT_NODE, path, [f"Facts on {defused(name)}:", *lines], "facts on an element")

    def _neighbour_prompt(self, path: Path) -> Prompt:
        names = [self.graph.names[key] for key in self._open_neighbours(path)]
        return self._listing(NEIGHBOUR_SYSTEM, AT_NEIGHBOURS, path, ["Neighbours:", *names], "neighbours of an element")

    def _chunk_prompt(self, path: Path) -> Prompt:
        shown = self.graph.chunks[path.queue[0]].shown
        run = self.capped.run

        def frame(some: Sequence[Passage]) -> Prompt:
            return chunk_prompt(run, some, self.plan, path.notebook)

        return pack_one(run, shown, frame, self.how.max_new_tokens, keep=self.how.keep).prompt

    def _listing(self, system: str, form: Form, path: Path, lines: Sequence[str], what: str) -> Prompt:
        """A prompt with as many of the lines below the first one (their title) as fit."""
        run, title = self.capped.run, lines[0]

        def prompt(some: Sequence[str]) -> Prompt:
            return _prompt(run, (system, form), self.plan, path.notebook, "\n".join([title, *map(defused, some)]))

        shown = those_that_fit(lines[1:], lambda some: prompt_fits(run, prompt(some), self.how.max_new_tokens, self.how.keep))
        if len(shown) < len(lines) - 1:
            run.note(f"not all {what} fitted their prompt; the last ones were left out")
        return prompt(shown)

    def _after_node(self, path: Path, reply: Reply) -> None:
        path.notebook = reply.text("notebook") or path.notebook
        new = [i for i in self.graph.chunks_of(path.node) if i not in path.chunks]
        if reply.text("action") != "read_neighbor" and new:
            named = {int(n) - 1 for text in reply.texts("chunks") for n in re.findall(r"\d+", text)}
            path.queue = deque([i for i in new if i in named] or new[:1])  # invented numbers are no chunks
        self._go_on(path)

    def _after_chunk(self, path: Path, reply: Reply) -> None:
        at = path.queue.popleft()
        path.chunks.add(at)
        if notebook := reply.text("notebook"):
            path.notebook = marked(self.capped.run, notebook, self.graph.chunks[at].shown)
        action = reply.text("action")
        if action == "termination":
            path.stage = "done"
            return
        beside = at - 1 if action == "read_previous_chunk" else at + 1
        if action.startswith("read_") and beside in range(len(self.graph.chunks)) and beside not in path.chunks | set(path.queue):
            path.queue.append(beside)
        self._go_on(path)

    def _after_neighbours(self, path: Path, reply: Reply) -> None:
        chosen = self.graph.find(reply.text("neighbor"))
        if chosen is None or chosen not in self._open_neighbours(path):
            path.stage = "done"
            return
        path.node, path.stage = chosen, "node"
        path.nodes.add(chosen)

    def _go_on(self, path: Path) -> None:
        """To the next chunk of the queue; behind the last one to the neighbours, if there are any left."""
        path.stage = "chunk" if path.queue else "neighbours" if self._open_neighbours(path) else "done"

    def _open_neighbours(self, path: Path) -> list[str]:
        return [key for key in self.graph.neighbours(path.node) if key not in path.nodes]


def chunk_prompt(run: Run, shown: Sequence[Passage], plan: str, notebook: str) -> Prompt:
    return _prompt(run, (CHUNK_SYSTEM, AT_CHUNK), plan, notebook, fenced(run, shown))


def _prompt(run: Run, task: tuple[str, Form], plan: str, notebook: str, seen: str) -> Prompt:
    system, form = task
    before = f"Plan: {defused(plan)}\n\n" if plan else ""
    return messages(system, f"{before}Notebook: {defused(notebook) or EMPTY}\n\n{seen}\n\nQuestion: {run.question}\n\n{form.wording}")
