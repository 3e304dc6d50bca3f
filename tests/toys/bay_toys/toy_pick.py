"""A retriever with an option of every kind."""

from typing import Literal

from baywindow.errors import ConfigError
from baywindow.registry import Technique, technique


@technique(room="context/retrieve", summary="picks passages", claim="Picks.", departures=("None of it is real: it is a toy.",))
class ToyPick(Technique):
    k: int = 10  # how many
    weights: tuple[float, ...] = (1.0, 0.5)
    mode: Literal["near", "far"] = "near"
    label: str | None = None
    rerank: str | None = "toy"
    strict: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")
