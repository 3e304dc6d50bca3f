"""The walk: at each node the model sees the summaries below it, at each segment the text, and its memory everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from baywindow.context.capped import Capped
from baywindow.context.cite import words
from baywindow.context.notes import NOTES_SYSTEM
from baywindow.context.parts import fitting
from baywindow.context.prompt import DATA_RULE, defused, fenced, messages, pack_one
from baywindow.context.read.memwalker.tree import NO_SUMMARY, Node
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, ask
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt

CHOICE = Form(
    (
        Field(name="reasoning", about="which part most likely leads to the answer, and why"),
        Field(name="choice", about="the part's number, or 0 to turn back", kind="number"),
    ),
    rest="reasoning",
)
CHOOSE_SYSTEM = (
    "You look for the answer to the question in a long text. Below are summaries of its parts. Choose the part that most likely leads to "
    f"the answer; choose 0 if none of them can. {NOTES_SYSTEM}"
)
VERDICT = Form(
    (
        Field(name="reasoning", about="what the passages say about the question"),
        Field(name="action", about="answer or back", choices=("answer", "back")),
    ),
    rest="reasoning",
)
LEAF_SYSTEM = (
    "You look for the answer to the question in a long text. Say what these passages, with what you remember, tell about it. Then choose: "
    f"answer, if that is enough to answer the question, or back, to look elsewhere. {DATA_RULE} {NOTES_SYSTEM}"
)


@dataclass
class Walk:
    """Where the model has been, what it remembers, and where it stands at the end."""

    capped: Capped
    how: Call
    memory_tokens: int
    memory: list[str] = field(default_factory=list)
    ended_at: Node | None = None  # the leaf that answers

    def from_node(self, node: Node, max_steps: int) -> None:
        """Visit nodes until a leaf answers, everything is closed, or steps or budget end."""
        run = self.capped.run
        for _ in range(max_steps):
            run.progress(f"at {'segment' if node.shown else 'node'} {node.name}")
            following = self._at_leaf(node) if node.shown else self._at_inner(node)
            if following is None:
                return
            node = following
        run.note(f"max_steps={max_steps} was reached; answered from what had been read by then")

    def _at_inner(self, node: Node) -> Node | None:
        """The child to go to, or the parent; None at the end of the walk."""
        run, open_children = self.capped.run, [child for child in node.children if not child.closed]
        if not open_children:
            node.closed = True
            return node.parent
        prompt = choose_prompt(run, open_children, self.recalled)
        reply = ask(self.capped, prompt, CHOICE, replace(self.how, name=f"node {node.name}"))
        if reply is None:
            return None
        number = reply.number("choice")
        if number == 0 and node.parent is not None:
            node.closed = True
            return node.parent
        chosen = _child(open_children, number) or _nearest(open_children, run.question)
        if node.parent is not None:
            self._remember(node, node.summary)
        return chosen

    def _at_leaf(self, node: Node) -> Node | None:
        run = self.capped.run
        pack = pack_one(run, node.shown, lambda some: leaf_prompt(run, some, self.recalled), self.how.max_new_tokens)
        reply = ask(self.capped, pack.prompt, VERDICT, replace(self.how, name=f"segment {node.name}", regions=pack.regions(run)))
        if reply is None:
            return None
        node.closed = True
        said = reply.text("reasoning")
        action = reply.text("action") or ("answer" if said else "back")
        if action == "answer":
            self.ended_at = node
            return None
        self._remember(node, said or node.summary)
        return node.parent

    def _remember(self, node: Node, text: str) -> None:
        if self.memory_tokens and text != NO_SUMMARY and (entry := f"{node.name}: {text}") not in self.memory:
            self.memory.append(entry)

    @property
    def recalled(self) -> str:
        """The memory as a prompt shows it: the latest entries that fit."""
        run = self.capped.run
        newest = fitting(
            run, self.memory[::-1], lambda some: run.model.count_tokens("\n".join(some)) <= self.memory_tokens, "entries of the memory"
        )
        return "\n".join(newest[::-1])


def leaf_prompt(run: Run, shown: Sequence[Passage], memory: str) -> Prompt:
    return messages(LEAF_SYSTEM, f"{asked_at(run, shown, memory)}\n\n{VERDICT.wording}")


def asked_at(run: Run, shown: Sequence[Passage], memory: str) -> str:
    """A segment, what is remembered, and the question."""
    return f"{fenced(run, shown)}\n\n{_memory(memory)}Question: {run.question}"


def choose_prompt(run: Run, children: Sequence[Node], memory: str) -> Prompt:
    listed = "\n".join(f"Part {i}: {defused(child.summary)}" for i, child in enumerate(children, 1))
    return messages(CHOOSE_SYSTEM, f"{listed}\n\n{_memory(memory)}Question: {run.question}\n\n{CHOICE.wording}")


def _memory(text: str) -> str:
    return f"Memory of what was seen before:\n{defused(text)}\n\n" if text else ""


def _child(children: Sequence[Node], number: float | None) -> Node | None:
    """The child that was named, if there is one of that number."""
    return children[int(number) - 1] if number is not None and number in range(1, len(children) + 1) else None


def _nearest(children: Sequence[Node], question: str) -> Node:
    """The child whose summary shares most words with the question; the first of equals."""
    asked = words(question)
    return max(children, key=lambda child: len(asked & words(child.summary)))
