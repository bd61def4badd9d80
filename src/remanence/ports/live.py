"""What is happening now, for whoever follows it in this process. Nothing behind these doors is truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from remanence.events import Recorded
from remanence.values import Delta, DeltaKind, Write

__all__ = ["Live", "Streaming", "Subscription", "Want"]


Want = Literal["all", "records", "turns", "latest"]
"""What a reader wants to be woken for."""


class Live(Protocol):
    """What is happening now: records as they commit and deltas as they stream. Nothing here is truth."""

    def publish(self, session: str, *items: Recorded | Delta) -> None:
        """Tell everybody who follows this session. Never waits: a slow reader loses deltas, not the writer's time."""

    def subscribe(self, session: str, *, want: Want = "all") -> Subscription:
        """A new reader; it sees what is published from now on, and must be closed.

        `records` leaves out deltas; `turns` does too, and its `take` ends when a turn does (or nobody drives it here);
        `latest` keeps the last of deltas in a row, for whoever looks at `running` for what they say.
        """
        ...

    def driver_of(self, session: str) -> str:
        """The worker of this process that holds the session, so that publishing wakes it; empty when none does."""
        ...

    def foresee(self, write: Write) -> None:
        """A write is about to be queued: a worker of this process that holds its session may plan on it already."""
        ...

    def running(self, session: str) -> Streaming | None:
        """The model call of this session that runs here, or of which another process told, if one does."""
        ...

    def stir(self, session: str) -> None:
        """Let everybody who follows this session look at the journal."""
        ...


class Streaming(Protocol):
    """A model call that streams: what it has said so far, and whether that is all (`answered`)."""

    @property
    def call(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def position(self) -> int:
        """Where its record stands."""
        ...

    @property
    def answered(self) -> bool: ...
    @property
    def parts(self) -> Sequence[tuple[DeltaKind, str]]:
        """The texts and thoughts so far, in the order of the reply."""
        ...

    @property
    def calls(self) -> Sequence[tuple[int, str, str]]:
        """The calls so far: how many of `parts` stand before it, its tool, its arguments."""
        ...


class Subscription(Protocol):
    """One reader of one session's live items."""

    async def take(self, timeout_s: float | None) -> Sequence[Recorded | Delta]:
        """What was published since the last call; waits up to `timeout_s` (None: as long as it is driven here).

        Empty: nothing came, or whoever drove the session in this process has left it; the journal knows.
        """
        ...

    @property
    def waits(self) -> bool:
        """Whether something was published that was not taken yet."""
        ...

    def close(self) -> None: ...
