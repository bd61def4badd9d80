"""What is said to an agent, and the turns that answer it."""

from __future__ import annotations

from typing import Literal

from remanence.content import Part
from remanence.events.fact import Fact
from remanence.spec import IfBusy

__all__ = ["CancelAsked", "InputJoined", "InputReceived", "TurnEnded", "TurnStarted"]


class InputReceived(Fact, frozen=True):
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


class TurnStarted(Fact, frozen=True):
    """A turn took the inputs at these positions. Turns are numbered from 1."""

    turn: int
    inputs: tuple[int, ...]


class InputJoined(Fact, frozen=True):
    """An input that arrived during the turn was taken into it (`if_busy=steer`)."""

    turn: int
    position: int


class CancelAsked(Fact, frozen=True):
    """Somebody asked for the running turn to stop. What already happened is reported when it ends."""

    by: str
    reason: str = ""
    turn: int | None = None


class TurnEnded(Fact, frozen=True):
    """The turn is over. `happened` lists the effect keys of tools that ran, `in_doubt` those nobody can vouch for."""

    turn: int
    status: Literal["completed", "failed", "cancelled"]
    reason: str = ""
    happened: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
