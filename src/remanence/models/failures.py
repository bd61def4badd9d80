"""What can go wrong with a model call, as one of our kinds, with words a person can act on.

A key never stands in a message: what a provider answered is cut to one line, and every key we know is blotted out of
it, because some servers repeat the key they refused. The library is imported at the top: import this module lazily.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
from pydantic_ai import exceptions as lib

from remanence.errors import ModelError, ModelErrorKind
from remanence.models.no_reply import NoReply, plain_words

__all__ = ["describe"]

_WORDS_MAX = 500
_NOT_THERE = "Check the model's name and, for a server of your own, its `base_url`."

# Places in somebody's source code, and numbers of errors whose words stand beside them.
_SIGNS = re.compile(r"\[SSL: \w+\] |\[Errno -?\d+\] | \(_ssl\.c:\d+\)")

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
    unread = next((cause for cause in _causes(error) if isinstance(cause, NoReply)), None)
    if unread is not None:
        words, then = f"{model} {_blotted(str(unread), secrets)}", unread.then or _WHAT[unread.kind][1]
        return ModelError(f"{words.rstrip('.')}. Everything before this call is kept. {then}", kind=unread.kind)
    kind = _kind(error)
    said = _blotted(_said(error), secrets)
    what, then = _WHAT[kind]
    status = ""
    if isinstance(error, lib.ModelHTTPError):
        status = f" ({error.status_code})"
        then = _NOT_THERE if error.status_code == 404 else then
    words = f"{model} {what}{status}{': ' + said if said else ''}"
    message = f"{words.rstrip('.')}. Everything before this call is kept. {then}"
    return ModelError(message, kind=kind, retry_after_s=_retry_after_s(error), sent=not _never_left(error))


def _retry_after_s(error: Exception) -> float | None:
    """How long the provider asked to wait. The library reads whole seconds and dates; some servers say 1.5."""
    if not isinstance(error, lib.ModelHTTPError) or error.retry_after is not None:
        return error.retry_after if isinstance(error, lib.ModelAPIError) else None
    try:
        asked_s = float((error.headers or {}).get("retry-after", ""))
    except ValueError:
        return None
    return asked_s if 0 <= asked_s < float("inf") else None


def _blotted(said: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if secret:
            said = said.replace(secret, "[key]")
    return said


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it came of; at most ten."""
    at: BaseException | None = error
    for _ in range(10):
        if at is None:
            return
        yield at
        at = at.__cause__ or at.__context__


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
    line = plain_words(said)
    return line if len(line) <= _WORDS_MAX else line[:_WORDS_MAX] + "…"


def _own_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return ""
    if isinstance(error, lib.ModelHTTPError):
        return ""
    if isinstance(error, lib.ModelConnectionError):
        return _why_unreachable(error) or str(error)
    if isinstance(error, lib.UnexpectedModelBehavior):
        return f"what it answered is no reply ({error.message})"
    message = str(error)
    if isinstance(error, lib.ModelAPIError | lib.UserError | ConnectionError | httpx2.HTTPError):
        return message
    return f"what it answered cannot be read ({type(error).__name__}: {message})"


def _why_unreachable(error: BaseException) -> str:
    """What the network said, under the words that the libraries put over it, and which host it was about."""
    found = [cause for cause in _causes(error) if isinstance(cause, httpx2.HTTPError | OSError) and str(cause)]
    if not found or any(isinstance(cause, httpx2.LocalProtocolError) for cause in found):
        # The request could not be written; these words show what it holds, a key perhaps.
        return ""
    request = next((cause.request for cause in found if isinstance(cause, httpx2.RequestError)), None)
    # The innermost says the most, but for the one that says as much of each address that was tried.
    words = _SIGNS.sub("", str(found[-1]))
    return f"{request.url.host}: {words}" if request is not None and request.url.host else words
