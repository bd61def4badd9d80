"""Where a turn begins in a journal, by its number.

The journal is ordered, so it is found by halving, in as many short looks as the length of the journal has binary
digits.
"""

from __future__ import annotations

from remanence.commands.caller import Caller
from remanence.core.state import Session
from remanence.errors import NotFound
from remanence.events import TurnStarted

__all__ = ["start_of"]

_GLANCE = 8
_GLANCE_MAX = 512
"""A turn is ordinarily short; in a long one the next beginning is looked for in ever longer steps."""


async def start_of(caller: Caller, s: Session, number: int) -> int:
    """The position of a turn's TurnStarted. Raises NotFound."""
    if s.turn is not None and number == s.turn.number:
        return s.turn.position
    low, high = 0, s.head
    while low <= high:
        middle = (low + high) // 2
        found = await _next_turn(caller, s, middle)
        if found is None or found[0] > number:
            high = middle - 1
        elif found[0] == number:
            return found[1]
        else:
            low = found[1]
    raise NotFound(f"Session {s.id} has no turn {number}.")


async def _next_turn(caller: Caller, s: Session, after: int) -> tuple[int, int] | None:
    """The number and position of the first turn that begins after a position; None when none does."""
    limit = _GLANCE
    while after < s.head:
        records = await caller.database.store.read(s.id, after=after, limit=limit)
        for record in records:
            if isinstance(record.event, TurnStarted):
                return record.event.turn, record.position
        if not records:
            return None
        after, limit = records[-1].position, min(2 * limit, _GLANCE_MAX)
    return None
