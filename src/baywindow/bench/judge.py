"""A language model as judge, with fixed questions, and how far its verdicts agree with people's.

What is judged reaches the model as values of one JSON object, so that a reply cannot end its own frame and go on as the judge. A verdict is
read from the beginning of what the judge says: looking for "yes" anywhere in it, as some published code does, makes "yesterday" a yes. What
cannot be read counts as the worst verdict and is counted: leaving it out of the mean, as published code does, raises the score of
replies that confuse the judge. Trust no judge before `agreement` with labels of your own says how good it is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from baywindow.bench._rubrics import PREFER, RUBRICS, SYSTEM, Rubric
from baywindow.errors import CapabilityError, ConfigError
from baywindow.models.base import LanguageModel, Message, Prompt, Sampling


class Judge:
    """Grades by rubric (`_rubrics`). The same question is asked once: verdicts are greedy, so a second call would only cost.

    ``expected`` takes the mean verdict over the model's own probabilities where the model tells them (``logprobs``), as ETHIC does with
    the ten likeliest tokens; here it is normalised over the verdicts allowed. CapabilityError for a base model, which cannot be told.
    """

    def __init__(self, model: LanguageModel, *, expected: bool = False) -> None:
        if not model.instructed:
            raise CapabilityError(f"{model.name} is a base model and cannot judge", hint="choose an instructed model")
        if expected and "logprobs" not in model.capabilities:
            raise CapabilityError(f"{model.name} gives no log-probabilities to take a mean verdict from", hint="use a local model as judge")
        self.model = model
        self.expected = expected
        self.asked = 0  # questions put to the model
        self.unreadable = 0  # verdicts that could not be read, counted as the worst
        self._known: dict[str, float] = {}

    def grade(self, rubric: str, **fields: str) -> float:
        """From 0 (worst) to 1 (best). ConfigError for an unknown rubric or for fields that are not its own."""
        asked = _rubric(rubric, fields)
        prompt = _prompt(f"{asked.question} {asked.ending}", {name: fields[name] for name in asked.fields})
        key = prompt[-1].content
        if key not in self._known:
            self.asked += 1
            verdict = self._mean_verdict(prompt, asked) if self.expected else self._verdict(prompt, asked)
            self._known[key] = (verdict - asked.low) / (asked.high - asked.low)
        return self._known[key]

    def prefer(self, question: str, reference: str, one: str, other: str) -> float:
        """1 if the first reply is better, 0 if the other, a half for a tie: the mean of both orders, since one order is biased."""
        return (self._preferred(question, reference, one, other) + 1 - self._preferred(question, reference, other, one)) / 2

    def _verdict(self, prompt: Prompt, rubric: Rubric) -> float:
        said = self.model.generate(prompt, Sampling(max_new_tokens=8)).completion.text
        verdict = _read(said, rubric)
        if verdict is None:
            self.unreadable += 1
            return float(rubric.low)
        return float(verdict)

    def _mean_verdict(self, prompt: Prompt, rubric: Rubric) -> float:
        words = ["no", "yes"] if (rubric.low, rubric.high) == (0, 1) else [str(n) for n in range(rubric.low, rubric.high + 1)]
        logs = np.array([float(np.sum(self.model.score(prompt, word).logprobs)) for word in words])
        weights = np.exp(logs - logs.max())
        return float(np.dot(weights / weights.sum(), np.arange(rubric.low, rubric.high + 1)))

    def _preferred(self, question: str, reference: str, first: str, second: str) -> float:
        self.asked += 1
        prompt = _prompt(PREFER, {"question": question, "reference": reference, "first": first, "second": second})
        said = self.model.generate(prompt, Sampling(max_new_tokens=8)).completion.text
        word = _first_word(said)
        if word not in ("first", "second", "tie"):
            self.unreadable += 1
        return {"first": 1.0, "second": 0.0}.get(word, 0.5)


@dataclass(frozen=True)
class Agreement:
    """How far two raters agree. ``kappa`` is Cohen's, None where chance alone would agree always (both gave one label throughout)."""

    n: int
    accuracy: float
    kappa: float | None


def agreement(verdicts: Sequence[Hashable], labels: Sequence[Hashable]) -> Agreement:
    """Agreement of verdicts with labels that people gave. ConfigError if there are none, or not one verdict a label."""
    if len(verdicts) != len(labels) or not labels:
        raise ConfigError(
            f"{len(verdicts)} verdicts and {len(labels)} labels", hint="agreement needs one verdict a label, and at least one"
        )
    n = len(labels)
    observed = sum(v == y for v, y in zip(verdicts, labels, strict=True)) / n
    said, given = Counter(verdicts), Counter(labels)
    chance = sum(said[y] * given[y] for y in given) / n**2
    return Agreement(n, observed, None if chance == 1 else (observed - chance) / (1 - chance))


@dataclass(frozen=True)
class Case:
    """A reply with a person's verdict on it."""

    question: str
    answer: str
    reply: str
    right: bool


def check(judge: Judge, cases: Iterable[Case], rubric: str = "same") -> Agreement:
    """Put labelled cases to a judge and say how far it agrees: right from a verdict of one half on."""
    listed = list(cases)
    verdicts = [judge.grade(rubric, question=c.question, answer=c.answer, reply=c.reply) >= 0.5 for c in listed]
    return agreement(verdicts, [c.right for c in listed])


def _rubric(name: str, fields: dict[str, str]) -> Rubric:
    if name not in RUBRICS:
        raise ConfigError.bad_value("rubric", name, "one of " + ", ".join(RUBRICS))
    if set(fields) != set(RUBRICS[name].fields):
        raise ConfigError.bad_value("fields", sorted(fields), "exactly " + ", ".join(RUBRICS[name].fields))
    return RUBRICS[name]


def _prompt(task: str, fields: dict[str, str]) -> Prompt:
    return (Message("system", f"{SYSTEM}\n\n{task}"), Message("user", json.dumps({"task": task, **fields}, ensure_ascii=False)))


def _first_word(said: str) -> str:
    found = re.search(r"[^\W_]+", said)
    return found.group().lower() if found else ""


def _read(said: str, rubric: Rubric) -> int | None:
    word = _first_word(said)
    if (rubric.low, rubric.high) == (0, 1):
        return {"yes": 1, "no": 0}.get(word)
    return int(word) if word.isascii() and word.isdigit() and rubric.low <= int(word) <= rubric.high else None
