"""A run with a limit on its calls: the loop of a reader cannot run away, whatever its model replies.

Tokens, money and time are the `Budget`'s; calls are capped here. At the cap a call is not made, as when a budget is spent, and the
reader answers from what it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.budget import Meter
from baywindow.context.run import Call, Run
from baywindow.errors import ConfigError
from baywindow.models.base import LanguageModel, Prompt


class Capped:
    """The calls of one question, at most ``max_calls`` of them; what `Call.keep` sets aside for later calls is counted too."""

    def __init__(self, run: Run, max_calls: int) -> None:
        self.run = run
        self.max_calls = max_calls
        self.made = 0

    @property
    def model(self) -> LanguageModel:
        return self.run.model

    @property
    def meter(self) -> Meter:
        return self.run.meter

    def left(self, how: Call) -> int:
        """Calls that may still be made, without those that ``how.keep`` sets aside."""
        return max(0, self.max_calls - self.made - how.keep.calls)

    def call(self, prompt: Prompt, how: Call) -> str | None:
        """`Run.call`; None also at the cap."""
        if self.left(how) < 1:
            self._reached()
            return None
        reply = self.run.call(prompt, how)
        self.made += reply is not None
        return reply

    def call_many(self, prompts: Sequence[Prompt], how: Call) -> list[str | None]:
        """`Run.call_many`; None for those beyond the cap, which are the last."""
        allowed = prompts[: self.left(how)]
        if len(allowed) < len(prompts):
            self._reached()
        replies = self.run.call_many(allowed, how) if allowed else []
        self.made += sum(reply is not None for reply in replies)
        return replies + [None] * (len(prompts) - len(allowed))

    def _reached(self) -> None:
        self.run.note(f"max_calls={self.max_calls} was reached; answered from what had been read by then")


def check_options(options: object, **least: int) -> None:
    """Raise ConfigError for the first option below its least value: ``check_options(self, note_tokens=8, max_calls=2)``."""
    for name, low in least.items():
        value = getattr(options, name)
        if value is not None and value < low:
            raise ConfigError.bad_value(name, value, f"at least {low}")
