"""The error tree. Every message says what happened, what was kept, and what to do next.

RemanenceError                      anything we raise on purpose
├── InvalidInput                    the request is wrong; nothing was written               400  exit 2
│   ├── InvalidConfig               a settings file, variable or option is wrong            400  exit 2
│   ├── InvalidSpec                 an agent, tool or rule cannot mean what it says         400  exit 2
│   ├── Unsupported                 it asks for what this release does not do               400  exit 2
│   ├── TooLarge                    an input is over the configured size                    413  exit 2
│   └── UnknownEvent                a journal written by a newer release                    400  exit 1
├── AccessDenied                    who asks may not do this                                403  exit 1
│   └── Unauthenticated             no key, or one that is wrong, revoked or past its time  401  exit 1
├── RateLimited                     too many requests; wait `retry_after_s`                 429  exit 1
├── NotFound                        no such agent, session, version, call, model            404  exit 3
│   └── NotAvailable                part of a wire format that this release does not serve  404  exit 3
├── Conflict                        it is there already, or somebody else was first         409  exit 4
│   ├── Busy                        the session is in a turn and `if_busy` is `reject`      409  exit 4
│   ├── Fenced                      this worker lost its lease; its append was refused      409  exit 4
│   ├── Frozen                      a freeze stands; no effect may start                    409  exit 4
│   └── KeyReused                   an idempotency key came back with another body          409  exit 4
├── BudgetExceeded                  the reservation would overshoot; the session pauses     402  exit 5
├── StoreError                      the database                                            503  exit 1
│   ├── StoreUnavailable            gone, locked or unreachable; worth trying again         503  exit 1
│   │   └── StoreReadOnly           it can be read here, and not written                    503  exit 1
│   ├── StoreFull                   no space left; nothing of this write was kept           507  exit 1
│   └── StoreCorrupt                the file or a chain of digests is damaged               500  exit 1
├── McpUnreachable                  an MCP server did not say which tools it has            424  exit 1
├── ModelError                      a model call failed (kind, retryable, retry_after_s)    502  exit 1
├── TurnFailed                      a turn somebody waited for failed, or was cancelled     502  exit 1
└── ToolError                       a tool said no; the model reads the message             -    -
    └── EffectInDoubt               a tool cannot know whether its effect happened          -    -
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

__all__ = [
    "AccessDenied",
    "BudgetExceeded",
    "Busy",
    "Conflict",
    "EffectInDoubt",
    "Fenced",
    "Frozen",
    "InvalidConfig",
    "InvalidInput",
    "InvalidSpec",
    "KeyReused",
    "McpUnreachable",
    "ModelError",
    "ModelErrorKind",
    "NotAvailable",
    "NotFound",
    "RateLimited",
    "RemanenceError",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreUnavailable",
    "ToolError",
    "TooLarge",
    "TurnFailed",
    "Unauthenticated",
    "UnknownEvent",
    "Unsupported",
    "no_room",
    "plain_words",
]

_PLAIN = {
    "`str`": "a text",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
    "`null`": "nothing",
    "Invalid enum value": "there is no choice",
    "Invalid value": "there is no choice",
    "Object missing required field": "there has to be a field",
    "Object contains unknown field": "there is no field",
    " | ": " or ",
}


def plain_words(message: str) -> str:
    """What a decoder says of a value (`Expected `int`, got `str` - at `$.a``), for people who write settings."""
    what, _, path = message.partition(" - at `$")
    for technical, plain in _PLAIN.items():
        what = what.replace(technical, plain)
    what, path = what[:1].lower() + what[1:], path.removesuffix("`").removeprefix(".")
    return f"{what} (at `{path}`)" if path else what


def no_room(error: OSError) -> bool:
    """Whether the system refused to write because there is no space left, or no more of it allowed."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RemanenceError(Exception):
    """Root of the tree. `code` is stable and machine-readable; `status` is HTTP; `exit_code` is the command line's."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.reason = ""
        self.values: Mapping[str, object] = {}

    def because(self, reason: str, **values: object) -> Self:
        """Name the sentence: `reason` and what it is filled with, so that a face may say it in another language."""
        self.reason, self.values = reason, values
        return self


class InvalidInput(RemanenceError):
    """The request is wrong; nothing was written. `param` is the path of the field, when there is one."""

    code = "invalid_input"
    status = 400
    exit_code = 2


class InvalidConfig(InvalidInput):
    """A settings file, an environment variable or an option is wrong."""

    code = "invalid_config"


class InvalidSpec(InvalidInput):
    """An agent, a tool or a rule cannot mean what it says."""

    code = "invalid_spec"


class Unsupported(InvalidInput):
    """It asks for something that this release does not do, and will not pretend to. Nothing was written."""

    code = "unsupported"


class TooLarge(InvalidInput):
    """An input is over the configured size. Nothing was written."""

    code = "too_large"
    status = 413


class UnknownEvent(InvalidInput):
    """A record of a kind this release does not know: the journal was written by a newer one. It was left untouched."""

    code = "unknown_event"
    exit_code = 1


class NotFound(RemanenceError):
    """No such agent, session, version, call, approval or model."""

    code = "not_found"
    status = 404
    exit_code = 3


class NotAvailable(NotFound):
    """A part of a wire format that this release does not serve. Nothing was done, and nothing is pretended."""

    code = "not_available"


class AccessDenied(RemanenceError):
    """Who asks is known, and may not do this. Nothing was done."""

    code = "access_denied"
    status = 403


class Unauthenticated(AccessDenied):
    """There is no key, or it is wrong, revoked or past its time. Nothing was done."""

    code = "invalid_api_key"
    status = 401


class RateLimited(RemanenceError):
    """Too many requests with one key. Nothing was done; it may be asked again after `retry_after_s`."""

    code = "rate_limit_exceeded"
    status = 429

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Conflict(RemanenceError):
    """Somebody else was first. Nothing of this write was kept; read again and decide again."""

    code = "conflict"
    status = 409
    exit_code = 4


class Busy(Conflict):
    """The session is in a turn and the input said `if_busy=reject`."""

    code = "busy"


class Fenced(Conflict):
    """This worker lost its lease: another one has the session now. Its append was refused."""

    code = "fenced"


class Frozen(Conflict):
    """A freeze stands over this session, its agent or everything: no effect may start until the thaw."""

    code = "frozen"


class KeyReused(Conflict):
    """An idempotency key came back with another body. The first request stands."""

    code = "idempotency_key_reused"


class BudgetExceeded(RemanenceError):
    """A reservation would overshoot a budget; nothing was written. `scope`, `unit` and amounts tell which."""

    code = "budget_exceeded"
    status = 402
    exit_code = 5

    def __init__(self, message: str, *, scope: str, unit: str, limit: int, used: int, needed: int) -> None:
        super().__init__(message)
        self.scope = scope
        self.unit = unit
        self.limit = limit
        self.used = used
        self.needed = needed


class StoreError(RemanenceError):
    """The database could not do what was asked."""

    code = "store_error"
    status = 503


class StoreUnavailable(StoreError):
    """The database is gone, locked or unreachable. What was acknowledged is kept; the rest may be tried again."""

    code = "store_unavailable"


class StoreReadOnly(StoreUnavailable):
    """The database can be read here, and not written. Nothing of this write was kept."""

    code = "store_read_only"


class StoreFull(StoreError):
    """No space is left. Nothing of this write was kept; everything acknowledged before is."""

    code = "store_full"
    status = 507


class StoreCorrupt(StoreError):
    """The database file, a record or a chain of digests is damaged."""

    code = "store_corrupt"
    status = 500


class McpUnreachable(RemanenceError):
    """An MCP server could not be reached, or did not say which tools it has. Nothing was run."""

    code = "mcp_unreachable"
    status = 424


ModelErrorKind = Literal[
    "invalid_request", "authentication", "rate_limited", "overloaded", "timeout", "connection", "server", "content"
]
_RETRYABLE: frozenset[str] = frozenset({"rate_limited", "overloaded", "timeout", "connection", "server"})
_MAYBE_BILLED: frozenset[str] = frozenset({"timeout", "connection"})


class ModelError(RemanenceError):
    """A model call failed. `retry_after_s` is what the provider asked for, when it did.

    `sent` is False when the request is known not to have left: the connection was never made.
    """

    code = "model_error"
    status = 502

    def __init__(
        self, message: str, *, kind: ModelErrorKind, retry_after_s: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.kind: ModelErrorKind = kind
        self.retry_after_s = retry_after_s
        self.sent = sent

    @property
    def maybe_billed(self) -> bool:
        """Whether the provider may have answered, and send a bill, although nothing of it arrived."""
        return self.sent and self.kind in _MAYBE_BILLED

    @property
    def retryable(self) -> bool:
        return self.kind in _RETRYABLE


class TurnFailed(RemanenceError):
    """A turn that was waited for in Python ended without its final text: it failed, or was cancelled (`ended`).

    `cause` is the journal's reason, `said` what the model had said in the turn until then. The session goes on with the
    next input.
    """

    code = "turn_failed"
    status = 502

    def __init__(
        self, message: str, *, turn: int, ended: Literal["failed", "cancelled"], cause: str, said: str
    ) -> None:
        super().__init__(message)
        self.turn = turn
        self.ended: Literal["failed", "cancelled"] = ended
        self.cause = cause
        self.said = said


class ToolError(RemanenceError):
    """A tool said no. Raise it in a tool to give the model a message without a traceback."""

    code = "tool_error"


class EffectInDoubt(ToolError):
    """A tool cannot know whether its effect happened: the connection broke after the request left, say.

    Raise it in a tool. The effect is put in doubt, as if the worker had died there, unless the tool is `safe`.
    """

    code = "effect_in_doubt"
