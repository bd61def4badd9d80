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

from typing import get_args

import msgspec

from remanence.events.calls import (
    ApprovalExpired,
    ApprovalGiven,
    CallJudged,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    TimerFired,
    TimerSet,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
)
from remanence.events.life import (
    BudgetRaised,
    BudgetReached,
    Redacted,
    SessionAnnotated,
    SessionDeleted,
    SessionForked,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    SessionUpgraded,
)
from remanence.events.memories import MemoryForgotten, MemoryKept
from remanence.events.turns import CancelAsked, InputJoined, InputReceived, TurnEnded, TurnStarted
from remanence.events.windows import BlocksShown, CompactionBegun, CompactionFailed, ContextCompacted, MemoryRecalled

__all__ = ["KINDS", "Event", "Recorded"]

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


class Recorded(msgspec.Struct, frozen=True, gc=False):
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

    def __str__(self) -> str:
        """On one line: the position, the kind, and what is not as it is by default. `repr` has everything."""
        usual = {field.name: field.default for field in msgspec.structs.fields(self.event)}
        values = msgspec.structs.asdict(self.event)
        said = ", ".join(f"{name}={value!r}" for name, value in values.items() if value != usual[name])
        return f"#{self.position} {type(self.event).__name__} {said}".rstrip()
