"""Which recipes can read which lengths on a model, known before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baywindow import registry
from baywindow.bench.plan import length_text
from baywindow.errors import BayError, CapabilityError, ConfigError
from baywindow.models.base import LanguageModel
from baywindow.recipe import Recipe

SPARE_TOKENS = 128  # for the chat template and the reply's given beginning
ANY_LENGTH = 1 << 62


def reaches(model: LanguageModel, recipes: Sequence[Recipe]) -> tuple[dict[str, int], dict[str, str]]:
    """By recipe hash: the longest text in tokens, and why a recipe cannot run on this model at all.

    What has an outside part reads any length: it reads in parts, or says what it left out.
    """
    found: dict[str, int] = {}
    refused: dict[str, str] = {}
    for recipe in recipes:
        try:
            recipe.check_capabilities(model.capabilities, model.name)
            found[recipe.hash] = ANY_LENGTH if recipe.outside else _reach(model, recipe)
        except (CapabilityError, ConfigError) as error:
            refused[recipe.hash] = str(error)
    return found, refused


def _reach(model: LanguageModel, recipe: Recipe) -> int:
    if not recipe.inside:
        return model.context_length
    with model.attached(recipe.inside) as view:
        return view.context_length


def check(model: LanguageModel, lengths: Sequence[int], reach: Mapping[str, int]) -> None:
    """Raise ConfigError for a length that no recipe of the run can read, naming what would."""
    longest = max(reach.values(), default=0)
    for length in lengths:
        if length > longest:
            would = extenders(model, length)
            inside = f"add {', '.join(would[:4])}, or " if would else ""
            raise ConfigError(
                f"{length_text(length)} tokens exceed the window of {model.name} ({model.context_length}), and no recipe here extends it",
                hint=f"{inside}use a recipe that reads in parts, e.g. hybrid > rag",
            )


def extenders(model: LanguageModel, length: int) -> list[str]:
    """Techniques that, as they come, let this model read so many tokens."""
    found = []
    for card in registry.cards("window/positions") if "weights" in model.capabilities else []:
        try:
            part = registry.get(card.name)()
            with model.attached((part,)) as view:
                if view.context_length >= length:
                    found.append(card.name)
        except (BayError, TypeError):  # not prepared for this model, or an option must be given: not one to name
            continue
    return found


def ordered_tokens(length: int, windows: Sequence[int], max_new_tokens: int) -> int:
    """The length that a sample is ordered with: shorter by what the reply needs, where the window is full."""
    room = min(windows, default=ANY_LENGTH) - max_new_tokens - SPARE_TOKENS
    return min(length, room)


def raise_refused(refused: Mapping[str, str], recipes: Mapping[str, Recipe]) -> None:
    """No recipe of the run can work on this model: say why for the first."""
    first = next(iter(refused))
    raise ConfigError(f"no recipe here can run on this model; {recipes[first]}: {refused[first]}", hint="add stock to --recipes")
