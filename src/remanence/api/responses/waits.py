"""What a turn waits for that no machine gives it by itself, as its records tell."""

from __future__ import annotations

from remanence.events import (
    ApprovalExpired,
    ApprovalGiven,
    BudgetRaised,
    BudgetReached,
    CallJudged,
    Event,
    QuestionAsked,
    SessionFrozen,
    SessionThawed,
    TimerFired,
    TimerSet,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
)

__all__ = ["OF_SESSION", "Waits"]

OF_SESSION = BudgetReached | BudgetRaised | SessionFrozen | SessionThawed
"""What holds up a session, whichever turn it is in."""


class Waits:
    """`found` maps a call (or `budget`, `freeze`, `session`) to the word for what it waits for."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def add(self, event: Event) -> bool:
        """Take an event; whether it began or ended a wait."""
        before = dict(self.found)
        match event:
            case CallJudged(call=call, verdict="ask"):
                self.found[call] = "approval"
            case ToolLost(call=call):
                self.found[call] = "doubt"
            case QuestionAsked(call=call):
                self.found[call] = "answer"
            case TimerSet(call=call):
                self.found[call] = "timer"
            case BudgetReached():
                self.found["budget"] = "budget"
            case BudgetRaised():
                self.found.pop("budget", None)
            case SessionFrozen():
                self.found["freeze"] = "thaw"
            case SessionThawed():
                self.found.pop("freeze", None)
            case ApprovalGiven(call=call) | ApprovalExpired(call=call) | ToolStarted(call=call):
                # One yes of several may not be enough; then the call stays where it is until it starts.
                if isinstance(event, ToolStarted | ApprovalExpired) or event.decision == "deny":
                    self.found.pop(call, None)
            case ToolReturned(call=call) | ToolResolved(call=call) | TimerFired(call=call):
                self.found.pop(call, None)
            case _:
                pass
        return self.found != before
