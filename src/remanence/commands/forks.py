"""Forks: a new session that shares the past of another one up to a position. Nothing is copied."""

from __future__ import annotations

from msgspec.structs import replace

from remanence.commands.caller import Bound, Caller, body_digest, commit, kept_under, state_in, state_of
from remanence.commands.sessions import Opening, check_opening, limits_of
from remanence.core.session import evolve
from remanence.core.snapshots import encode_snapshot
from remanence.core.state import Session
from remanence.core.summary import summary_of
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.events import Recorded, SessionForked, TurnEnded, TurnStarted
from remanence.ports import Fork, Write

__all__ = ["fork"]

_TRIES = 4
_LOOK_RECORDS, _LOOK_RECORDS_MAX = 8, 2_000
"""Read at a time to tell which turn it is: an ordinary one has about as many, a long one thousands."""


async def fork(
    caller: Caller, source: str, *, position: int | None = None, turn: int | None = None, opening: Opening | None = None
) -> str:
    """A new session that shares `source`'s past up to a position, or to the end of a turn; nothing is copied.

    An open turn is not carried over: the fork starts at rest. Under the opening's key, the same fork again is the same
    session. Raises NotFound, InvalidInput, KeyReused.
    """
    opening = opening or Opening()
    once = None
    if opening.key:
        once = Bound(f"fork:{caller.project}:{opening.key}", body_digest((source, position, turn, opening)))
        if (before := await kept_under(caller, source, key=once.name, digest=once.digest)) is not None:
            return before.records[0].session
    if turn is not None and position is not None:
        raise InvalidInput("Give a turn or a position to fork at, not both. Nothing was made.", param="turn")
    if turn is not None:
        position = await _end_of_turn(caller, source, turn)
    session = opening.session or caller.make_id("sess")
    check_opening(session, opening)
    for _ in range(_TRIES - 1):
        try:
            return await _fork_at(caller, source, position, session, opening, once)
        except Conflict as error:
            if error.reason != "redacted_meanwhile":
                raise
    return await _fork_at(caller, source, position, session, opening, once)


async def _fork_at(
    caller: Caller, source: str, position: int | None, session: str, opening: Opening, once: Bound | None
) -> str:
    seen = (await caller.database.views.session(source)).head if position is not None else None
    past, now = await _state_at(caller, source, position), caller.clock.now()
    forked = SessionForked(source, past.head, opening.title, opening.user, opening.metadata)
    record = Recorded(session, past.head + 1, now, 0, caller.actor, forked)
    state = evolve(replace(past, id=session), record)
    spec = await caller.database.specs.get(state.version)
    write = Write(
        session=session,
        events=(forked,),
        at=now,
        actor=caller.actor,
        expect=past.head,
        limits=limits_of(spec, session, opening.limit),
        summary=summary_of(state, spec),
        snapshot=encode_snapshot(state),
        fork=Fork(source, past.head),
        seen=past.head if seen is None else seen,
    )
    if once is not None:
        write = replace(write, key=once.name, key_digest=once.digest)
    return (await commit(caller, write)).records[0].session


async def _state_at(caller: Caller, session: str, position: int | None) -> Session:
    """The state at a position: from the snapshot before it."""
    if position is None:
        return await state_of(caller, session)
    s = await state_in(caller.database.store, session, upto=position)
    if position != s.head or not position:
        head = (await caller.database.views.session(session)).head
        raise InvalidInput(f"Session {session} has positions 1 to {head}; {position} is not one of them.").because(
            "no_position", session=session, head=head, position=position
        )
    return s


async def _end_of_turn(caller: Caller, session: str, turn: int) -> int:
    """Where a turn ended. Turns are numbered in order, so it is looked for by halves: a few records of each."""
    low, high = 0, (await caller.database.views.session(session)).head
    while high - low > _LOOK_RECORDS:
        middle = (low + high) // 2
        begun = await _next_turn(caller, session, middle)
        low, high = (middle, high) if begun is not None and begun < turn else (low, middle)
    records, limit = await caller.database.store.read(session, after=low, limit=_LOOK_RECORDS), _LOOK_RECORDS
    while records:
        for record in records:
            match record.event:
                case TurnEnded(turn=number) if number == turn:
                    return record.position
                case TurnStarted(turn=number) | TurnEnded(turn=number) if number > turn:
                    raise _no_turn(session, turn)
                case _:
                    pass
        limit = min(2 * limit, _LOOK_RECORDS_MAX)  # a turn may be long
        records = await caller.database.store.read(session, after=records[-1].position, limit=limit)
    raise _no_turn(session, turn)


def _no_turn(session: str, turn: int) -> NotFound:
    words = (
        f"Session {session} has no finished turn {turn}. Nothing was made; `remanence sessions get` counts its turns."
    )
    return NotFound(words).because("no_such_turn", session=session, turn=turn)


async def _next_turn(caller: Caller, session: str, after: int) -> int | None:
    """The turn that begins or ends first after a position, or None."""
    while records := await caller.database.store.read(session, after=after, limit=_LOOK_RECORDS):
        for record in records:
            if isinstance(record.event, TurnStarted | TurnEnded):
                return record.event.turn
        after = records[-1].position
    return None
