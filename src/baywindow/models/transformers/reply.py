"""One reply as it grows: token ids in, text out, and why it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baywindow.models.base import Completion, Finish, Sampling
from baywindow.models.stopping import Decoder, Stops

Decode = Callable[[Sequence[int]], str]


class Reply:
    """Collects one row of a generation. A reply that nobody reads to its end counts as cancelled."""

    def __init__(
        self, decode: Decode, sampling: Sampling, prompt_tokens: int, eos: frozenset[int], *, plain_stops: Sequence[str] = ()
    ) -> None:
        self._decoder = Decoder(decode)
        self._stops = Stops((*sampling.stop, *plain_stops), strip=bool(plain_stops))
        self._eos = eos
        self._limit = sampling.max_new_tokens
        self.prompt_tokens = prompt_tokens
        self.generated_tokens = 0
        self.finish: Finish = "cancelled"
        self.done = False

    @property
    def remaining(self) -> int:
        """Tokens it may still take."""
        return 0 if self.done else self._limit - self.generated_tokens

    def push(self, token: int) -> str:
        """Take the next token; returns the text that may be shown now. Sets ``done`` when the reply is complete."""
        self.generated_tokens += 1
        if token in self._eos:
            return self.end("stop")
        text = self._stops.push(self._decoder.push(token))
        if self._stops.stopped:
            self.done, self.finish = True, "stop"
            return text
        return text + self.end("length") if self.generated_tokens >= self._limit else text

    def end(self, finish: Finish) -> str:
        """No more tokens come; returns the text that was still held back."""
        self.done, self.finish = True, finish
        text = self._stops.push(self._decoder.flush())
        if self._stops.stopped:
            self.finish = "stop" if finish == "length" else finish
            return text
        return text + self._stops.flush()

    def completion(self, text: str) -> Completion:
        return Completion(text=text, prompt_tokens=self.prompt_tokens, generated_tokens=self.generated_tokens, finish=self.finish)
