"""One question on its way to an answer: everything that changes while a recipe's outside half works.

Every model call goes through `Run.call` or `Run.call_many`. They keep three promises for all techniques at once: a prompt that
does not fit the window is never sent, no call starts that the budget does not allow, and every call is in the trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from baywindow.budget import NOTHING, Meter, Usage
from baywindow.context.condensed import cited
from baywindow.context.evicted import with_evicted
from baywindow.context.remembered import Remembered
from baywindow.documents.base import Corpus, Passage
from baywindow.errors import CapabilityError, ContextLengthError
from baywindow.models.base import Completion, LanguageModel, Prompt, Sampling, Stream
from baywindow.trace import Event, Region, Step

Listener = Callable[[Event], None]

# An estimated token count may be off by this share; windows are filled only so far when the model cannot count.
ESTIMATE_MARGIN = 0.10
SHORTEST_ANSWER_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class Call:
    """How one call is made. ``keep`` is what later calls still need: this one is not made if it would eat into it.

    A ``final`` call streams its text to the listener, but only once ``withhold(text so far, whether it has ended)`` says no: a
    reply that may turn out to be a decline is not shown piece by piece and then taken back.
    """

    name: str
    max_new_tokens: int = 256
    final: bool = False
    keep: Usage = NOTHING
    examples: tuple[tuple[str, str], ...] = ()
    stop: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    withhold: Callable[[str, bool], bool] | None = None
    json_schema: dict[str, Any] | None = None  # of the reply; `context.structured` sets it
    strip: bool = True  # False keeps the blanks around a reply that goes on where another ended


class Run:
    """The state of one question. Not shared between questions."""

    def __init__(
        self,
        question: str,
        corpus: Corpus,
        model: LanguageModel | None = None,
        *,
        meter: Meter | None = None,
        on_event: Listener | None = None,
    ) -> None:
        self.question = question
        self.corpus = corpus
        self.meter = meter or Meter()
        self.notes: list[str] = []
        self.steps: list[Step] = []
        self.cut_short = False  # the budget ended the run before its recipe did
        self.remembered: Remembered | None = None  # every final call shows it
        self._model = model
        self._listen = on_event or (lambda event: None)
        self._numbers: dict[tuple[str, int, int], int] = {}
        self._numbered: dict[int, Passage] = {}
        self._call_seconds: list[float] = []

    # What techniques ask of it

    @property
    def model(self) -> LanguageModel:
        if self._model is None:
            raise CapabilityError("this recipe needs a language model", hint="`bay search` takes retrievers that work without one")
        return self._model

    @property
    def has_model(self) -> bool:
        """Whether a model will read what is found; `bay search` has none."""
        return self._model is not None

    def note(self, text: str) -> None:
        """A remark that a person should see with the answer; the same remark is kept once."""
        if text not in self.notes:
            self.notes.append(text)
            self._listen(Event(kind="note", text=text))

    def progress(self, text: str) -> None:
        self._listen(Event(kind="progress", text=text))

    def say(self, text: str) -> None:
        """Send text to whoever watches the answer come."""
        self._listen(Event(kind="token", text=text))

    def chose(self, passages: Sequence[Passage]) -> None:
        """Tell the listener what the early stages chose."""
        self._listen(Event(kind="passages", passages=tuple(passages)))

    def number(self, passage: Passage) -> int:
        """The mark ``[n]`` of a passage in every prompt and answer of this run; the same passage keeps its number."""
        n = self._numbers.setdefault(passage.key, len(self._numbers) + 1)
        self._numbered[n] = cited(passage)
        return n

    @contextmanager
    def numbers_undone(self) -> Iterator[None]:
        """Numbers given inside this block are taken back at its end (for prompts that are only measured)."""
        numbers, numbered = dict(self._numbers), dict(self._numbered)
        yield
        self._numbers, self._numbered = numbers, numbered

    @property
    def numbered(self) -> dict[int, Passage]:
        """Every passage that a prompt of this run has shown, by its mark."""
        return self._numbered

    def room(self, fixed_tokens: int, max_new_tokens: int, keep: Usage = NOTHING) -> int:
        """Tokens left for passages in one call: what window and budget allow, less the fixed prompt, the answer, and ``keep``."""
        window = self.room_without_budget()
        if (limit := self.meter.budget.tokens) is not None:
            window = min(window, limit - self.meter.tokens - keep.tokens - self._remembered_tokens)
        # Where little is left, text comes first: an answer may be short, but it needs something to answer from.
        answer = min(max_new_tokens, max(SHORTEST_ANSWER_TOKENS, window // 4))
        return max(0, window - fixed_tokens - answer)

    def room_without_budget(self) -> int:
        """Tokens of the window that may be filled: all, less what is remembered, and a margin where they are only estimated."""
        window = self.model.context_length
        return (window if self.model.exact_counts else int(window * (1 - ESTIMATE_MARGIN))) - self._remembered_tokens

    def spent(self) -> None:
        """The budget leaves no room for a further call: say so once."""
        self._refuse("the budget")

    def call(self, prompt: Prompt, how: Call) -> str | None:
        """One reply, or None if the budget does not allow the call. Raises ContextLengthError if the prompt cannot fit."""
        if how.final and self.remembered is not None:
            prompt = self.remembered.before(prompt)
            how = replace(how, regions=(*how.regions, *self.remembered.regions))
        how = self._affordable(prompt, how)
        if (allowed := self._allowed(*self._size(prompt, how), how)) == 0:
            return None
        started = time.monotonic()
        stream = self.model.generate(prompt, self._sampling(how, allowed))
        if how.final:
            self._show(stream, how)
        done = stream.completion
        seconds = time.monotonic() - started
        if how.regions and (held := self.model.held()) is not None:
            how = replace(how, regions=with_evicted(how.regions, held, prompt, self.question, self.corpus.excerpt))
        self._record(how, [done], seconds)
        return done.text.strip() if how.strip else done.text

    def call_many(self, prompts: Sequence[Prompt], how: Call) -> list[str | None]:
        """Replies in order, made in parallel where the model can; None for those that the budget did not allow."""
        if prompts:
            how = self._affordable(max(prompts, key=self.model.count_tokens), how)
        allowed: list[Prompt] = []
        spent = Usage()
        new_tokens = how.max_new_tokens
        for prompt in prompts:
            prompt_tokens, new_tokens = self._size(prompt, how)
            keep = replace(
                how.keep,
                calls=how.keep.calls + spent.calls,
                prompt_tokens=how.keep.prompt_tokens + spent.prompt_tokens,
                generated_tokens=how.keep.generated_tokens + spent.generated_tokens,
            )
            if self._allowed(prompt_tokens, new_tokens, replace(how, keep=keep)) < new_tokens:
                break
            allowed.append(prompt)
            spent = Usage(
                calls=spent.calls + 1,
                prompt_tokens=spent.prompt_tokens + prompt_tokens,
                generated_tokens=spent.generated_tokens + new_tokens,
            )
        if not allowed:
            return [None] * len(prompts)
        started = time.monotonic()
        # The window bound differs per prompt; the batch uses the smallest answer length that all of them allow.
        new_tokens = min(self._size(prompt, how)[1] for prompt in allowed)
        done = self.model.generate_many(allowed, self._sampling(how, new_tokens))
        self._record(how, done, time.monotonic() - started)
        texts: list[str | None] = [completion.text.strip() for completion in done]
        return texts + [None] * (len(prompts) - len(allowed))

    @contextmanager
    def stage(self, name: str) -> Iterator[list[Region]]:
        """A step that makes no model call of its own (retrieval, compression): fill the yielded list with its regions."""
        regions: list[Region] = []
        started, before = time.monotonic(), self.meter.usage
        yield regions
        after = self.meter.usage
        self._add(
            Step(
                name=name,
                calls=after.calls - before.calls,
                tokens_in=after.prompt_tokens - before.prompt_tokens,
                tokens_out=after.generated_tokens - before.generated_tokens,
                seconds=time.monotonic() - started,
                regions=tuple(regions),
            )
        )

    # How the promises are kept

    @property
    def _remembered_tokens(self) -> int:
        return 0 if self.remembered is None else self.remembered.tokens

    def _show(self, stream: Stream, how: Call) -> None:
        said, shown = "", 0
        for piece in stream:
            said += piece
            if how.withhold is None or not how.withhold(said, False):
                self.say(said[shown:])
                shown = len(said)
        if shown < len(said) and how.withhold is not None and not how.withhold(said, True):
            self.say(said[shown:])

    def _size(self, prompt: Prompt, how: Call) -> tuple[int, int]:
        """Prompt tokens, and how many new tokens the window leaves (at most what was asked for)."""
        prompt_tokens = self.model.prompt_tokens(prompt, Sampling(max_new_tokens=1, examples=how.examples))
        left = self.model.context_length - prompt_tokens
        if left < 1:
            raise ContextLengthError(
                f"{how.name}: the prompt has {prompt_tokens} tokens, the window of {self.model.name} {self.model.context_length}",
                hint="choose a recipe that reads in parts, e.g. hybrid > rag or chain_of_agents",
            )
        return prompt_tokens, min(how.max_new_tokens, left)

    def _affordable(self, prompt: Prompt, how: Call) -> Call:
        """The call without its examples, where a token budget has no room for them: passages were packed up to the budget."""
        if self.meter.budget.tokens is None or not how.examples:
            return how
        prompt_tokens, new_tokens = self._size(prompt, how)
        fits = self.meter.allows(prompt_tokens + how.keep.prompt_tokens, new_tokens + how.keep.generated_tokens)
        return how if fits else replace(how, examples=())

    def _allowed(self, prompt_tokens: int, new_tokens: int, how: Call) -> int:
        """New tokens that budget and deadline allow for this call: all, fewer (but a usable answer), or 0."""
        keep = how.keep
        calls_left = 1 + keep.calls
        if self._call_seconds and self.meter.budget.seconds is not None and keep.calls:
            usual = sum(self._call_seconds) / len(self._call_seconds)
            if usual * calls_left > self.meter.seconds_left():
                return self._refuse("the time")
        if self.meter.seconds_left() == 0.0:
            return self._refuse("the time")
        if (limit := self.meter.budget.tokens) is not None:
            left = limit - self.meter.tokens - prompt_tokens - keep.tokens
            new_tokens = min(new_tokens, max(left, min(new_tokens, SHORTEST_ANSWER_TOKENS)))
        for size in (new_tokens, min(new_tokens, SHORTEST_ANSWER_TOKENS)):
            if self.meter.allows(prompt_tokens + keep.prompt_tokens, size + keep.generated_tokens, calls_left):
                return size
        return self._refuse("the budget")

    def _refuse(self, what: str) -> int:
        self.cut_short = True
        self.note(f"{what} ran out after {self.meter.calls} model calls; answered from what had been read by then")
        return 0

    def _sampling(self, how: Call, new_tokens: int) -> Sampling:
        return Sampling(
            max_new_tokens=new_tokens,
            seconds=self.meter.seconds_left(),
            stop=how.stop,
            json_schema=how.json_schema,
            examples=how.examples,
        )

    def _record(self, how: Call, done: Sequence[Completion], seconds: float) -> None:
        for completion in done:
            self.meter.charge(completion.prompt_tokens, completion.generated_tokens, estimated=completion.estimated)
        self._call_seconds += [seconds / len(done)] * len(done)
        if any(c.finish == "deadline" for c in done):
            self.cut_short = True
            self.note("the deadline passed while the model was writing; its text ends there")
        if how.final and any(c.finish == "length" for c in done):
            self.note(f"the answer was cut off at {sum(c.generated_tokens for c in done)} tokens")
        remark = self.model.remark()
        if remark and how.final:
            self.note(remark)
        self._add(
            Step(
                name=how.name,
                calls=len(done),
                tokens_in=sum(c.prompt_tokens for c in done),
                tokens_out=sum(c.generated_tokens for c in done),
                seconds=seconds,
                regions=how.regions,
                note=remark,
            )
        )

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self._listen(Event(kind="step", step=step))
