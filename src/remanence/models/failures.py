"""What can go wrong with a model call, as one of our kinds, with words a person can act on.

A key never stands in a message: what a provider answered is cut to one line, and every key we know is blotted out of
it, because some servers repeat the key they refused. The library is imported at the top: import this module lazily.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
from pydantic_ai import exceptions as lib

from remanence.errors import ModelError, ModelErrorKind

__all__ = ["describe"]

_WORDS_MAX = 500

_WHAT: dict[ModelErrorKind, tuple[str, str]] = {
    "invalid_request": ("refused the request", "Change what it names and send again."),
    "authentication": ("did not accept the key or the account", "Set a valid key and send again."),
    "rate_limited": ("is being asked too often", "The call may be tried again."),
    "overloaded": ("has no room right now", "The call may be tried again."),
    "timeout": ("did not answer in time", "The call may be tried again."),
    "connection": ("could not be reached, or the connection broke", "The call may be tried again."),
    "server": ("failed", "The call may be tried again."),
    "content": ("declined to answer", "Say it differently."),
}


def describe(error: Exception, model: str, secrets: Sequence[str] = ()) -> ModelError:
    """The failure of a call to `model` as a `ModelError`. `secrets` are blotted out of what the provider said."""
    if isinstance(error, ModelError):
        return error
    kind = _kind(error)
    said = _said(error)
    for secret in secrets:
        if secret:
            said = said.replace(secret, "[key]")
    what, then = _WHAT[kind]
    status = f" ({error.status_code})" if isinstance(error, lib.ModelHTTPError) else ""
    words = f"{model} {what}{status}{': ' + said if said else ''}"
    message = f"{words.rstrip('.')}. Everything before this call is kept. {then}"
    retry_after_s = error.retry_after if isinstance(error, lib.ModelAPIError) else None
    return ModelError(message, kind=kind, retry_after_s=retry_after_s, sent=not _never_left(error))


def _never_left(error: Exception) -> bool:
    """Whether the transport says that no connection was made, so that nobody can have read the request."""
    if isinstance(error, lib.ModelConnectionError | lib.ModelTimeoutError):
        return error.phase in ("pool", "connect")
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | ConnectionRefusedError)


def _kind(error: Exception) -> ModelErrorKind:
    match error:
        case lib.ModelRateLimitError():
            return "rate_limited"
        case lib.ModelQuotaExceededError() | lib.ModelAuthenticationError():
            # No money left is like no key: waiting does not help, somebody has to see to the account.
            return "authentication"
        case lib.ModelUnavailableError():
            return "overloaded"
        case lib.ModelRequestTimeout() | lib.ModelTimeoutError() | TimeoutError() | httpx2.TimeoutException():
            return "timeout"
        case lib.ModelConnectionError() | httpx2.TransportError() | ConnectionError():
            return "connection"
        case lib.ContentFilterError():
            return "content"
        case lib.ModelRequestRejectedError() | lib.UserError() | ImportError():
            return "invalid_request"
        case lib.ModelHTTPError(status_code=status):
            return _kind_of_status(status)
        case _:
            # An answer we cannot read, or an error inside a stream that says nothing: another attempt may do better.
            return "server"


def _kind_of_status(status: int) -> ModelErrorKind:
    if status == 408:
        return "timeout"
    if status in (409, 425) or status >= 500:
        return "server"
    return "invalid_request" if status >= 400 else "server"


def _said(error: Exception) -> str:
    """The provider's own sentence, or the library's, on one line."""
    body: Any = getattr(error, "body", None)
    for _ in range(2):
        if isinstance(body, dict):
            body = body.get("error") or body.get("message")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    said = body if isinstance(body, str) and body else _own_words(error)
    line = " ".join(said.split())
    return line if len(line) <= _WORDS_MAX else line[:_WORDS_MAX] + "…"


def _own_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return ""
    if isinstance(error, lib.ModelHTTPError):
        return ""
    message = str(error)
    return message if isinstance(error, lib.ModelAPIError | lib.UserError) else f"{type(error).__name__}: {message}"
