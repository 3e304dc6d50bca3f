"""`POST /v1/completions` and `POST /v1/embeddings`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from baywindow.models.base import LanguageModel, Sampling
from baywindow.server.errors import ApiError
from baywindow.server.forms.base import Form, NewTokens, Seed, Stop, Text, refuse, stops
from baywindow.server.forms.chat import StreamOptions
from baywindow.server.forms.shapes import MOST_CHOICES, unsupported

MOST_PROMPTS = 64
MOST_INPUTS = 2048
DEFAULT_NEW_TOKENS = 16  # OpenAI's, of this older API
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "echo": (False,),
    "logit_bias": (),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
}


class CompletionForm(Form):
    model: Text
    prompt: Text | list[Text] | list[int] | list[list[int]]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: NewTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    logit_bias: dict[str, float] | None = None
    suffix: Text | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    user: Text | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, seconds: float) -> Sampling:
        return Sampling(
            temperature=self.temperature if self.temperature is not None else float(self.choices > 1),
            top_p=self.top_p or 1.0,
            seed=self.seed or 0,
            stop=stops(self.stop),
            seconds=seconds,
            logprobs=self.logprobs,
        )

    @property
    def choices(self) -> int:
        return self.n or 1

    def prompts(self) -> list[str]:
        """The texts to go on from. 400 for token ids (whose tokenizer?)."""
        found = [self.prompt] if isinstance(self.prompt, str) else [p for p in self.prompt if isinstance(p, str)]
        if not found or not all(text.strip() for text in found):
            raise ApiError(
                400, "Invalid value for 'prompt': text, or a list of texts, none of them empty", param="prompt", code="invalid_value"
            )
        if len(found) > MOST_PROMPTS or (self.stream and len(found) > 1):
            most = 1 if self.stream else MOST_PROMPTS
            raise ApiError(400, f"Invalid value for 'prompt': at most {most} here", param="prompt", code="invalid_value")
        return found


def refuse_unsupported(form: CompletionForm, model: LanguageModel) -> None:
    """Raise for what this model, which runs here, cannot follow."""
    refuse(form, _NEUTRAL, "is not supported by a model that runs here")
    if form.best_of not in (None, form.choices):
        raise unsupported("best_of", "the best of more replies than are asked for is not chosen", "leave it out")
    if form.logprobs is not None and not model.scores_replies:
        raise unsupported("logprobs", "this model tells no scores of its replies")
    if form.choices > MOST_CHOICES:
        raise ApiError(400, f"Invalid value for 'n': at most {MOST_CHOICES} here", param="n", code="invalid_value")


class EmbeddingForm(Form):
    model: Text
    input: Text | list[Text] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: Text | None = None

    def texts(self) -> list[str]:
        """400 for token ids, which belong to some other model's tokenizer, and for empty texts."""
        found = [self.input] if isinstance(self.input, str) else [x for x in self.input if isinstance(x, str)]
        if not found or len(found) > MOST_INPUTS or not all(found):
            raise ApiError(
                400,
                f"Invalid value for 'input': a text, or 1 to {MOST_INPUTS} texts, none of them empty",
                hint="send text, not token ids (LangChain: check_embedding_ctx_length=False)",
                param="input",
                code="invalid_value",
            )
        return found
