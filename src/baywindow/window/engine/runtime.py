"""`attach`: put the seam into a model, prove it exact, run a recipe through it, and take it out again.

Three things change while attached, and all are put back bit for bit: the rotary module is wrapped, the attention implementation's
name in the config is ours, and two hooks on the decoder mark where a forward begins and ends. No model code is touched.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import get_layer_types_and_kwargs
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from baywindow import recipe as recipes
from baywindow.errors import ConfigError
from baywindow.recipe import Recipe
from baywindow.window.base import Calibrated, LayerInfo, ModelInfo
from baywindow.window.engine import driver, probe, selftest
from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.calibrated import with_arrays
from baywindow.window.engine.forward import Forward
from baywindow.window.engine.layer import LayerRun
from baywindow.window.engine.masks import MaskSpec, mask_spec
from baywindow.window.engine.parts import Parts
from baywindow.window.engine.picture import svg
from baywindow.window.engine.report import Report, report_of
from baywindow.window.engine.rotary import IdentityRotary, Turner
from baywindow.window.engine.store import TAG, Store
from baywindow.window.engine.surprisal import hear

_numbers = itertools.count(1)


class Runtime:
    """A model with the seam in it. A context manager; `detach` may also be called by hand, any number of times."""

    def __init__(self, model: nn.Module, recipe: Recipe, tokenizer: Any = None, fold_gqa: bool | None = None) -> None:
        self.model = model
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.parts = Parts.of(recipe)
        self.found = probe.find(model)
        self.name = f"baywindow-{next(_numbers)}"
        self.turners: dict[str, Turner] = {}
        self.forward = Forward()
        self._was = self.found.config._attn_implementation
        self.base = self._was if self._was in ("sdpa", "eager") else "sdpa"
        self.fold_gqa = self.base == "sdpa" and fold_gqa is not False
        self.fold_must_hold = fold_gqa is True
        self._hooks: list[Any] = []
        self._sighting: dict[int, probe.Sighting] | None = None
        self.last_cache: WindowCache | None = None  # the one made last
        self._identities: list[IdentityRotary] = []
        self.observer: Callable[[LayerInfo, Tensor, Tensor, Tensor], None] | None = None  # sees every layer's un-rotated q, k, and v
        self.attached = False
        self.info: ModelInfo  # set by the probing forward

    # -- for callers ------------------------------------------------------------------------------------------------------

    def cache(self, *, question_tokens: int = 0) -> WindowCache:
        """A fresh cache for one batch of sequences. ``question_tokens`` at the end of the prompt are kept out of the compression."""
        if question_tokens < 0:
            raise ConfigError.bad_value("question_tokens", question_tokens, "0 or more")
        self.last_cache = WindowCache(self, question_tokens=question_tokens)
        return self.last_cache

    def prefill(self, ids: Tensor, cache: WindowCache | None = None, **options: Any) -> WindowCache:
        """Feed a long context [B, n] in chunks and compress it; see `driver.prefill` for the options."""
        return driver.prefill(self, cache or self.cache(), ids, **options)

    def reach(self) -> int:
        """The longest sequence in tokens that the recipe lets this model read; 0 if no part extends it."""
        return max((part.reach(self.info.trained_tokens) for part in self.parts.all), default=0)

    def report(self, cache: WindowCache | None = None) -> Report:
        """Tokens seen, kept per layer and head, bytes and seconds of ``cache`` (default: the last one made)."""
        return report_of(self, self._chosen(cache, "report on"))

    def picture(self, cache: WindowCache | None = None, *, row: int = 0) -> str:
        """What was kept, per layer and head, as an SVG drawing of one sequence of the batch."""
        return svg(self._chosen(cache, "draw"), row)

    def _chosen(self, cache: WindowCache | None, what: str) -> WindowCache:
        if (chosen := cache or self.last_cache) is None:
            raise ConfigError(f"there is no cache to {what}", hint="make one with w.cache() and generate with it")
        return chosen

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.detach()

    # -- in and out -------------------------------------------------------------------------------------------------------

    def attach(self, *, tested: bool = False) -> Runtime:
        """Probe, test against the stock model, switch over. Leaves the model as it was if anything is refused.

        ``tested`` skips the comparison for a model that passed it before (`Prefilled` attaches anew for every question).
        """
        expected = None if tested else selftest.stock_logits(self.model, self.found.config)
        try:
            self._switch_in()
            self._probe()
            if expected is not None:
                selftest.compare(self, expected)
            self.parts.check(self.info)
        except BaseException:
            self.detach()
            raise
        return self

    def _switch_in(self) -> None:
        if any(isinstance(m, IdentityRotary) for m in self.model.modules()):
            raise ConfigError("the model is attached already", hint="leave the other `with bay.attach(...)` first")
        self.attached = True
        for parent, name, inner in self.found.rotaries:
            identity = IdentityRotary(inner, self.forward.record).train(inner.training)
            setattr(parent, name, identity)
            self._identities.append(identity)
        ALL_ATTENTION_FUNCTIONS.register(self.name, self._attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(self.name, mask_spec)
        self.found.config._attn_implementation = self.name
        decoder = self.found.decoder
        self._hooks = [
            decoder.register_forward_pre_hook(self._before, with_kwargs=True),
            decoder.register_forward_hook(self._after),
        ]

    def detach(self) -> None:
        """Put everything back. Caches made here cannot be used afterwards."""
        if not self.attached:
            return
        self.attached = False
        for hook in self._hooks:
            hook.remove()
        for parent, name, inner in self.found.rotaries:
            setattr(parent, name, inner)
        self.found.config._attn_implementation = self._was
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop(self.name, None)
        ALL_MASK_ATTENTION_FUNCTIONS._global_mapping.pop(self.name, None)
        self._identities = []

    def _probe(self) -> None:
        """One forward over two tokens in which rotated dimensions are NaN, and attention answers zero."""
        self._sighting = self.found.sightings
        for identity in self._identities:
            identity.probing = True
        try:
            with torch.no_grad():
                self.found.decoder(input_ids=selftest.tokens(self.model, self.found.config)[:, :2], use_cache=False)
        finally:
            self._sighting = None
            for identity in self._identities:
                identity.probing = False
        types, kwargs = get_layer_types_and_kwargs(self.found.config)
        self.info = probe.describe(self.model, self.found, types, kwargs)
        if any(isinstance(part, Calibrated) for part in self.parts.all):
            self.info = with_arrays(self.info, self.model, self.parts.all)
        inner = self.found.rotaries[0][2]
        for layer in self.info.layers:
            if layer.has_rope and layer.rope_key not in self.turners:
                apply = probe.apply_function(self.found.modules[layer.index])
                self.turners[layer.rope_key] = Turner(inner, layer.rope_key, apply, self.forward.dtypes[layer.rope_key])

    # -- one forward ------------------------------------------------------------------------------------------------------

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        cache = kwargs.get("past_key_values")
        if cache is None and kwargs.get("use_cache", True) is not False and self._sighting is None:
            cache = kwargs["past_key_values"] = WindowCache(self)
        if cache is not None and not isinstance(cache, WindowCache):
            raise ConfigError(
                f"this model is attached and was given a {type(cache).__name__}", hint="pass past_key_values=w.cache() to model or generate"
            )
        if cache is not None and cache.runtime is not self:
            raise ConfigError(
                f"this cache was made for {cache.runtime.info.name} with the recipe {cache.runtime.recipe}",
                hint=f"make one with w.cache() for {self.recipe}",
            )
        ids = kwargs.get("input_ids", args[0] if args else None)
        self.forward.begin(cache, ids)
        return args, kwargs

    def _after(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        cache = self.forward.cache
        if cache is not None and self.parts.reads_surprisal and cache.mode != "probe" and self.forward.ids is not None:
            hear(self, cache, out[0], cache.ids[-1])
        if cache is None or not self.parts.at_end or cache.driven:
            return
        if cache.mode == "auto" and self.forward.tokens > 1:
            self.finish(cache)

    def finish(self, cache: WindowCache) -> None:
        """The end of a prompt: policies that act on all layers at once act now. The driver calls this; inside plain ``generate`` the
        end of the first forward does."""
        from baywindow.window.engine.finish import finish_cache

        finish_cache(self, cache)

    def _attention(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """What transformers calls for every layer: q [B, Hq, n, D], k and v [B, H, n, D], un-rotated; gives [B, n, Hq, Dv]."""
        index = int(module.layer_idx)  # type: ignore[arg-type]
        if self._sighting is not None:
            self._sighting[index] = probe.sight(query, key, value, kwargs.get("scaling"), kwargs)
            self.found.modules[index] = module
            return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None
        if not isinstance(attention_mask, MaskSpec):
            raise ConfigError("a 4-D attention mask cannot be used while attached", hint="pass a 2-D mask over the whole sequence")
        store: Store | None = getattr(key, TAG, None)
        if store is None and self.forward.cache is not None:
            raise ConfigError("a layer's keys did not come through the cache", hint="this model needs an adapter")
        if self.observer is not None:
            self.observer(self.info.layers[index], query, key, value)
        run = LayerRun(self, self.info.layers[index], module, attention_mask, store, kwargs)
        started = time.perf_counter()
        out = run(query, key, value)
        if self.forward.cache is not None:
            self.forward.cache.spend("attention", time.perf_counter() - started - run.spent)
        return out, None

    def stock_attention(self, module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
        """The implementation the model had: SDPA, or its own file's eager function."""
        if self.base == "sdpa":
            return ALL_ATTENTION_FUNCTIONS["sdpa"]  # type: ignore[no-any-return]
        return probe.eager_function(module)

    def turner(self, layer: LayerInfo) -> Turner | None:
        return self.turners[layer.rope_key] if layer.has_rope else None


def attach(model: nn.Module, recipe: str | Recipe = "stock", *, tokenizer: Any = None, fold_gqa: bool | None = None) -> Runtime:
    """Put the inside part of ``recipe`` into a transformers model; use as ``with attach(model, "snapkv(budget_tokens=1024)") as w:``.

    ``tokenizer`` is for the few techniques that say something to the model themselves (kvzip's instruction to repeat). ``fold_gqa``
    lets the query heads of one key/value head attend as rows of one head when a single token is decoded: faster, equal up to
    rounding. None: where the self-test allows it; False: never, so that decoding is bit-equal to stock; True: or refuse.

    Raises RecipeError for a recipe that does not fit together, CapabilityError (with the reason) for a model that cannot be used,
    including one that does not give the stock model's logits in the self-test.
    """
    return Runtime(model, recipes.parse(recipe), tokenizer, fold_gqa).attach()
