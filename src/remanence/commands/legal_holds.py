"""Legal holds: what nobody may erase until the hold is lifted. An order that touches any of it is refused whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from remanence.commands.caller import Caller
from remanence.commands.entries import entries_of
from remanence.errors import InvalidInput, NotFound
from remanence.ports import Entry

__all__ = ["HOLD_KIND", "LegalHold", "hold", "holds", "unhold"]

HOLD_KIND: Final = "legal_hold"


class LegalHold(msgspec.Struct, frozen=True):
    """Nothing under `scope` may be erased: `project`, `user:ID`, `session:ID`, `subject:NAME` or `memory:ID`."""

    scope: str
    by: str
    reason: str
    at: int


async def hold(caller: Caller, scope: str, *, reason: str) -> LegalHold:
    """Keep everything under a scope from being erased until the hold is lifted."""
    kind, _, name = scope.partition(":")
    if (kind == "project") == bool(name) or kind not in ("project", "user", "session", "subject", "memory"):
        raise InvalidInput(
            f"{scope!r} is not something to hold. Use project, user:ID, session:ID, subject:NAME or memory:ID. Nothing "
            "was changed.",
            param="scope",
        )
    now = caller.clock.now()
    kept = LegalHold(scope, caller.actor, reason, now)
    entry = Entry(HOLD_KIND, caller.project, _hold_id(caller, scope), now, now, msgspec.json.encode(kept))
    await caller.database.registry.put(entry)
    return kept


async def unhold(caller: Caller, scope: str) -> LegalHold:
    """Lift a legal hold; returns it. Raises NotFound when none stands."""
    registry = caller.database.registry
    try:
        entry = await registry.get(HOLD_KIND, _hold_id(caller, scope))
        await registry.remove(HOLD_KIND, entry.id)
        return msgspec.json.decode(entry.body, type=LegalHold)
    except NotFound:
        raise NotFound(f"No legal hold stands over {scope}. `remanence memory holds` shows those there are.") from None


async def holds(caller: Caller) -> Sequence[LegalHold]:
    """The legal holds that stand in the caller's project."""
    return [
        msgspec.json.decode(e.body, type=LegalHold) for e in await entries_of(caller, HOLD_KIND, project=caller.project)
    ]


def _hold_id(caller: Caller, scope: str) -> str:
    return f"{caller.project}/{scope}"
