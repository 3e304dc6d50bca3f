"""What may be spent (`Budget`), what was spent (`Usage`), and the object that compares them (`Meter`).

Tokens, money and calls are limits that are never passed: a run whose least possible cost exceeds them is refused before it starts,
and a call that would pass them is not made. Seconds are a deadline: once it has passed no new call starts, and the answer is
given from what there is. Prices come from configuration only; without prices a limit in USD is refused, not guessed at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from baywindow.errors import BudgetError, ConfigError


@dataclass(frozen=True, kw_only=True)
class Prices:
    """USD per million tokens."""

    prompt_usd: float = 0.0
    generated_usd: float = 0.0

    def of(self, prompt_tokens: int, generated_tokens: int) -> float:
        return (prompt_tokens * self.prompt_usd + generated_tokens * self.generated_usd) / 1e6


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was spent: model calls, tokens in and out, wall seconds, and money where prices are known (else None)."""

    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    usd: float | None = None
    estimated: bool = False  # true if the model cannot count tokens exactly

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.generated_tokens

    def __add__(self, other: Usage) -> Usage:
        """Of two runs, one after the other."""
        known = [usage.usd for usage in (self, other) if usage.usd is not None]
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            generated_tokens=self.generated_tokens + other.generated_tokens,
            seconds=self.seconds + other.seconds,
            usd=sum(known) if known else None,
            estimated=self.estimated or other.estimated,
        )


NOTHING = Usage()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of one run. ``tokens`` counts prompt plus generated tokens over all calls, ``calls`` every reply and every scoring."""

    tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "seconds", "usd", "calls"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError.bad_value(f"budget {name}", value, "greater than 0")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From ``tokens=4000,seconds=30,usd=0.05,calls=8`` (any of them, in any order)."""
        kinds = {"tokens": int, "seconds": float, "usd": float, "calls": int}
        values: dict[str, float | int] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, equals, value = (x.strip() for x in part.partition("="))
            if not equals or name not in kinds:
                raise ConfigError(f"budget {part!r} is not understood", hint="write it as tokens=4000,seconds=30,usd=0.05,calls=8")
            if name in values:
                raise ConfigError(f"budget {name} was given twice", hint="give it once")
            try:
                values[name] = kinds[name](value.replace("_", ""))
            except ValueError:
                raise ConfigError.bad_value(f"budget {name}", value, f"a number ({kinds[name].__name__})") from None
        return cls(**values)  # type: ignore[arg-type]


@dataclass(kw_only=True)
class Meter:
    """Counts what one run spends against its budget. Not shared between runs; calls may come from several threads."""

    budget: Budget = field(default_factory=Budget)
    prices: Prices | None = None
    started: float = field(default_factory=time.monotonic)
    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    estimated: bool = False

    def __post_init__(self) -> None:
        if self.budget.usd is not None and self.prices is None:
            raise BudgetError(
                "a budget in USD needs prices", hint="set prices.prompt_usd and prices.generated_usd (per million tokens) in bay.toml"
            )

    def refuse_if_above(self, least: Usage) -> None:
        """Raise BudgetError if even the cheapest possible run costs more than the budget allows."""
        if (limit := self.budget.tokens) is not None and least.tokens > limit:
            raise BudgetError(
                f"the least this can cost is {least.tokens} tokens; the budget is {limit}",
                hint=f"raise it to tokens={least.tokens} or choose a recipe that reads less, e.g. hybrid(k=3) > rag",
            )
        if (most := self.budget.calls) is not None and least.calls > most:
            raise BudgetError(
                f"this takes at least {least.calls} calls; the budget is {most}",
                hint=f"raise it to calls={least.calls} or choose a recipe of one call, e.g. hybrid > rag",
            )
        if (usd := self.budget.usd) is not None and self.prices is not None:
            cost = self.prices.of(least.prompt_tokens, least.generated_tokens)
            if cost > usd:
                raise BudgetError(
                    f"the least this can cost is {cost:.6f} USD; the budget is {usd:.6f}",
                    hint="raise it or choose a recipe that reads less",
                )

    def seconds_left(self) -> float:
        """Seconds until the deadline; infinite without one, never negative."""
        if self.budget.seconds is None:
            return float("inf")
        return max(0.0, self.budget.seconds - (time.monotonic() - self.started))

    def calls_left(self) -> float:
        """Calls that may still be made; infinite without a limit."""
        return float("inf") if self.budget.calls is None else max(0, self.budget.calls - self.calls)

    def allows(self, prompt_tokens: int, generated_tokens: int, calls: int = 1) -> bool:
        """Whether ``calls`` more of this size together stay within tokens, money, calls and the deadline."""
        if self.seconds_left() == 0.0 or self.calls_left() < calls:
            return False
        if self.budget.tokens is not None and self.tokens + prompt_tokens + generated_tokens > self.budget.tokens:
            return False
        if self.budget.usd is not None and self.prices is not None:
            total = self.prices.of(self.prompt_tokens + prompt_tokens, self.generated_tokens + generated_tokens)
            return total <= self.budget.usd
        return True

    def charge(self, prompt_tokens: int, generated_tokens: int, *, estimated: bool = False) -> None:
        self.calls += 1
        self.prompt_tokens += prompt_tokens
        self.generated_tokens += generated_tokens
        self.estimated |= estimated

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.generated_tokens

    @property
    def usage(self) -> Usage:
        return Usage(
            calls=self.calls,
            prompt_tokens=self.prompt_tokens,
            generated_tokens=self.generated_tokens,
            seconds=time.monotonic() - self.started,
            usd=self.prices.of(self.prompt_tokens, self.generated_tokens) if self.prices else None,
            estimated=self.estimated,
        )


@dataclass(frozen=True, kw_only=True)
class Budgeted:
    """The two options of every technique that keeps a share: ``budget_tokens`` or ``budget_fraction``, never both.

    Tokens are per KV head inside the model and of the target model's prompt outside it. A subclass names its paper's default
    in ``default_budget_tokens``, so that leaving both out never means doing nothing.
    """

    default_budget_tokens: ClassVar[int] = 1024

    budget_tokens: int | None = None
    budget_fraction: float | None = None

    def __post_init__(self) -> None:
        if self.budget_tokens is not None and self.budget_fraction is not None:
            raise ConfigError("budget_tokens and budget_fraction were both given", hint="give one of them")
        if self.budget_tokens is None and self.budget_fraction is None:
            object.__setattr__(self, "budget_tokens", self.default_budget_tokens)
        if self.budget_tokens is not None and self.budget_tokens < 1:
            raise ConfigError.bad_value("budget_tokens", self.budget_tokens, "at least 1")
        if self.budget_fraction is not None and not 0 < self.budget_fraction <= 1:
            raise ConfigError.bad_value("budget_fraction", self.budget_fraction, "above 0 and at most 1")

    def budget_of(self, length_tokens: int) -> int:
        """The budget in tokens for a context of ``length_tokens``, at least 1; it may exceed the length (then nothing is dropped)."""
        if self.budget_tokens is not None:
            return self.budget_tokens
        return max(1, round(length_tokens * (self.budget_fraction or 1.0)))


def prices_from(table: Mapping[str, float] | None) -> Prices | None:
    """Prices from a configuration table, or None if nothing was configured."""
    return Prices(**table) if table else None
