"""Every error that Tokenworks raises for a person to read.

    TokenworksError
    ├── ConfigError              a setting that is unknown, malformed or contradictory
    ├── ModelError
    │   ├── ModelNotFound        no model of this name, or not pulled yet
    │   ├── ModelFileError       a file that is truncated, hostile or not supported
    │   ├── DownloadError        no network, no space, wrong checksum
    │   └── QualityError         a model that was made smaller strays too far from its source
    ├── RequestError             the caller's request cannot be served as it is (HTTP 4xx)
    │   ├── ContextLengthError   more tokens than the model or its memory holds
    │   ├── QueueFullError       too many requests wait; carries `retry_after_s`
    │   ├── DeadlineError        the first token cannot come in time; carries `retry_after_s`
    │   ├── RateError            this caller asks too often; carries `retry_after_s`
    │   ├── BudgetError          this caller's budget does not cover it; carries `retry_after_s`
    │   └── LabelError           no backend that may see this data could answer
    ├── AccessError              whoever asks may not do this (HTTP 403)
    │   └── UnknownCaller        no key, or one that is unknown, expired or revoked (HTTP 401)
    ├── BackendError             another program that should have answered did not
    │   └── BackendLost          it went away in mid-answer; another one can go on
    └── EngineError              the engine worker cannot be started, or computes nonsense
        ├── EngineLost           the worker is gone; what it was answering can be resumed
        └── UnsupportedByKernels the native kernels do not fit this model

A message says what was wrong with which value; `hint` says what to do next, often a command.
"""

from collections.abc import Mapping
from typing import Any


class TokenworksError(Exception):
    """Base of the tree: `str()` gives the message, then `hint: …` on its own line.

    `explained` says in full how it came to this, for whoever administers and for nobody else.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.explained: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class ConfigError(TokenworksError):
    """A setting is unknown, has a bad value or contradicts another."""


class ModelError(TokenworksError):
    """Something about a model."""


class ModelNotFound(ModelError):  # noqa: N818  (reads as the fact it states)
    """No model of this name is known, or it has not been pulled."""


class ModelFileError(ModelError):
    """A model file is truncated, hostile or not supported."""


class DownloadError(ModelError):
    """A model could not be fetched."""


class QualityError(ModelError):
    """A model that was made smaller strays too far from its source."""


class RequestError(TokenworksError):
    """A request that cannot be served as it is. `param` names the field at fault."""

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param


class ContextLengthError(RequestError):
    """Prompt and answer together exceed what the model or its memory holds."""


class QueueFullError(RequestError):
    """Too many requests wait already; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(RequestError):
    """The first token cannot come before the request's deadline; later it may."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, param="deadline_s")
        self.retry_after_s = retry_after_s


class RateError(RequestError):
    """This caller asks more often than it may; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BudgetError(RequestError):
    """What this request may cost is more than is left; after `retry_after_s` seconds more is.

    None: a budget without a period never grows again by itself.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class LabelError(RequestError):
    """No backend that may see data of this label could answer; nothing was sent to any other."""


class AccessError(TokenworksError):
    """Whoever asks is known, and may not do this."""


class UnknownCaller(AccessError):  # noqa: N818  (reads as the fact it states)
    """No key was sent, or one that is unknown, expired or revoked."""


class BackendError(TokenworksError):
    """A backend could not be reached, refused to work, or answered nonsense.

    `retryable`: the same request may succeed elsewhere or later, after `retry_after_s` seconds if
    the backend said so.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        retry_after_s: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class BackendLost(BackendError):  # noqa: N818  (reads as the fact it states)
    """A backend went away in mid-answer. Another one can go on from what was sent."""


class EngineError(TokenworksError):
    """The engine worker cannot be started, or computes nonsense."""


class EngineLost(EngineError):  # noqa: N818  (reads as the fact it states)
    """The engine worker is gone. Another one can resume what it was answering."""


class UnsupportedByKernels(EngineError):  # noqa: N818  (reads as the fact it states)
    """The native kernels do not fit this model; the reference executor may."""
