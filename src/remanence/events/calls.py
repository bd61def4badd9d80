"""What an agent does in a turn: model calls, tool calls, and what is asked of people about them.

Which outcome belongs to which intent is drawn at the head of `kinds`.
"""

from __future__ import annotations

from typing import Literal

from remanence.content import Part, Usage
from remanence.events.fact import Fact
from remanence.spec import Replay

__all__ = [
    "ApprovalExpired",
    "ApprovalGiven",
    "CallJudged",
    "ModelCalled",
    "ModelFailed",
    "ModelReplied",
    "QuestionAsked",
    "TimerFired",
    "TimerSet",
    "ToolLost",
    "ToolResolved",
    "ToolReturned",
    "ToolStarted",
]


class ModelCalled(Fact, frozen=True):
    """Intent: a model call is about to leave. Its window is journaled by reference, never copied.

    The window is the turns from `first_turn` on (records `window_from` to this record), without the replies and results
    among the first `skipped` messages after that turn's inputs, plus the instructions and tools of the pinned version.
    Bulky results of records up to `cleared` are shown as a line each; the summary of what came before the window stands
    in the record `compacted_at`, the memory blocks in the record `shown_at`. `opens`: it is sent the tool `open_result`
    besides those of its version. `prompt` is the digest of everything that is sent (of the messages alone in
    `layout` 0, which older releases wrote). `reserved_*` is what the budgets set aside; `user` is whose they are when
    the session has no user of its own (chats that keep nothing).
    """

    call: str
    turn: int
    model: str
    first_turn: int
    window_from: int
    prompt: str
    skipped: int = 0
    attempt: int = 1
    reserved_usd_micros: int = 0
    reserved_tokens: int = 0
    layout: int = 0
    cleared: int = 0
    compacted_at: int = 0
    shown_at: int = 0
    opens: bool = False
    user: str = ""


class ModelReplied(Fact, frozen=True):
    """Outcome: the reply, whole. `cost_usd_micros` is None when no price is known, `service_tier` empty when the
    provider did not say which it used."""

    call: str
    parts: tuple[Part, ...]
    usage: Usage = Usage()
    cost_usd_micros: int | None = None
    stop: str = "stop"
    model: str = ""
    provider_id: str = ""
    service_tier: str = ""


class ModelFailed(Fact, frozen=True):
    """Outcome: no reply. `retry_at` is when the next attempt may leave; None means there will be none.

    `kind` is `lost` when the worker died in mid-call and `cancelled` when the turn was. Where the provider may have
    billed for it, `cost_usd_micros` and `billed_tokens` count the whole reservation; of a reply that came and was not
    what was asked for, what it came to.
    """

    call: str
    kind: str
    message: str
    retry_at: int | None = None
    cost_usd_micros: int | None = None
    billed_tokens: int = 0


class CallJudged(Fact, frozen=True):
    """The policy spoke on one exact call. `rule` says which rule, in words; `expires_at` bounds the wait."""

    call: str
    verdict: Literal["allow", "ask", "deny"]
    arguments: str
    policy: str
    rule: str = ""
    approvers: tuple[str, ...] = ()
    needed: int = 1
    expires_at: int | None = None


class ApprovalGiven(Fact, frozen=True):
    """A person answered one exact call: bound to the digest of its arguments and to the policy; single use."""

    call: str
    decision: Literal["approve", "deny"]
    by: str
    arguments: str
    policy: str
    note: str = ""
    expires_at: int | None = None


class ApprovalExpired(Fact, frozen=True):
    """Nobody answered in time, or the approval ran out before the call could start."""

    call: str


class QuestionAsked(Fact, frozen=True):
    """The agent asked a person (`ask_human`); the turn waits for an input that answers it."""

    call: str
    question: str
    options: tuple[str, ...] = ()


class ToolStarted(Fact, frozen=True):
    """Intent: a tool call is about to leave, under its effect key `session:turn:call`, the same on every attempt.

    `client` marks a call that the client runs over the wire: its outcome comes as a command, not from the worker.
    """

    call: str
    tool: str
    effect_key: str
    replay: Replay
    attempt: int = 1
    approved_by: tuple[str, ...] = ()
    client: bool = False


class ToolReturned(Fact, frozen=True):
    """Outcome: the tool answered. `started` is False when no tool did: the call was refused, or cancelled.

    A result over the limit is cut in `parts`; `blob` is the digest of the whole, `size` its length in bytes.
    `untrusted` marks what came from a tool whose results strangers may have written.
    """

    call: str
    parts: tuple[Part, ...]
    error: bool = False
    started: bool = True
    blob: str | None = None
    size: int | None = None
    untrusted: bool = False


class ToolLost(Fact, frozen=True):
    """Nobody knows what became of a started call. `asked`: so often `reconcile` failed; it is next at `retry_at`."""

    call: str
    effect_key: str
    tool: str
    reason: str
    asked: int = 0
    retry_at: int | None = None


class ToolResolved(Fact, frozen=True):
    """A doubt was settled: it happened with this result, it did not and shall run, or it is given up.

    `by` is a person, or `reconcile` when the tool itself could tell.
    """

    call: str
    outcome: Literal["happened", "run_again", "give_up"]
    by: str
    parts: tuple[Part, ...] = ()
    error: bool = False
    note: str = ""


class TimerSet(Fact, frozen=True):
    """The session sleeps until `due_at`; waiting costs nothing."""

    call: str
    due_at: int


class TimerFired(Fact, frozen=True):
    """The timer of this call came due."""

    call: str
