"""Put everything into one prompt, in reading order.

Paper: none; the plain baseline that every reader must beat.
Idea: one call sees all the text that fits. What does not fit is left out at the end of the reading order, said and counted. Where
earlier stages chose passages, the lowest-ranked ones are left out first and the rest stands in reading order.
Shapes and units: tokens of the target model; ``max_new_tokens`` is kept free for the answer.
Cost: one call of at most the window.
Errors: ContextLengthError if the question alone fills the window.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.context.base import Reader
from baywindow.context.prompt import pack_one
from baywindow.context.reply import answer, question_frame
from baywindow.context.run import Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.models.base import Prompt
from baywindow.registry import technique


@technique(
    summary="everything in one prompt, in reading order, until the window is full",
    claim="One call over the whole text answers whatever the model can find in its own window.",
)
class Stuff(Reader):
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError.bad_value("max_new_tokens", self.max_new_tokens, "at least 1")

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        def frame(shown: Sequence[Passage]) -> Prompt:
            # Everything given stands in document order; a corpus comes in that order already.
            return question_frame(run, reading_order(shown))

        source = run.corpus.passages() if passages is None else passages
        packed = pack_one(run, source, frame, self.max_new_tokens)
        if packed.left_out_passages:
            tokens = sum(region.tokens for region in packed.left_out)
            run.note(f"{packed.left_out_passages} passages (about {tokens} tokens) did not fit and were left out")
        return answer(run, packed, "stuff", self.max_new_tokens) or ""
