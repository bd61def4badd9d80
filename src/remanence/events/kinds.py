"""Every fact that can be journaled: one closed, flat union.

A session is an append-only journal of these events. They are named in the past tense, and an *intent* (a call that is
about to leave) and its *outcome* share a call id, so a journal that ends after an intent says exactly what is unknown:

    ModelCalled  -> ModelReplied | ModelFailed
    ToolStarted  -> ToolReturned | ToolLost -> ToolResolved
    CallJudged(ask) -> ApprovalGiven* | ApprovalExpired
    QuestionAsked -> InputReceived(answers=call)
    TimerSet     -> TimerFired
    CompactionBegun -> ContextCompacted | CompactionFailed
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from remanence.content import Part, Usage
from remanence.events.windows import (
    BlocksShown,
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    MemoryRecalled,
)
from remanence.spec import IfBusy, Replay

__all__ = [
    "KINDS",
    "ApprovalExpired",
    "ApprovalGiven",
    "BlocksShown",
    "BudgetRaised",
    "BudgetReached",
    "CallJudged",
    "CancelAsked",
    "CompactionBegun",
    "CompactionFailed",
    "ContextCompacted",
    "Event",
    "InputJoined",
    "InputReceived",
    "MemoryForgotten",
    "MemoryKept",
    "MemoryRecalled",
    "ModelCalled",
    "ModelFailed",
    "ModelReplied",
    "QuestionAsked",
    "Recorded",
    "Redacted",
    "SessionAnnotated",
    "SessionDeleted",
    "SessionForked",
    "SessionFrozen",
    "SessionOpened",
    "SessionThawed",
    "SessionUpgraded",
    "TimerFired",
    "TimerSet",
    "ToolLost",
    "ToolResolved",
    "ToolReturned",
    "ToolStarted",
    "TurnEnded",
    "TurnStarted",
]


class _Fact(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, forbid_unknown_fields=True):
    """Root of the events: the tag is the class name, defaults are not written, unknown fields are not passed over."""


# --- sessions ---------------------------------------------------------------------------------------------------------


class SessionOpened(_Fact, frozen=True):
    """A session began. It pins the version and the policy it will keep until somebody asks for an upgrade.

    `face` is what the wire format that opened it wants to see again and the runtime does not act on.
    """

    agent: str
    version: str
    policy: str
    project: str = "default"
    user: str = ""
    title: str = ""
    metadata: dict[str, str] = {}
    face: dict[str, Any] = {}


class SessionForked(_Fact, frozen=True):
    """A session began as a copy of `source` up to and including `position`; nothing was copied."""

    source: str
    position: int
    title: str = ""
    user: str = ""
    metadata: dict[str, str] = {}


class SessionUpgraded(_Fact, frozen=True):
    """Somebody asked this session to go on with another version or policy of its agent."""

    version: str
    policy: str
    by: str = ""


class SessionAnnotated(_Fact, frozen=True):
    """Somebody changed what the session carries along: `metadata` and `face` replace what was there, whole."""

    metadata: dict[str, str] = {}
    face: dict[str, Any] = {}
    by: str = ""


class SessionDeleted(_Fact, frozen=True):
    """Somebody removed the session: its turn ends, nothing starts in it any more, and no face shows it."""

    by: str
    reason: str = ""


class SessionFrozen(_Fact, frozen=True):
    """No new effect starts in this session until it is thawed. Inputs are still accepted and kept."""

    by: str
    reason: str = ""


class SessionThawed(_Fact, frozen=True):
    """The freeze of this session was lifted."""

    by: str
    reason: str = ""


# --- inputs and turns -------------------------------------------------------------------------------------------------


class InputReceived(_Fact, frozen=True):
    """Somebody said something. `input` is unique in the session; `answers` names the question it answers, if any.

    Of a long text the model is shown the first `shown` bytes (0: all), and can open the rest. `messages` says how many
    of the parts each message has, when somebody said several at once.
    """

    input: str
    parts: tuple[Part, ...]
    user: str = ""
    if_busy: IfBusy = "queue"
    answers: str | None = None
    shown: int = 0
    messages: tuple[int, ...] = ()


class TurnStarted(_Fact, frozen=True):
    """A turn took the inputs at these positions. Turns are numbered from 1."""

    turn: int
    inputs: tuple[int, ...]


class InputJoined(_Fact, frozen=True):
    """An input that arrived during the turn was taken into it (`if_busy=steer`)."""

    turn: int
    position: int


class CancelAsked(_Fact, frozen=True):
    """Somebody asked for the running turn to stop. What already happened is reported when it ends."""

    by: str
    reason: str = ""
    turn: int | None = None


class TurnEnded(_Fact, frozen=True):
    """The turn is over. `happened` lists the effect keys of tools that ran, `in_doubt` those nobody can vouch for."""

    turn: int
    status: Literal["completed", "failed", "cancelled"]
    reason: str = ""
    happened: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()


# --- model calls ------------------------------------------------------------------------------------------------------


class ModelCalled(_Fact, frozen=True):
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


class ModelReplied(_Fact, frozen=True):
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


class ModelFailed(_Fact, frozen=True):
    """Outcome: no reply. `retry_at` is when the next attempt may leave; None means there will be none.

    `kind` is `lost` when the worker died in mid-call and `cancelled` when the turn was. Where the provider may have
    billed for it, `cost_usd_micros` and `billed_tokens` count the whole reservation.
    """

    call: str
    kind: str
    message: str
    retry_at: int | None = None
    cost_usd_micros: int | None = None
    billed_tokens: int = 0


# --- judgements, approvals, questions ---------------------------------------------------------------------------------


class CallJudged(_Fact, frozen=True):
    """The policy spoke on one exact call. `rule` says which rule, in words; `expires_at` bounds the wait."""

    call: str
    verdict: Literal["allow", "ask", "deny"]
    arguments: str
    policy: str
    rule: str = ""
    approvers: tuple[str, ...] = ()
    needed: int = 1
    expires_at: int | None = None


class ApprovalGiven(_Fact, frozen=True):
    """A person answered one exact call: bound to the digest of its arguments and to the policy; single use."""

    call: str
    decision: Literal["approve", "deny"]
    by: str
    arguments: str
    policy: str
    note: str = ""
    expires_at: int | None = None


class ApprovalExpired(_Fact, frozen=True):
    """Nobody answered in time, or the approval ran out before the call could start."""

    call: str


class QuestionAsked(_Fact, frozen=True):
    """The agent asked a person (`ask_human`); the turn waits for an input that answers it."""

    call: str
    question: str
    options: tuple[str, ...] = ()


# --- tool calls -------------------------------------------------------------------------------------------------------


class ToolStarted(_Fact, frozen=True):
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


class ToolReturned(_Fact, frozen=True):
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


class ToolLost(_Fact, frozen=True):
    """Nobody knows what became of a started call. `asked`: so often `reconcile` failed; it is next at `retry_at`."""

    call: str
    effect_key: str
    tool: str
    reason: str
    asked: int = 0
    retry_at: int | None = None


class ToolResolved(_Fact, frozen=True):
    """A doubt was settled: it happened with this result, it did not and shall run, or it is given up.

    `by` is a person, or `reconcile` when the tool itself could tell.
    """

    call: str
    outcome: Literal["happened", "run_again", "give_up"]
    by: str
    parts: tuple[Part, ...] = ()
    error: bool = False
    note: str = ""


# --- memory, timers, budgets, redaction ----------------------------------------------------------------------


class MemoryKept(_Fact, frozen=True):
    """A long-lived fact was written to a memory store: a version of a note, or of a block.

    `scope` is `project`, `agent:NAME`, `user:ID` or `session:ID`. It was learned from record `source` of
    `source_session` (empty: of this session). `supersedes` names the memory it takes the place of; `follows` the one
    that was true until this one was. Validity in microseconds since 1970: `valid_from` to `valid_to` in the world,
    until `expires_at` in the memory. `untrusted` when its writer had read what strangers may have written. `name` is
    that of a block, `by` who wrote it.
    """

    store: str
    memory: str
    text: str
    source: int | None = None
    subjects: tuple[str, ...] = ()
    supersedes: str | None = None
    follows: str | None = None
    scope: str = "project"
    kind: Literal["note", "block"] = "note"
    version: int = 1
    name: str = ""
    valid_from: int | None = None
    valid_to: int | None = None
    expires_at: int | None = None
    untrusted: bool = False
    source_session: str = ""
    by: str = ""


class MemoryForgotten(_Fact, frozen=True):
    """A memory was withdrawn: it is recalled no more. Its versions stay in the history until they are erased."""

    store: str
    memory: str
    by: str
    reason: str = ""


class TimerSet(_Fact, frozen=True):
    """The session sleeps until `due_at`; waiting costs nothing."""

    call: str
    due_at: int


class TimerFired(_Fact, frozen=True):
    """The timer of this call came due."""

    call: str


class BudgetReached(_Fact, frozen=True):
    """A reservation would have overshot `limit`; the session pauses. Amounts in `unit` (`usd_micros` or `tokens`).

    `reason` says so when the call could not be reserved at all, because no price is known for its model.
    """

    scope: str
    unit: Literal["usd_micros", "tokens"]
    limit: int
    used: int
    needed: int
    reason: str = ""


class BudgetRaised(_Fact, frozen=True):
    """A budget this session waited for was raised; it may go on."""

    scope: str
    unit: Literal["usd_micros", "tokens"]
    limit: int
    by: str


class Redacted(_Fact, frozen=True):
    """The content of the record at `position` was erased; its digest stays, so the chain still verifies.

    `seal` (64 hexadecimal digits) stands for all that is left there: see `events/sealing.py`.
    """

    position: int
    by: str
    reason: str = ""
    seal: str = ""


Event = (
    SessionOpened
    | SessionForked
    | SessionUpgraded
    | SessionAnnotated
    | SessionDeleted
    | SessionFrozen
    | SessionThawed
    | InputReceived
    | TurnStarted
    | InputJoined
    | CancelAsked
    | TurnEnded
    | ModelCalled
    | ModelReplied
    | ModelFailed
    | CallJudged
    | ApprovalGiven
    | ApprovalExpired
    | QuestionAsked
    | ToolStarted
    | ToolReturned
    | ToolLost
    | ToolResolved
    | MemoryRecalled
    | BlocksShown
    | CompactionBegun
    | CompactionFailed
    | ContextCompacted
    | MemoryKept
    | MemoryForgotten
    | TimerSet
    | TimerFired
    | BudgetReached
    | BudgetRaised
    | Redacted
)

KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
"""Every kind of event by its name on disk."""


class Recorded(msgspec.Struct, frozen=True):
    """One journaled fact. Positions count from 1 in each session; `at` is microseconds since 1970-01-01 UTC.

    `epoch` is that of the lease it was written under (0: written without one, by a command); `digest` is 32 bytes.
    """

    session: str
    position: int
    at: int
    epoch: int
    actor: str
    event: Event
    digest: bytes = b""
    redacted: bool = False
