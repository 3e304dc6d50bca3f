"""What a cache holds and what it cost, for people and for the bench."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baywindow.window.engine.cache import WindowCache
    from baywindow.window.engine.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class Report:
    """``seen`` tokens by row; ``kept[layer][row][head]`` tokens; bytes really held, and what the stock cache would hold for the same
    tokens; seconds by part; ``question`` says whether the prompt's end took part in the compression; ``notes`` say what a person
    should know (a budget above the prompt, for instance)."""

    model: str
    recipe: str
    seen: tuple[int, ...]
    kept: tuple[tuple[tuple[int, ...], ...], ...]
    nbytes: int
    stock_nbytes: int
    seconds: dict[str, float]
    question: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        tokens = [n for layer in self.kept for row in layer for n in row]
        mean = sum(tokens) / len(tokens) if tokens else 0.0
        lines = [
            f"{self.model} · {self.recipe}",
            f"tokens seen {', '.join(map(str, self.seen)) or '0'}; kept per layer and head {mean:.1f} on average"
            + (f" ({min(tokens)} to {max(tokens)})" if tokens else ""),
            f"holds {mib(self.nbytes)} of {mib(self.stock_nbytes)}; question {self.question}",
            "seconds: " + (", ".join(f"{name} {value:.3f}" for name, value in self.seconds.items()) or "none"),
        ]
        return "\n".join([*lines, *self.notes])


def mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.2f} MiB"


def report_of(runtime: Runtime, cache: WindowCache) -> Report:
    """Read off a cache; nothing is changed."""
    rows = [] if cache.row_tokens is None else cache.row_tokens.tolist()
    element = next(runtime.model.parameters()).element_size()
    slots = max(cache.get_seq_length(), sum(piece.shape[1] for piece in cache.ids))  # parts read apart share positions
    stock = sum(
        len(rows) * layer.kv_heads * (layer.head_dim + layer.value_dim) * element * min(slots, (layer.sliding_window or slots + 1) - 1)
        for layer in runtime.info.layers
    )
    compresses = bool(runtime.parts.reducer or runtime.parts.finisher)
    if not compresses:
        question = "not affected (nothing is dropped)"
    elif cache.question_tokens or cache.protect_from is not None or cache.asked_after:
        question = "kept out of the compression"
    else:
        question = "took part in the compression"
    kept = tuple(tuple(tuple(row) for row in held.tolist()) if held.dim() else () for held in cache.held())
    return Report(
        model=runtime.info.name,
        recipe=str(runtime.recipe),
        seen=tuple(rows),
        kept=kept,
        nbytes=cache.nbytes(),
        stock_nbytes=stock,
        seconds=dict(cache.seconds),
        question=question,
        notes=(*cache.notes, *_lookups(cache)),
    )


def _lookups(cache: WindowCache) -> list[str]:
    """What lookups fetched of what lies apart, over all layers and heads."""
    asked, fetched = cache.apart
    if not asked:
        return []
    return [f"of {asked} tokens looked up apart from the device, {1 - fetched / asked:.0%} were there from the lookup before"]
