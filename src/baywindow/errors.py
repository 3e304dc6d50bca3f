"""The one error tree. Every error is one line for a person, plus a hint that says what to do next.

    BayError
    ├── ConfigError            a setting, option or flag has a value it may not have
    ├── RecipeError            a recipe does not parse, or its parts do not fit together
    ├── SourceError            a file, folder or document cannot be used
    ├── IndexStoreError        the stored index cannot be used as it is
    │   └── IndexBusyError     another process is writing it
    ├── MemoryStoreError       a store of memories cannot be used as it is
    │   └── MemoryBusyError    another process is writing it
    ├── ResultsError           a store of bench results cannot be used as it is
    ├── ModelError             a model cannot be found, loaded or reached
    │   ├── EndpointError      a remote model answered wrongly, late or not at all
    │   └── CapabilityError    the model lacks what a technique needs
    ├── ContextLengthError     a prompt does not fit and nothing was asked to make it fit
    ├── BudgetError            the least possible cost exceeds the budget
    ├── MissingExtraError      an optional part of Baywindow is not installed
    └── Interrupted            the person pressed Ctrl-C; what was finished is kept

The CLI prints ``error: MESSAGE`` and ``hint: HINT`` and exits with ``exit_code``; the server maps ``http_status``.
"""

from __future__ import annotations

from typing import ClassVar


class BayError(Exception):
    """Base of all errors that Baywindow raises on purpose."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 400
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders (test workers, Ray); the default drops keyword arguments.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(cls: type[BayError], message: str, hint: str) -> BayError:
    return cls(message, hint=hint)


class ConfigError(BayError):
    """A setting, option or flag has a value it may not have."""

    @classmethod
    def bad_value(cls, field: str, value: object, allowed: str) -> ConfigError:
        """The common form: which field, what it was, what it may be."""
        return cls(f"{field}={value!r} is not allowed", hint=f"{field} must be {allowed}")


class RecipeError(BayError):
    """A recipe does not parse, or its parts do not fit together."""


class SourceError(BayError):
    """A file, folder or document cannot be used."""

    http_status = 422


class IndexStoreError(BayError):
    """The stored index cannot be used as it is."""

    http_status = 409


class IndexBusyError(IndexStoreError):
    """Another process is writing the index."""

    retryable = True


class MemoryStoreError(BayError):
    """A store of memories cannot be used as it is."""

    http_status = 409


class MemoryBusyError(MemoryStoreError):
    """Another process is writing the memory."""

    retryable = True


class ResultsError(BayError):
    """A store of bench results cannot be used as it is."""

    http_status = 409


class ModelError(BayError):
    """A model cannot be found, loaded or reached."""

    http_status = 404


class EndpointError(ModelError):
    """A remote model answered wrongly, late or not at all."""

    http_status = 502
    retryable = True


class CapabilityError(ModelError):
    """The model lacks what a technique needs."""

    http_status = 422


class ContextLengthError(BayError):
    """A prompt does not fit the model's window and nothing was asked to make it fit."""

    http_status = 413


class BudgetError(BayError):
    """The least possible cost exceeds the budget."""

    http_status = 402


class MissingExtraError(BayError):
    """An optional part of Baywindow is not installed."""

    http_status = 501

    @classmethod
    def of(cls, what: str, extra: str) -> MissingExtraError:
        """``what`` needs the packages of the extra named ``extra``."""
        return cls(f"{what} is not installed", hint=f'pip install "baywindow[{extra}]"')


class Interrupted(BayError):  # noqa: N818 - an event, not a fault
    """The person pressed Ctrl-C; what was finished is kept."""

    exit_code = 130
