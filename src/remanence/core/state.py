"""The state of a session, as values. `core/session.py` folds the journal into it.

State is positions, ids and counters. Content is held only while a turn is open (the arguments of its calls, because
they are about to be judged), so a snapshot, which is taken only between turns, holds none.

The life of a tool call inside a turn (its `state`):

    new -> allowed | asked | refused            CallJudged
    asked -> approved | refused                 ApprovalGiven, ApprovalExpired
    new -> question | sleeping                  QuestionAsked, TimerSet (built-ins)
    allowed | approved -> running               ToolStarted: the intent; an approval is consumed here, not before
    running -> in_doubt                         ToolLost
    in_doubt -> settled | rerun | given_up      ToolResolved
    question | sleeping -> settled              an answering input, TimerFired
    any -> returned                             ToolReturned: the one event that closes a call

A person's word that comes when nothing waits for it (too late, twice, from somebody who was not asked) changes nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from remanence.content import Part, Text, ToolCall, arguments_digest
from remanence.core.ledger import Ledger
from remanence.events import Recalled
from remanence.spec import IfBusy, Replay

__all__ = [
    "CLIENT_EPOCH",
    "Approval",
    "Call",
    "CallState",
    "Compacting",
    "Doubt",
    "ModelStep",
    "Pause",
    "Queued",
    "Session",
    "Turn",
    "Window",
    "calls_of",
    "effect_key",
    "said",
    "status_of",
    "waiting_on",
    "with_call",
]

CLIENT_EPOCH = -1
"""The epoch of a call that the client runs: no worker's death can lose it."""

CallState = Literal[
    "new",
    "allowed",
    "asked",
    "approved",
    "refused",
    "question",
    "sleeping",
    "running",
    "in_doubt",
    "settled",
    "rerun",
    "given_up",
    "returned",
]


class Queued(msgspec.Struct, frozen=True):
    """An accepted input that no turn has taken yet; its content is in the journal at `position`."""

    position: int
    input: str
    if_busy: IfBusy


class Approval(msgspec.Struct, frozen=True):
    """One person's yes: to these arguments, under this policy, until then."""

    by: str
    arguments: str
    policy: str
    expires_at: int | None


class Call(msgspec.Struct, frozen=True):
    """One tool call of the open turn. `epoch` and `position` are those of its last start.

    `erased` marks a call whose arguments were redacted: nothing may start with what is left of them.
    """

    call: str
    name: str
    arguments: str
    digest: str
    state: CallState = "new"
    reason: str = ""
    policy: str = ""
    approvers: tuple[str, ...] = ()
    needed: int = 1
    approvals: tuple[Approval, ...] = ()
    expires_at: int | None = None
    replay: Replay = "never"
    attempt: int = 0
    epoch: int = 0
    position: int = 0
    due_at: int = 0
    result: tuple[Part, ...] = ()
    error: bool = False
    erased: bool = False


class ModelStep(msgspec.Struct, frozen=True):
    """The model call in progress, or the last one that failed."""

    call: str
    attempt: int
    epoch: int
    position: int
    running: bool = True
    retry_at: int | None = None
    failure: str = ""
    reserved_usd_micros: int = 0
    reserved_tokens: int = 0
    version: str = ""
    """The version the session was pinned to when the call left; an upgrade may come before its outcome."""


class Turn(msgspec.Struct, frozen=True):
    """The open turn."""

    number: int
    started_at: int
    position: int
    model_calls: int = 0
    model: ModelStep | None = None
    calls: tuple[Call, ...] = ()
    replied: bool = False
    """The last reply asked for no tool: the turn is complete unless somebody steers it."""
    cancel: str | None = None
    """Who asked for the turn to stop, and why; None when nobody did."""
    happened: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
    """Effect keys of calls that were closed without anybody knowing whether they happened."""
    repeats: tuple[tuple[str, int], ...] = ()
    ran: int = 0
    """How many calls were started here, not by the client."""
    recalled: bool = False
    """The memory was asked what fits the turn's inputs."""


class Compacting(msgspec.Struct, frozen=True):
    """The compaction in progress: a model call beside the turn."""

    call: str
    attempt: int
    epoch: int
    position: int
    through_turn: int
    skipped: int = 0
    reserved_usd_micros: int = 0
    reserved_tokens: int = 0


class Doubt(msgspec.Struct, frozen=True):
    """An effect whose outcome nobody can vouch for. It stays until it is resolved, whatever becomes of its turn.

    `asked`: so often `reconcile` failed, the last time for `failure`; it is asked again at `retry_at` (None: no more).
    """

    call: str
    effect_key: str
    tool: str
    turn: int
    at: int
    reason: str = ""
    asked: int = 0
    retry_at: int | None = None
    failure: str = ""


class Window(msgspec.Struct, frozen=True):
    """Where the context window starts: the first turn in it, the position of its first record, and among how many
    messages of that turn, after its inputs, replies and results are left out (when it alone was over the limit). Bulky
    results of records up to `cleared` are shown as a line each."""

    first_turn: int = 1
    from_position: int = 1
    skipped: int = 0
    cleared: int = 0


class Pause(msgspec.Struct, frozen=True):
    """The budget this session waits for. Amounts in `unit`."""

    scope: str
    unit: Literal["usd_micros", "tokens"]
    limit: int
    used: int
    needed: int
    reason: str = ""


class Session(msgspec.Struct, frozen=True):
    """A session at its position `head`. `at` is when its last record was written."""

    id: str
    agent: str = ""
    version: str = ""
    policy: str = ""
    project: str = "default"
    user: str = ""
    title: str = ""
    metadata: dict[str, str] = {}
    face: dict[str, Any] = {}
    opened_at: int = 0
    head: int = 0
    at: int = 0
    turns: int = 0
    queue: tuple[Queued, ...] = ()
    turn: Turn | None = None
    cancel: str | None = None
    """Who asked the next turn to stop before it began, and why: its input was still queued."""
    frozen: str | None = None
    deleted: bool = False
    window: Window = Window()
    compacted_turn: int = 0
    compacted_at: int = 0
    compacting: Compacting | None = None
    compactions_failed: int = 0
    """How many in a row, since the last one that did not."""
    blocks: tuple[Recalled, ...] = ()
    """The memory blocks in view, by reference; `shown_at` is the position of the record that says so."""
    shown_at: int = 0
    opens: bool = False
    """Whether its calls are sent the tool that opens what the window does not show, once one needed it."""
    ledger: Ledger = Ledger()
    pause: Pause | None = None
    doubts: tuple[Doubt, ...] = ()
    last_turn: str = ""
    last_effect: int = 0
    """Position of the newest intent: the proof a freeze shows."""
    untrusted_at: int = 0
    """Where the session first read what strangers may have written (0: nowhere): what its agent writes after that is
    untrusted, too."""

    def call(self, call: str) -> Call | None:
        """The call of the open turn with this id, or None."""
        return next((c for c in self.turn.calls if c.call == call), None) if self.turn else None


def effect_key(session: Session, call: str) -> str:
    """The name of an effect, the same on every attempt: `session:turn:call`."""
    return f"{session.id}:{session.turns}:{call}"


def calls_of(parts: tuple[Part, ...], *, erased: bool = False) -> tuple[Call, ...]:
    """The calls a reply asks for, new. `erased` when the reply was redacted."""
    return tuple(
        Call(part.call, part.name, part.arguments, arguments_digest(part.name, part.arguments), erased=erased)
        for part in parts
        if isinstance(part, ToolCall)
    )


def waiting_on(s: Session) -> str:
    """What the session waits for that no machine can give it by itself: the empty string when nothing."""
    if s.deleted:
        return ""
    if s.frozen is not None:
        return "thaw"
    if s.pause is not None:
        return "budget"
    return "doubt" if s.doubts else turn_waits_on(s)


def turn_waits_on(s: Session) -> str:
    """What the open turn waits for: the empty string when nothing, whatever is in doubt of an earlier turn."""
    if s.turn is None or not s.turn.calls:
        return ""
    states = {call.state for call in s.turn.calls}
    for state, word in (("in_doubt", "doubt"), ("asked", "approval"), ("question", "answer")):
        if state in states:
            return word
    if any(call.state == "running" and call.epoch == CLIENT_EPOCH for call in s.turn.calls):
        return "client"
    return "timer" if "sleeping" in states else ""


def status_of(s: Session) -> str:
    """The session's status: `idle queued in_progress waiting frozen budget_reached failed deleted`."""
    if s.deleted:
        return "deleted"
    if s.frozen is not None:
        return "frozen"
    if s.pause is not None:
        return "budget_reached"
    if s.turn is None:
        return "queued" if s.queue else ("failed" if s.last_turn == "failed" else "idle")
    return "waiting" if turn_waits_on(s) else "in_progress"


def with_call(turn: Turn, changed: Call) -> Turn:
    """The turn with one call replaced."""
    return replace(turn, calls=tuple(changed if c.call == changed.call else c for c in turn.calls))


def said(text: str) -> tuple[Part, ...]:
    """One text part."""
    return (Text(text),)
