"""What is of no use any more is said to be: to whoever speaks to a deleted session, or approves a cancelled call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.runtime.shop import Shop, call, runtime, until

from remanence import Remanence
from remanence.app import Options
from remanence.commands.sessions import delete
from remanence.core.state import waiting_on
from remanence.errors import Conflict, TurnFailed
from remanence.events import SessionAnnotated
from remanence.ports import Appended, Store, Write
from remanence.runtime.around import DatabaseAround


async def test_who_waits_for_a_deleted_session_hears_that_it_is(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        assert await session.send("hello")
        await delete(rt.caller, session.id)
        with pytest.raises(TurnFailed, match="the session was deleted"):
            await asyncio.wait_for(session.send("are you there?"), 10)
        s = await session.state()
        assert (s.turn, s.queue, s.ledger.model_calls) == (None, (), 1)


class Crowded:
    """A store in which somebody else always writes first: something small, and at last the same fact."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.load, self.read, self.claim = store.load, store.read, store.claim
        self.renew, self.release, self.behind, self.wait = store.renew, store.release, store.behind, store.wait

    async def append(self, write: Write) -> Appended:
        small = SessionAnnotated({"at": str(write.expect)}, {}, "bob")
        other = write.events[0] if write.expect is None else small
        await self._store.append(Write(write.session, (other,), write.at, "bob"))
        return await self._store.append(write)


async def test_of_two_who_delete_a_session_that_never_rests_one_is_told(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        database = DatabaseAround(rt.database)
        database.store = Crowded(rt.database.store)
        caller = replace(rt.caller, database=database, states=None)
        with pytest.raises(Conflict, match="was deleted before"):
            await delete(caller, session.id)
        assert (await session.state()).deleted


async def test_a_call_of_a_turn_that_is_being_cancelled_is_not_approved(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        await session.submit(call("refund", order="42", cents=9_000))
        s = await until(session, lambda s: waiting_on(s) == "approval")
        assert s.turn is not None
    url = f"sqlite:///{tmp_path}/shop.db"
    async with Remanence(url, worker=False, options=Options()) as beside:
        session = await beside.get(session.id)
        await session.cancel()
        with pytest.raises(Conflict, match="is being cancelled, so it will not start; your answer was not recorded"):
            await session.approve(s.turn.calls[0].call, by="ada")
