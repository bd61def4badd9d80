"""A turn that begins with an input on its way into the journal: one commit less, and never on one that is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from msgspec.structs import replace
from tests.runtime.shop import until

from remanence import Agent, Remanence
from remanence.app import Options, Session, open_database
from remanence.commands import sessions
from remanence.commands.caller import commit, state_of
from remanence.content import Text
from remanence.errors import Conflict, InvalidInput
from remanence.events import InputReceived, ModelCalled, SessionAnnotated, TurnEnded, TurnStarted, kind_of
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import Appended, Database, ModelReply, ModelRequest, Store, Write
from remanence.runtime.services import Times

AGENT = Agent("echo", model="scripted", instructions="Repeat.")
LONG = Times(linger_s=60.0)


def echo(request: ModelRequest) -> ModelReply:
    """Says what it heard."""
    return ModelReply((Text(f"heard {last_user_text(request)}"),))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of either kind."""
    kind: Literal["sqlite", "postgres"] = request.param
    return f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else request.getfixturevalue("postgres_database")


class Watched:
    """A store that writes down what was queued before what had landed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.queued: list[Write] = []
        self.ahead: list[int] = []
        self._landed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, write: Write) -> Appended:
        self.ahead.append(len(self.queued) - self._landed)
        self.queued.append(write)
        try:
            return await self._store.append(write)
        finally:
            self._landed += 1


class WatchedDatabase:
    """A database whose store is watched."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.store = Watched(database.store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


async def rested(rt: Remanence) -> Session:
    """A session after its first turn, held by the worker."""
    session = await rt.open(AGENT)
    assert await session.send("one") == "heard one"
    return session


async def test_the_first_intent_of_a_turn_is_queued_before_its_input_has_landed(url: str) -> None:
    inner = await open_database(url)
    database = WatchedDatabase(inner)
    options = Options(model=Scripted(echo), times=LONG, database=cast("Database", database))
    async with Remanence(url, options=options) as rt:
        session = await rested(rt)
        before = len(database.store.queued)
        assert await session.send("two") == "heard two"
        said, begun, ended = database.store.queued[before:]
        assert isinstance(said.events[0], InputReceived)
        assert [kind_of(event) for event in begun.events] == ["TurnStarted", "ModelCalled"]
        assert isinstance(ended.events[-1], TurnEnded)
        assert database.store.ahead[before:] == [0, 1, 0]
        history = await session.history()
        assert begun.follows == next(r.digest for r in reversed(history) if isinstance(r.event, InputReceived))
        assert [r.position for r in history] == list(range(1, len(history) + 1))
    await inner.close()


async def test_many_inputs_in_a_row_are_all_answered_in_order(url: str) -> None:
    async with Remanence(url, options=Options(model=Scripted(echo), times=LONG)) as rt:
        session = await rested(rt)
        for number in range(20):
            assert await session.send(f"number {number}") == f"heard number {number}"
        await asyncio.gather(*(session.submit(f"at once {n}") for n in range(8)))
        events = [record.event for record in await session.history()]
        said = [event for event in events if isinstance(event, InputReceived)]
        assert len(said) == 29
        await until(session, lambda s: s.turn is None and not s.queue)
        started = [event for record in await session.history() if isinstance(event := record.event, TurnStarted)]
        assert len({position for event in started for position in event.inputs}) == 29


async def test_no_turn_begins_with_an_input_that_was_refused(url: str) -> None:
    """Another process is faster, and its record stands where the input would have: the turn is not built on that."""
    async with Remanence(url, options=Options(model=Scripted(echo), times=LONG)) as rt:
        session = await rested(rt)
        seen = await state_of(rt.caller, session.id)
        there = await open_database(url)
        note = SessionAnnotated({"by": "another"}, {}, "another")
        await there.store.append(Write(session.id, (note,), rt.caller.clock.now(), "another"))
        await there.close()
        with pytest.raises(Conflict):
            await sessions.send(replace(rt.caller, states=None), seen, "built on an old state")
        await asyncio.sleep(0.2)
        events = [record.event for record in await session.history()]
        assert sum(isinstance(event, TurnStarted) for event in events) == 1
        assert sum(isinstance(event, ModelCalled) for event in events) == 1
        assert await session.send("two") == "heard two"


async def test_an_input_that_is_sent_again_under_its_key_begins_nothing(url: str) -> None:
    async with Remanence(url, options=Options(model=Scripted(echo), times=LONG)) as rt:
        session = await rested(rt)
        first = await session.submit("two", key="k")
        await until(session, lambda s: s.turns == 2 and s.turn is None)
        again = await session.submit("two", key="k")
        assert again.replayed
        assert again.head == first.head
        assert await session.send("three") == "heard three"
        assert (await session.state()).turns == 3


async def test_an_input_under_a_freeze_is_accepted_and_begins_nothing(url: str) -> None:
    async with Remanence(url, options=Options(model=Scripted(echo), times=Times(linger_s=60.0, held_s=0.5))) as rt:
        session = await rested(rt)
        await rt.freeze("all", reason="look")
        accepted = await session.submit("while frozen")
        await asyncio.sleep(0.2)
        events = [record.event for record in await session.history()]
        assert any(isinstance(event, InputReceived) and event.parts == (Text("while frozen"),) for event in events)
        assert sum(isinstance(event, ModelCalled) for event in events) == 1
        await rt.thaw("all")
        await until(session, lambda s: s.turns == 2 and s.turn is None)
        started = [event for record in await session.history() if isinstance(event := record.event, TurnStarted)]
        assert accepted is not None
        assert len(started) == 2


async def test_an_input_that_no_journal_can_hold_is_refused_and_the_session_goes_on(url: str) -> None:
    async with Remanence(url, options=Options(model=Scripted(echo), times=LONG)) as rt:
        session = await rested(rt)
        with pytest.raises(Exception, match="surrogate"):
            await session.submit("half a \ud800 character")
        odd: list[Any] = [object(), 2**70, "\ud800", 3]
        for text in odd:
            event = InputReceived("in_odd", (Text(text),), user="ada")
            with pytest.raises(InvalidInput):
                await commit(rt.caller, Write(session.id, (event,), rt.caller.clock.now(), "ada", wake=True))
        assert await session.send("two") == "heard two"
