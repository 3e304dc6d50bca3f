"""Does a text show that a claim is true: by a local NLI model, or by a language model asked.

Published citation scores use one of two models: ALCE an 11-billion-parameter T5, L-CiteEval ``tasksource/deberta-base-long-nli``. Either
kind of judge is another instrument, and figures of two instruments are not to be compared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from baywindow.bench.judge import Judge
from baywindow.errors import ConfigError, MissingExtraError, ModelError


class Entailment(ABC):
    """Tests entailment. ``name`` goes into every result."""

    name: str

    @abstractmethod
    def entails(self, premise: str, claim: str) -> bool:
        """Whether ``premise`` shows that ``claim`` is true. An empty premise shows nothing."""


class JudgedEntailment(Entailment):
    """Asks a judge. One call a pair; the judge remembers pairs it has seen."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.name = f"judge:{judge.model.name}"

    def entails(self, premise: str, claim: str) -> bool:
        return bool(premise.strip()) and self.judge.grade("supports", text=premise, claim=claim) >= 0.5


class NliModel(Entailment):
    """A sequence classifier of transformers with a class named entailment, by hub id or folder.

    A pair that is longer than the model can read loses the end of its premise, not of its claim, and is counted in ``truncated``: the
    published code cuts silently. ModelError if it cannot be loaded, ConfigError if none of its classes is entailment.
    """

    def __init__(self, name: str) -> None:
        self.name = f"nli:{name}"
        self.truncated = 0
        self._tokenizer, self._pipe = _load(name)
        labels = self._pipe.model.config.id2label.values()
        if not any(_is_entailment(label) for label in labels):
            raise ConfigError(f"{name} has the classes {', '.join(labels)}, none of them entailment", hint="name a model trained on NLI")
        self._known: dict[tuple[str, str], bool] = {}

    def entails(self, premise: str, claim: str) -> bool:
        pair = (premise, claim)
        if not premise.strip():
            return False
        if pair not in self._known:
            self._known[pair] = self._classify(premise, claim)
        return self._known[pair]

    def _classify(self, premise: str, claim: str) -> bool:
        room = min(self._tokenizer.model_max_length, getattr(self._pipe.model.config, "max_position_embeddings", 512))
        self.truncated += len(self._tokenizer(premise, claim)["input_ids"]) > room
        # A claim that leaves no room for a premise is cut too: the library refuses to cut a premise to nothing.
        fits = len(self._tokenizer("", claim)["input_ids"]) < room
        found = self._pipe({"text": premise, "text_pair": claim}, truncation="only_first" if fits else "longest_first", max_length=room)
        best = found[0] if isinstance(found, list) else found
        return _is_entailment(best["label"])


def _is_entailment(label: str) -> bool:
    return label.lower().startswith("entail")


def _load(name: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, pipeline
    except ImportError:
        raise MissingExtraError.of("what runs NLI models (torch, transformers)", "local") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        return tokenizer, pipeline("text-classification", model=name, tokenizer=tokenizer, device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"the NLI model {name!r} cannot be loaded: {first}", hint="give a folder with the model, or a hub id") from error
