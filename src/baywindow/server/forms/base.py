"""What all request models share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from baywindow.server.errors import ApiError


class Form(BaseModel):
    """Strict types, as in JSON: "5" is no number. Unknown fields are kept, for `unknown_fields` to find."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


def _encodable(text: str) -> str:
    """JSON may hold half a surrogate pair, which no text is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text is not valid Unicode (half a surrogate pair)") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
NewTokens = Annotated[int, Field(ge=1, le=1_000_000)]
Stop = Annotated[list[Text], Field(max_length=4)] | Text
Examples = Annotated[list[Annotated[list[Text], Field(min_length=2, max_length=2)]], Field(max_length=64)]
Metadata = Annotated[dict[str, Text], Field(max_length=16)]


def check_known(form: Form) -> None:
    """Raise the error OpenAI gives for the first field that nobody knows."""
    if (name := next(unknown_fields(form), None)) is not None:
        raise ApiError(400, f"Unknown parameter: '{name}'.", hint="leave it out", param=name, code="unknown_parameter")


def unknown_fields(value: Any, path: str = "") -> Iterator[str]:
    """The paths of fields that no form declares."""
    if isinstance(value, Form):
        for name in value.model_extra or {}:
            yield f"{path}.{name}" if path else name
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from unknown_fields(inner, f"{path}[{i}]")


def refuse(form: Form, neutral: dict[str, tuple[Any, ...]], why: str) -> None:
    """Raise for the first field that is set to anything but nothing or one of its neutral values."""
    for name, values in neutral.items():
        value = getattr(form, name)
        if value not in (None, [], {}) and value not in values:
            raise ApiError(400, f"Unsupported parameter: '{name}' {why}.", hint="leave it out", param=name, code="unsupported_parameter")


def stops(stop: list[str] | str | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def pairs(examples: list[list[str]] | None) -> tuple[tuple[str, str], ...]:
    """(user, assistant) pairs, as `Sampling.examples` has them."""
    return tuple((asked, replied) for asked, replied in examples or ())
