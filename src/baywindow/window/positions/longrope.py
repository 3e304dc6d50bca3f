"""LongRoPE: rescale each rotary pair by its own factor, found by an evolutionary search on the model itself.

Paper: Ding et al., 2024, LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens, arXiv 2402.13753. Reference code read:
microsoft/LongRoPE.

Idea: pairs need different interpolation, and the first tokens of a text need none. Search the factors λ_i of all pairs, at least
1 and never falling with i, and the number n̂ of first tokens left alone, for the lowest perplexity at the target length. The
search starts from linear, NTK and YaRN factors and their mutations; each round keeps the best ``parents``, adds mutations and crossovers.
Logits grow by 1 + ln(s) / ln(L), split over queries and keys.

Departs from the paper: no fine-tuning and no second search after it; one set of factors, not a second one for short texts. The
calibration text is the caller's, where the paper takes five books. Grid and choices of n̂ are those of the paper's Table 4; the
released search goes up to 1 + s, leaves n̂ at 0 in its newest form, and redraws all factors of a parent or none.

Shapes and units: ``factor`` s = target length / trained length; factors (F,), fastest pair first; λ on a grid of 0.01.

Cost: ``prepare`` runs population + rounds · (mutations + crossovers) forwards over every sample, resumable after each round.
Afterwards none beyond stock.

Errors: ConfigError for options out of range; CapabilityError without prepared factors; SourceError for a calibration text shorter
than one target length; ContextLengthError beyond factor × trained window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baywindow.errors import CapabilityError, ConfigError, SourceError
from baywindow.registry import technique
from baywindow.window.base import Calibrated, Calibration, Cost, ModelInfo, Shape
from baywindow.window.positions._rope import (
    check_at_least,
    check_factor,
    everywhere,
    from_transformers,
    keep_all_cost,
    refuse_beyond_factor,
)
from baywindow.window.positions.base import Asked, Branch, Position

Factors = NDArray[np.float64]
STEP = 0.01  # grid of λ
HEADROOM = 1.25  # λ goes up to this many times s
STARTS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)  # choices of n̂


@technique(
    summary="A factor for each rotary pair, found by evolutionary search on the model",
    paper="arXiv:2402.13753",
    year=2024,
    needs=("weights", "kv"),
    claim="Searched factors give lower perplexity at 8 times the window, untuned, than linear, NTK or YaRN scaling at that factor.",
    departures=(
        "no fine-tuning, no second search, no separate factors for short texts: this room changes no weights and keeps one set",
        "calibrates on the caller's text, not on five books of PG19",
    ),
)
class LongRoPE(Calibrated, Position):
    fixed: ClassVar[bool] = True

    factor: float = 8.0  # s
    population: int = 64  # P
    parents: int = 32  # k
    mutations: int = 16  # N1
    crossovers: int = 16  # N2
    rounds: int = 40  # T
    chance: float = 0.3  # p, of a gene to be resampled
    samples: int = 5
    seed: int = 0
    factors: tuple[float, ...] | None = None  # λ given outright; None: what `prepare` found
    start_tokens: int = 0  # n̂, used with ``factors``

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)
        for name in ("population", "parents", "rounds", "samples"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("mutations", "crossovers", "start_tokens"):
            check_at_least(name, getattr(self, name), 0)
        if not 0 < self.chance <= 1:
            raise ConfigError.bad_value("chance", self.chance, "above 0 and at most 1")
        if self.parents > self.population:
            raise ConfigError.bad_value("parents", self.parents, f"at most population={self.population}")
        if self.factors is not None and any(not f > 0 for f in self.factors):
            raise ConfigError.bad_value("factors", self.factors, "numbers above 0")

    def ready(self, info: ModelInfo) -> bool:
        return self.factors is not None or super().ready(info)

    def found(self, asked: Asked) -> tuple[Tensor, int]:
        """λ (F,) and n̂, given outright or prepared. Raises CapabilityError if there are none, or not as many as the model has pairs."""
        arrays = asked.info.arrays.get("longrope")
        if self.factors is not None:
            values, start = np.array(self.factors), self.start_tokens
        elif arrays is not None:
            values, start = arrays["factors"].astype(np.float64), int(arrays["start_tokens"][0])
        else:
            raise CapabilityError(
                "longrope has no factors for this model", hint=f"bay prepare 'longrope(factor={self.factor:g})' --model …"
            )
        if len(values) != len(asked.inv_freq):
            raise CapabilityError(f"{len(values)} factors for {len(asked.inv_freq)} rotary pairs", hint="prepare them on this model")
        return torch.tensor(values, dtype=torch.float32, device=asked.inv_freq.device), start

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        refuse_beyond_factor("longrope", asked, self.factor)
        factors, start = self.found(asked)
        temperature = math.sqrt(1 + math.log(self.factor) / math.log(asked.info.trained_tokens))
        if not start:
            return everywhere(asked, asked.inv_freq / factors, attention_scaling=temperature)
        q_at, k_at = (positions(p, factors, start) for p in (asked.q_pos, asked.k_pos))
        return [Branch(q_at=q_at, k_at=k_at, attention_scaling=temperature)]

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)

    def prepare(self, calibration: Calibration) -> dict[str, NDArray[np.float32]]:
        texts = self._texts(calibration)

        def loss(gene: Gene) -> float:
            trial = replace(self, factors=tuple(gene.factors.tolist()), start_tokens=gene.start)
            return sum(calibration.score_with(trial, t, 0) for t in texts) / len(texts)

        best = Search(self, loss, calibration).run(_seeds(calibration, self.factor))
        return {"factors": best.factors.astype(np.float32), "start_tokens": np.array([best.start], dtype=np.float32)}

    def _texts(self, calibration: Calibration) -> list[Tensor]:
        """Up to ``samples`` stretches of the target length, each [1, n]."""
        length = round(self.factor * calibration.info.trained_tokens)
        whole = calibration.ids.shape[1] // length
        if not whole:
            raise SourceError(
                f"the calibration text has {calibration.ids.shape[1]} tokens; one target length is {length}", hint="give more text"
            )
        return [calibration.ids[:, i * length : (i + 1) * length] for i in range(min(whole, self.samples))]


@dataclass(frozen=True)
class Gene:
    """One candidate: factors on the grid, (F,), and how many first tokens are left alone."""

    factors: Factors
    start: int

    @property
    def key(self) -> tuple[int, ...]:
        return (*np.rint(self.factors / STEP).astype(int).tolist(), self.start)


@dataclass
class Search:
    """The evolutionary search (Algorithm 1). All randomness comes from (seed, round), so a resumed search goes on as if never stopped."""

    options: LongRoPE
    loss: Callable[[Gene], float]
    calibration: Calibration
    known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def run(self, seeds: list[Gene]) -> Gene:
        """The best candidate after all rounds."""
        first, people = self._resume()
        if not people:
            people = self._grow(np.random.default_rng((self.options.seed, 0)), seeds, self.options.population - len(seeds), list(seeds))
            self._save(0, people)
        for turn in range(first, self.options.rounds + 1):
            rng = np.random.default_rng((self.options.seed, turn))
            best = sorted(people, key=self._loss)[: self.options.parents]
            people = self._grow(rng, best, self.options.mutations, list(best))
            people = self._cross(rng, best, people)
            self._save(turn, people)
        return min(people, key=self._loss)

    def _loss(self, gene: Gene) -> float:
        if gene.key not in self.known:
            value = float(self.loss(gene))
            self.known[gene.key] = value if math.isfinite(value) else math.inf
        return self.known[gene.key]

    def _grow(self, rng: np.random.Generator, parents: list[Gene], count: int, people: list[Gene]) -> list[Gene]:
        """``people`` and ``count`` mutations of random parents."""
        for _ in range(count):
            gene = mutated(rng, parents[int(rng.integers(len(parents)))], self.options.chance, self.options.factor)
            people.append(gene)
        return people

    def _cross(self, rng: np.random.Generator, parents: list[Gene], people: list[Gene]) -> list[Gene]:
        """``people`` and crossovers of random pairs; a mutation where a pair yields no monotone child."""
        for _ in range(self.options.crossovers):
            a, b = (parents[int(i)] for i in rng.integers(len(parents), size=2))
            people.append(crossed(rng, a, b, self.options.chance) or mutated(rng, a, self.options.chance, self.options.factor))
        return people

    def _save(self, turn: int, people: list[Gene]) -> None:
        for gene in people:
            self._loss(gene)
        self.calibration.save_checkpoint(
            {
                "round": np.array([turn], dtype=np.float32),
                "people": np.array([p.key for p in people], dtype=np.float32),
                "keys": np.array(list(self.known), dtype=np.float32),
                "losses": np.array(list(self.known.values()), dtype=np.float32),
            }
        )

    def _resume(self) -> tuple[int, list[Gene]]:
        """(next round, people) of an interrupted search, or (1, [])."""
        saved: Mapping[str, NDArray[np.float32]] = self.calibration.load_checkpoint()
        if not saved:
            return 1, []
        for key, value in zip(saved["keys"], saved["losses"], strict=True):
            self.known[tuple(int(x) for x in key)] = float(value)
        people = [Gene(factors=row[:-1].astype(np.float64) * STEP, start=int(row[-1])) for row in saved["people"]]
        return int(saved["round"][0]) + 1, people


def mutated(rng: np.random.Generator, gene: Gene, chance: float, factor: float) -> Gene:
    """Each λ, with probability ``chance``, redrawn from the grid between its neighbours, so that order holds; n̂ likewise."""
    grid = np.rint(gene.factors / STEP).astype(int)
    for i in range(len(grid)):
        if rng.random() < chance:
            low = grid[i - 1] if i else round(1 / STEP)
            high = grid[i + 1] if i + 1 < len(grid) else round(HEADROOM * factor / STEP)
            grid[i] = rng.integers(low, max(low, high) + 1)
    start = int(rng.choice(STARTS)) if rng.random() < chance else gene.start
    return Gene(factors=grid * STEP, start=start)


def crossed(rng: np.random.Generator, a: Gene, b: Gene, chance: float, tries: int = 100) -> Gene | None:
    """``a`` with some genes of ``b``, or None if no try keeps λ from falling."""
    for _ in range(tries):
        factors = np.where(rng.random(len(a.factors)) < chance, b.factors, a.factors)
        if (np.diff(factors) >= -STEP / 2).all():
            return Gene(factors=factors, start=b.start if rng.random() < chance else a.start)
    return None


def on_grid(factors: Factors) -> Factors:
    """Rounded to the grid, at least 1, never falling."""
    rounded: Factors = np.maximum.accumulate(np.maximum(np.rint(factors / STEP), 1 / STEP)) * STEP
    return rounded


def positions(p: Tensor, factors: Tensor, start: int) -> Tensor:
    """Positions by pair, (B, H or 1, n, F): the first ``start`` as they are, later ones divided by the pair's factor."""
    p = p[:, None] if p.dim() == 2 else p
    at = p[..., None].float()
    return torch.where(at < start, at, at / factors)


def _seeds(calibration: Calibration, factor: float) -> list[Gene]:
    """Linear, NTK and YaRN factors: what those schemes divide each frequency by."""
    own = calibration.inv_freq
    window = calibration.info.trained_tokens
    scaled = [
        own / factor,
        from_transformers("dynamic", own, window, round(factor * window), factor=1.0)[0],
        from_transformers("yarn", own, window, factor=factor)[0],
    ]
    return [Gene(factors=on_grid((own / s).double().cpu().numpy()), start=0) for s in scaled]
