"""Several things that happen to a session at once: all of them, or none.

Each is judged by the session as those before it leave it, and they are journaled in one append on the head that they
were judged by. A session that moved meanwhile refuses it, and they are judged anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from remanence.commands.caller import Bound, Caller, in_line, state_of
from remanence.commands.sessions import Once, tell, told_before
from remanence.core.session import evolve
from remanence.core.state import Session
from remanence.errors import Conflict, KeyReused
from remanence.events import Event, Recorded
from remanence.ports import Appended
from remanence.spec import AgentSpec

__all__ = ["Judged", "together"]

Judged = Callable[[Session, AgentSpec], Event]
"""The fact that something is, in a session of this version as it stands. Raises when it cannot be."""

_TRIES = 64
"""Writers elsewhere that may each be first once: those of this process stand in line."""


async def together(
    caller: Caller,
    session: str,
    *judged: Judged,
    check: Callable[[Session], object] | None = None,
    once: Once | Bound | None = None,
) -> Appended:
    """Let these happen, in order. Under an idempotency key, the same again is what it was.

    `check` is asked about the session as it is before all of them, and raises when none may happen.

    Raises what the first of them raises that cannot be, and Conflict when the session moves all the time; then nothing
    was journaled.
    """
    if (before := await told_before(caller, session, once)) is not None:
        return before
    async with in_line(caller, session):
        for _ in range(_TRIES):
            s = await state_of(caller, session)
            if check is not None:
                check(s)
            events = await _judged(caller, s, judged)
            try:
                return await tell(caller, session, *events, seen=s, once=once)
            except KeyReused:
                raise
            except Conflict:
                continue
    raise Conflict(
        f"Session {session} changed {_TRIES} times while you answered; nothing was recorded. Try again."
    ).because("changed_meanwhile", session=session)


async def _judged(caller: Caller, s: Session, judged: Sequence[Judged]) -> list[Event]:
    """What these come to in a session as it stands, each as those before it leave it."""
    spec, now = await caller.database.specs.get(s.version), caller.clock.now()
    events: list[Event] = []
    for judge in judged:
        events.append(judge(s, spec))
        if len(judged) > 1:
            s = evolve(s, Recorded(s.id, s.head + 1, now, 0, caller.actor, events[-1]))
    return events
