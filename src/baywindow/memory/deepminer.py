"""A long task in a short window: what the agent thought and asked for stays, what its tools sent back stays only while it is recent.

Paper: Tang et al. 2025, Beyond Turn Limits: Training Deep Search Agents with Dynamic Context Window, arXiv:2510.08276. No code was found.
Idea: the last ``window`` tool responses are verbatim; when one more comes, the oldest ``slide`` of them are each replaced by a line that
says they were left out. Nothing is summarised. Sliding by more than one at a time changes the beginning of the prompt less often,
which is what a key-value cache needs. In training, a trajectory is cut where it slides, and each reply counts once, under the very
context that made it.
Departs from the paper: see the card.
Shapes and units: ``window`` and ``slide`` count tool responses. Messages are those of chat endpoints; every response keeps its place and
its ``tool_call_id``, since an endpoint refuses a call without its response.
Cost: no model call.
Errors: ConfigError for an option out of range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from baywindow.errors import ConfigError
from baywindow.memory.base import MemorySystem, at_least
from baywindow.memory.prompting import packed_newest
from baywindow.memory.records import Recalled, of_turn
from baywindow.memory.work import Work
from baywindow.registry import technique

LEFT_OUT = "[tool output left out; call the tool again if it is needed]"

Sent = Mapping[str, Any]  # a message as chat endpoints take it


@dataclass(frozen=True)
class Trained:
    """One sequence of a cut trajectory: its messages as the agent saw them, and the places of the replies that get gradient."""

    messages: tuple[dict[str, Any], ...]
    replies: tuple[int, ...]


@technique(
    summary="tool outputs in a sliding window, the agent's own words all kept, no summaries",
    paper="arXiv:2510.08276",
    year=2025,
    claim="With old tool outputs left out a small agent finishes more tasks of many searches than one that stops at overflow.",
    departures=(
        "the defaults are those of the paper's figure: the values of its experiments are not public",
        "it slides when one more response would not fit: the text leaves open whether it does so as soon as the window is full",
        "where even the agent's own words outgrow the budget, its latest are kept: the paper ends the task",
        "outputs that were left out are found by `search`: they are stored; the paper's agent calls its tool again",
        "the training itself is not here: `trajectories` gives its sequences and masks",
    ),
)
class DeepMiner(MemorySystem):
    window: int = 3  # W
    slide: int = 2  # S

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, window=1, slide=1)
        if self.slide > self.window:
            raise ConfigError.bad_value("slide", self.slide, f"at most window={self.window}")

    def left_out(self, responses: int) -> int:
        """How many of the first responses are left out once so many came."""
        return self.slide * max(0, -(-(responses - self.window) // self.slide))

    def messages(self, sent: Sequence[Sent]) -> list[dict[str, Any]]:
        """The messages of a task as the next call should see them."""
        hidden = self.left_out(sum(message["role"] == "tool" for message in sent))
        return _view(sent, hidden)

    def trajectories(self, sent: Sequence[Sent]) -> list[Trained]:
        """A finished task as training sequences: every reply in exactly one of them, with the context that it was made in."""
        made: list[Trained] = []
        responses = hidden = 0
        replies: list[int] = []

        def close() -> None:
            if replies:
                made.append(Trained(tuple(_view(sent[: replies[-1] + 1], hidden)), tuple(replies)))

        for at, message in enumerate(sent):
            if message["role"] == "assistant":
                if (now := self.left_out(responses)) != hidden:
                    close()
                    replies, hidden = [], now
                replies.append(at)
            responses += message["role"] == "tool"
        close()
        return made

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        """The task so far with its older tool outputs left out; the latest part of it where that is still too long."""
        turns = work.turns()
        hidden = self.left_out(sum(turn.role == "tool" for turn in turns))
        outputs = [turn.id for turn in turns if turn.role == "tool"][:hidden]
        shown = [replace(of_turn(turn), text=f"{turn.who}: {LEFT_OUT}") if turn.id in outputs else of_turn(turn) for turn in turns]
        return packed_newest(shown, budget_tokens, work.count_tokens)

    def search(self, work: Work, query: str, k: int) -> list[Recalled]:
        return [of_turn(turn, score) for turn, score in work.near_turns(query, k)]


def _view(sent: Sequence[Sent], hidden: int) -> list[dict[str, Any]]:
    """Messages with the content of the first ``hidden`` tool responses left out; the messages themselves stay in their places."""
    made, seen = [], 0
    for message in sent:
        seen += message["role"] == "tool"
        out = message["role"] == "tool" and seen <= hidden
        made.append({**message, "content": LEFT_OUT} if out else dict(message))
    return made
