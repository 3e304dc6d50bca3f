"""`Prefilled`: read a long text once, ask many questions, keep it on disk."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baywindow import recipe as recipes
from baywindow.errors import ConfigError, SourceError
from baywindow.recipe import Recipe
from baywindow.window.engine import saving
from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.driver import CHUNK_TOKENS
from baywindow.window.engine.fingerprint import fingerprint
from baywindow.window.engine.report import Report
from baywindow.window.engine.runtime import Runtime

Question = Literal["out", "in"]
BETWEEN_TEXTS = "\n\n"
PLAIN_QUESTION = ("\n\nQuestion: ", "\nAnswer:")  # for models without a chat template


@dataclass(frozen=True)
class Frame:
    """The template text around what the user gives: before the text, between text and question, and after the question."""

    before: str
    between: str
    after: str


class Prefilled:
    """A text that was read once, compressed by the inside part of a recipe.

    ``question="out"`` (default) compresses before any question is known; ``"in"`` keeps everything until a question comes and lets it
    take part, anew for each question: better answers, no memory saved between them. The model is attached only while it works,
    so several Prefilleds may share it. ``each_chunk`` compresses after every chunk, so memory grows with the budget.

    Several texts are read one after the other, or apart by a recipe that does so (`ape_parallel`).

    Text and questions are data: control tokens written inside them are read as plain characters.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        text: str | Sequence[str],
        recipe: str | Recipe = "stock",
        *,
        question: Question = "out",
        chunk_tokens: int = CHUNK_TOKENS,
        each_chunk: bool = False,
    ) -> None:
        if question not in ("out", "in"):
            raise ConfigError.bad_value("question", question, "'out' or 'in'")
        texts = [text] if isinstance(text, str) else list(text)
        if not texts or not all(texts):
            raise ConfigError("there is no text to read", hint="give the context as a non-empty string, or several")
        if question == "in" and each_chunk:
            raise ConfigError("question='in' keeps all chunks until a question comes", hint="leave each_chunk out")
        self._set_up(model, tokenizer, recipes.parse(recipe), question)
        with Runtime(model, self.recipe, tokenizer).attach() as w:
            parts = [self._marks(self.frame.before, first=True)]
            parts += [self._data(one if i == len(texts) - 1 else one + BETWEEN_TEXTS) for i, one in enumerate(texts)]
            starts = tuple(itertools.accumulate(len(part) for part in parts[:-1])) if len(parts[0]) or len(texts) > 1 else ()
            ids = torch.cat(parts)[None]
            self._cache = w.prefill(ids, chunk_tokens=chunk_tokens, each_chunk=each_chunk, close=question == "out", starts=starts)

    def _set_up(self, model: nn.Module, tokenizer: Any, recipe: Recipe, question: Question) -> None:
        self.model, self.tokenizer, self.recipe, self.question = model, tokenizer, recipe, question
        self.frame = frame_of(tokenizer)

    # -- asking -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def ask(self, question: str, *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0) -> str:
        """One answer. Greedy unless ``temperature`` is above 0. The saved context is not changed."""
        with self._runtime() as w:
            cache = self._copy(w)
            inputs = self._question(w, cache, question)
            out = self._generate(inputs, cache, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
            self._last = w.report(cache)
        return str(self.tokenizer.decode(out[0, inputs.shape[1] :], skip_special_tokens=True)).strip()

    def stream(self, question: str, *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0) -> Iterator[str]:
        """The same answer in pieces, as they come. Closing the iterator stops the generation."""
        queue: SimpleQueue[Any] = SimpleQueue()
        options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        stop = threading.Event()
        thread = threading.Thread(target=self._produce, args=(question, options, queue, stop), daemon=True)
        thread.start()
        try:
            while (piece := queue.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            stop.set()
            thread.join()

    def _produce(self, question: str, options: dict[str, Any], queue: SimpleQueue[Any], stop: threading.Event) -> None:
        from transformers import StoppingCriteriaList, TextStreamer

        class Pieces(TextStreamer):  # type: ignore[misc]
            """Hands finished words to the queue; the prompt is not shown."""

            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                if text:
                    queue.put(text)

        try:
            with torch.no_grad(), self._runtime() as w:
                cache = self._copy(w)
                inputs = self._question(w, cache, question)
                streamer = Pieces(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
                stopping = StoppingCriteriaList([lambda ids, scores, **_: torch.full((ids.shape[0],), stop.is_set(), device=ids.device)])
                self._generate(inputs, cache, **options, streamer=streamer, stopping_criteria=stopping)
                self._last = w.report(cache)
            queue.put(None)
        except BaseException as error:
            queue.put(error)  # raised where the pieces are read

    def _generate(self, inputs: Tensor, cache: WindowCache, *, max_new_tokens: int, temperature: float, seed: int, **extra: Any) -> Tensor:
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if temperature > 0:
            torch.manual_seed(seed)
            sampling = {"do_sample": True, "temperature": temperature}
        past = cache.get_seq_length()
        out: Tensor = self.model.generate(  # type: ignore[operator]
            inputs,
            attention_mask=inputs.new_ones(1, past + inputs.shape[1]),
            past_key_values=cache,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id,
            **sampling,
            **extra,
        )
        return out

    def _question(self, w: Runtime, cache: WindowCache, question: str) -> Tensor:
        """The ids [1, n] to generate from. With ``question="in"`` all but the last are fed here and take part in the compression."""
        if not question.strip():
            raise ConfigError("the question is empty", hint="ask something")
        ids = torch.cat([self._marks(self.frame.between), self._data(question), self._marks(self.frame.after)])[None]
        ids = ids.to(self.model.get_input_embeddings().weight.device)  # type: ignore[operator]
        if self.question == "out" or ids.shape[1] == 1:
            return ids
        w.prefill(ids[:, :-1], cache)
        return ids[:, -1:]

    def _copy(self, w: Runtime) -> WindowCache:
        cache = copy.deepcopy(self._cache)
        cache.runtime = w
        cache.asked_after = self.question == "out"
        return cache

    def _runtime(self) -> Runtime:
        return Runtime(self.model, self.recipe, self.tokenizer).attach(tested=True)

    def report(self) -> Report:
        """What the context holds and cost, without any question; after `ask`, see `last_report` for the question's own cache."""
        return self._cache.runtime.report(self._cache)

    @property
    def last_report(self) -> Report | None:
        """The report of the last question."""
        return getattr(self, "_last", None)

    @property
    def nbytes(self) -> int:
        """Bytes the context holds."""
        return self._cache.nbytes()

    # -- keeping ----------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the context to a folder (replaced if it is there), bound to this model, tokenizer and recipe."""
        path = Path(folder)
        if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / saving.MANIFEST).is_file())):
            raise SourceError(f"{path} is there already and is not a saved context", hint="give a new folder")
        saving.save(self._cache, path, self._bound_to())
        return path

    @classmethod
    def load(cls, folder: str | Path, model: nn.Module, tokenizer: Any) -> Prefilled:
        """The context that was saved. Raises SourceError if it is damaged or of another version, ModelError if it belongs to another
        model or tokenizer, each naming which."""
        path = Path(folder)
        bound = {"model": fingerprint(model), "tokenizer": tokenizer_fingerprint(tokenizer)}
        manifest = saving.read_manifest(path, bound)
        self = cls.__new__(cls)
        self._set_up(model, tokenizer, recipes.parse(str(manifest["recipe"])), manifest["question"])
        if self.recipe.hash != manifest["recipe_hash"]:
            raise SourceError(
                f"the saved context {path} was made with other defaults of {manifest['recipe']}", hint="make it again with this version"
            )
        with Runtime(model, self.recipe, tokenizer).attach() as w:
            self._cache = saving.load(w, path, manifest)
        return self

    def _bound_to(self) -> dict[str, Any]:
        return {
            "baywindow": version("baywindow"),
            "model": fingerprint(self.model),
            "model_name": self._cache.runtime.info.name,
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "recipe": str(self.recipe),
            "recipe_hash": self.recipe.hash,
            "question": self.question,
        }

    # -- text to tokens ---------------------------------------------------------------------------------------------------

    def _data(self, text: str) -> Tensor:
        """Ids [n] of text that is data: what looks like a control token is split into plain characters."""
        return torch.tensor(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True), dtype=torch.long)

    def _marks(self, text: str, *, first: bool = False) -> Tensor:
        """Ids [n] of template text, where control tokens are meant; with the beginning-of-text token where the model wants one."""
        ids = list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []
        bos = self.tokenizer.bos_token_id
        wanted = first and bos is not None and self.tokenizer.encode("a")[:1] == [bos]
        return torch.tensor([bos, *ids] if wanted and ids[:1] != [bos] else ids, dtype=torch.long)


def frame_of(tokenizer: Any) -> Frame:
    """Where text and question stand in the tokenizer's chat template; a plain form where it has none."""
    if not getattr(tokenizer, "chat_template", None):
        return Frame("", *PLAIN_QUESTION)
    text, asked = "\x1ftext\x1f", "\x1fquestion\x1f"
    message = [{"role": "user", "content": f"{text}\n\n{asked}"}]
    rendered = str(tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False))
    before, _, rest = rendered.partition(text)
    between, found, after = rest.partition(asked)
    if not found:
        raise ConfigError("the chat template changes what the user says", hint="use a tokenizer whose template keeps user content")
    return Frame(before, between, after)


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of what turns text into ids: the fast tokenizer's own description, else the sorted vocabulary; and the chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    digest = hashlib.sha256(described.encode())
    digest.update(str(getattr(tokenizer, "chat_template", "")).encode())
    return "sha256:" + digest.hexdigest()
