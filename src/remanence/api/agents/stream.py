"""The events of a session as a stream of the Agents API, from any place on.

A reader that names no place hears how the session stands now, then what happens. One that names the id of its last
event gets exactly what follows it, the past included; that is how a client goes on after a lost connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.api.agents.objects import session_object, session_status
from remanence.api.agents.pieces import Event
from remanence.api.agents.view import Live, SessionView, removed
from remanence.api.lookout import Lookout
from remanence.api.padding import padding
from remanence.api.stream import Batch, Place, event_id, frame, mark_of, watch
from remanence.commands.caller import Caller
from remanence.core.snapshots import decode_snapshot
from remanence.core.state import Session
from remanence.errors import InvalidInput
from remanence.events import ModelReplied, Recorded, TurnEnded
from remanence.ports import Budget, Subscription
from remanence.spec import AgentSpec
from remanence.stores.reading import pages_of

__all__ = ["SessionStream", "StreamChoice", "shown_session"]


class StreamChoice(msgspec.Struct, frozen=True):
    """How a stream is wanted. `until_rest`: it ends when the first turn is over and nothing more is to come."""

    obfuscation: bool = True
    until_rest: bool = False


async def shown_session(caller: Caller, s: Session) -> dict[str, Any]:
    """A session as it is shown."""
    spec = await caller.database.specs.get(s.version)
    return session_object(s, spec, await _budgets_of(caller, s.id))


async def _budgets_of(caller: Caller, session: str) -> Sequence[Budget]:
    return await caller.database.controls.budgets(f"session:{session}")


class SessionStream:
    """One reader of one session. It hears from the moment it is made; `frames` then writes."""

    def __init__(self, caller: Caller, session: str, choice: StreamChoice | None = None) -> None:
        self._caller = caller
        self._session = session
        self._choice = choice or StreamChoice()
        self._reader: Subscription = caller.live.subscribe(session, want="latest")
        self._view = SessionView(Session(session))
        self._place = Place(0, 0)
        self._pending: list[bytes] = []
        self._specs: dict[str, AgentSpec] = {}
        self._budgets: Sequence[Budget] | None = None
        self._over = False

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()

    async def begin(self, place: Place | None) -> None:
        """Go to where the reader is. Raises NotFound, and InvalidInput for a place that is not there."""
        if place is not None and place.mark not in ("", mark_of(self._session)):
            raise InvalidInput(
                f"There is nothing of session {self._session} after {place}: that is the id of an event of another "
                "session. Send back the id of an event of this one, or none to begin with what happens now.",
                param="starting_after",
            )
        store = self._caller.database.store
        loaded = await store.load(self._session)
        head = loaded.records[-1].position if loaded.records else loaded.snapshot_position
        if place is not None and (place.position > head + 1 or (place.position == head + 1 and place.index)):
            raise InvalidInput(
                f"Session {self._session} has {head} records, so nothing can come after {place}. Send back the id of "
                "an event of this session.",
                param="starting_after",
            )
        if place is not None and place.position <= loaded.snapshot_position:
            loaded = await store.load(self._session, upto=place.position - 1)
        past = loaded.records
        snapshot = decode_snapshot(loaded.snapshot, self._session)
        self._view = SessionView(snapshot or Session(self._session))
        start = self._view.s.head
        if start != loaded.snapshot_position or not past or past[-1].position < head:
            pages = pages_of(store, self._session, after=start, upto=head)
            past = [record async for records in pages for record in records]
        await self._catch_up(past, place)

    async def _catch_up(self, past: Sequence[Recorded], place: Place | None) -> None:
        """Take the past in: what the reader knows in silence, the rest as frames to come."""
        first = (
            len(past)
            if place is None
            else next((i for i, r in enumerate(past) if r.position >= place.position), len(past))
        )
        for record in past[:first]:
            await self._hear_missing(record)
            self._view.take(record)
        self._over = place is not None and self._choice.until_rest and self._rests
        if place is None:
            s, self._place = self._view.s, Place(self._view.s.head + 1, 0)
            self._over = s.deleted  # it was removed while its reader came
            stands: Event = {"type": f"agent.session.{session_status(s)}", "session": s}
            event = removed(s.id) if self._over else stands
            self._pending.append(await self._frame(event, self._place, "_now"))
            return
        self._place = place.settled
        if place.call:
            self._view.live = Live(place.call, place.attempt, list(place.sent))
        for record in past[first:]:
            if self._over:
                return
            seen = place.index if record.position == place.position else 0
            self._pending += await self._taken(record, seen)

    async def frames(self, lookout: Lookout) -> AsyncGenerator[Sequence[bytes]]:
        """What to write, in the pieces in which it happens; an empty one when only time has passed."""
        pending, self._pending = self._pending, []
        yield pending
        if self._over:
            return
        after = self._view.s.head
        async for batch in watch(self._caller, self._session, after=after, lookout=lookout, reader=self._reader):
            yield await self._batch(batch)
            if self._over:
                return

    async def _batch(self, batch: Batch) -> list[bytes]:
        self._budgets = None  # what is written together was asked for together
        written: list[bytes] = []
        for record in batch.records:
            if not self._over:
                written += await self._taken(record, 0)
        for event, sent in self._view.preview(batch.preview) if not self._over else ():
            place = replace(sent, position=self._place.position, index=self._place.index)
            written.append(await self._frame(event, place))
        return written

    async def _taken(self, record: Recorded, seen: int) -> list[bytes]:
        """The frames of one record, of whose events the reader has `seen` some."""
        await self._hear_missing(record)
        live = self._view.live
        taken = self._view.take(record)
        written: list[bytes] = []
        for event, left in taken.closed if not seen else ():
            place = replace(left, position=record.position)
            written.append(await self._frame(event, place))
        for number, event in enumerate(taken.events, start=1):
            if number <= seen:
                continue
            self._place = Place(record.position, number)
            if event is not None:
                # Until all of a reply is settled, what was sent live of it still matters.
                more = isinstance(record.event, ModelReplied) and number < len(taken.events)
                sent = live.place(self._place) if live is not None and more else self._place
                written.append(await self._frame(event, sent))
        self._over = self._over or self._is_over(record)
        return written

    def _is_over(self, record: Recorded) -> bool:
        ended = self._choice.until_rest and isinstance(record.event, TurnEnded)
        return self._view.s.deleted or (ended and self._rests)

    @property
    def _rests(self) -> bool:
        """A turn was taken, and nothing more is to come."""
        s = self._view.s
        return s.turns > 0 and s.turn is None and not s.queue

    async def _spec(self, version: str) -> AgentSpec:
        if version not in self._specs:
            self._specs[version] = await self._caller.database.specs.get(version)
        return self._specs[version]

    async def _hear_missing(self, record: Recorded) -> None:
        """What a record refers to and was not read: what was said before, and what the version says of tools."""
        if self._view.wonders(record):
            version = self._view.s.version
            self._view.know(version, await self._spec(version))
        for position in self._view.missing(record):
            for heard in await self._caller.database.store.read(self._session, after=position - 1, limit=1):
                self._view.hear(heard)

    async def _frame(self, event: Event, place: Place, ending: str = "") -> bytes:
        name = event_id(self._session, place) + ending
        data = {**event, "event_id": name}
        state = event.get("session")
        if isinstance(state, Session):
            if self._budgets is None:
                self._budgets = await _budgets_of(self._caller, state.id)
            data["session"] = session_object(state, await self._spec(state.version), self._budgets)
        if self._choice.obfuscation and "delta" in event:
            data["obfuscation"] = padding(event["delta"])
        return frame(event["type"], name, data)
