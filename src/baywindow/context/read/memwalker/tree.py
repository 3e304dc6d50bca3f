"""The tree of summaries: built once a run, from the segments up, before the question is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from baywindow.context.capped import Capped
from baywindow.context.notes import NOTES_SYSTEM
from baywindow.context.parts import all_regions, count_unread
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, messages
from baywindow.context.reply import declined
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt

SUMMARY_SYSTEM = f"Summarise the passages in a few sentences. Keep names, numbers and places. {DATA_RULE}"
GROUP_SYSTEM = (
    f"Summarise the notes, which follow each other in one text, in a few sentences. Keep names, numbers and places. {NOTES_SYSTEM}"
)
NO_SUMMARY = "(no summary)"


@dataclass
class Node:
    """A place in the tree. A leaf has passages, an inner node children; ``name`` is its path from the root, like 1.3.2."""

    summary: str
    shown: tuple[Passage, ...] = ()
    children: list[Node] = field(default_factory=list)
    parent: Node | None = None
    name: str = ""
    closed: bool = False  # everything below was visited, or turned back from


def segment_prompt(run: Run, shown: Sequence[Passage]) -> Prompt:
    return messages(SUMMARY_SYSTEM, fenced(run, shown))


def built(capped: Capped, packs: Sequence[Packed], size: int, how: Call) -> Node | None:
    """The root over all segments, ``size`` children a node; None if there is no text or no budget to summarise any."""
    run = capped.run
    replies = capped.call_many([pack.prompt for pack in packs], replace(how, name="summarise", regions=all_regions(run, packs)))
    count_unread(run, replies, "segments")
    level = [_leaf(reply, pack) for reply, pack in zip(replies, packs, strict=True) if reply is not None]
    while len(level) > 1:
        level = _level_above(capped, level, size, how)
    if not level:
        return None
    _named(level[0], "1")
    return level[0]


def _level_above(capped: Capped, level: list[Node], size: int, how: Call) -> list[Node]:
    groups = [level[i : i + size] for i in range(0, len(level), size)]
    replies: list[str | None] = [NO_SUMMARY]  # the root needs no summary: nobody chooses it
    if len(groups) > 1:
        replies = capped.call_many([_group_prompt(group) for group in groups], replace(how, name="summarise summaries"))
        count_unread(capped.run, replies, "groups of summaries")
    above = []
    for group, reply in zip(groups, replies, strict=True):
        node = Node(summary=reply or group[0].summary, children=group)
        for child in group:
            child.parent = node
        above.append(node)
    return above


def _group_prompt(group: Sequence[Node]) -> Prompt:
    return messages(GROUP_SYSTEM, "Notes:\n" + "\n".join(defused(node.summary) for node in group))


def _leaf(reply: str | None, pack: Packed) -> Node:
    return Node(summary=NO_SUMMARY if not reply or declined(reply) else reply, shown=pack.shown)


def _named(node: Node, name: str) -> None:
    node.name = name
    for i, child in enumerate(node.children, 1):
        _named(child, f"{name}.{i}")
