"""Calls that are under way in some sessions, and waiting for their answers.

What was sent cannot be taken back: a model that was asked before an erasure answers after it, perhaps with what was
erased. So an erasure waits for those answers, a little, and erases them as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from remanence.commands.caller import Caller, state_of
from remanence.core.state import CLIENT_EPOCH, Call

__all__ = ["Flight", "calls_after"]

PATIENCE_S: Final = 30.0
LOOK_S: Final = 0.1

Flight = tuple[str, str, int]
"""A session, a call of it, and the attempt."""


async def calls_after(caller: Caller, sessions: Iterable[str]) -> set[Flight]:
    """Wait for the calls that are under way in these sessions now. Returns those that took longer than that."""
    waited_for = await _under_way(caller, sessions)
    left = PATIENCE_S
    while waited_for and left > 0:
        await caller.clock.sleep(LOOK_S)
        left -= LOOK_S
        waited_for &= await _under_way(caller, {session for session, _, _ in waited_for})
    return waited_for


async def _under_way(caller: Caller, sessions: Iterable[str]) -> set[Flight]:
    """The calls of sessions that a worker holds, or held when its lease ran out: until somebody else has claimed such a
    session it may still come back with an answer. One that nobody holds is made again, from what is left."""
    found: set[Flight] = set()
    for session in sessions:
        row = await caller.database.views.session(session)
        if row.lease_until is None:
            continue
        s = await state_of(caller, session)
        steps = () if s.turn is None or s.turn.model is None or not s.turn.model.running else (s.turn.model,)
        calls = () if s.turn is None else tuple(c for c in s.turn.calls if _runs(c))
        begun = () if s.compacting is None else (s.compacting,)
        found |= {(session, one.call, one.attempt) for one in (*steps, *calls, *begun)}
    return found


def _runs(call: Call) -> bool:
    """Whether a tool of ours is at it; what a client runs is answered by an input of its own."""
    return call.state == "running" and call.epoch != CLIENT_EPOCH
