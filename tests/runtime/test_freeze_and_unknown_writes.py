"""What may not leave any more by the time its intent is durable: a freeze came meanwhile, or the lease ran out."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.runtime.shop import FAST, Shop, call, script, until

from remanence import Agent, Remanence, tool
from remanence.app import Options
from remanence.commands import controls, sessions
from remanence.commands.caller import Caller
from remanence.content import ToolCall
from remanence.errors import StoreUnavailable
from remanence.events import ToolStarted
from remanence.models.scripted import Scripted
from remanence.ports import Appended, Database, Lease, Store, ToolCallContext, Write
from remanence.session import Session
from remanence.stores.sqlite.database import open_sqlite
from remanence.testing.clock import FakeClock
from remanence.testing.faults.fuse import FaultyDatabase, Fuse


class Unanswered:
    """A store that does what it is told when an effect is about to start, and does not answer, once.

    Before its silence is over somebody freezes the scope.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.freezer: Caller | None = None
        self.scope = ""
        self.silent = asyncio.Event()
        for name in ("load", "read", "claim", "renew", "release", "behind", "wait"):
            setattr(self, name, getattr(store, name))

    async def append(self, write: Write) -> Appended:
        appended = await self._store.append(write)
        if self.freezer is None or not any(isinstance(event, ToolStarted) for event in write.events):
            return appended
        caller, self.freezer = self.freezer, None
        if self.scope:
            await controls.freeze_scope(caller, self.scope)
        else:
            await sessions.freeze(caller, write.session)
        self.silent.set()
        raise StoreUnavailable("The connection was cut before the answer came.")


def unanswered(database: Database) -> tuple[Database, Unanswered]:
    faulty, store = FaultyDatabase(database, Fuse(0, lambda: None)), Unanswered(database.store)
    faulty.store = store  # pyright: ignore[reportAttributeAccessIssue]
    return faulty, store


@pytest.mark.parametrize("scope", ["all", "agent:shop", ""], ids=["everything", "the agent", "the session"])
async def test_no_effect_starts_after_the_freeze(scope: str, tmp_path: Path) -> None:
    shop = Shop()
    database, store = unanswered(await open_sqlite(f"{tmp_path}/shop.db"))
    options = Options(model=Scripted(script), times=FAST, database=database)
    async with Remanence(agents=[shop.agent()], options=options) as rt:
        session = await rt.open(shop.agent())
        store.freezer, store.scope = rt.caller, scope
        await session.submit(call("refund", order="1", cents=1))
        await store.silent.wait()
        await asyncio.sleep(0.5)
        assert shop.keys == [], "the intent is in the journal, the call never left, and a freeze stands"
        await (rt.thaw(scope) if scope else session.thaw())
        state = await until(session, lambda s: s.turn is None)
        assert (len(shop.keys), state.doubts) == (1, ())
    await database.close()


class Hiccup(Unanswered):
    """A store that does not answer once, when an effect is about to start."""

    async def append(self, write: Write) -> Appended:
        appended = await self._store.append(write)
        if self.silent.is_set() or not any(isinstance(event, ToolStarted) for event in write.events):
            return appended
        self.silent.set()
        raise StoreUnavailable("The connection was cut before the answer came.")


async def test_an_intent_that_never_left_is_not_forgotten_by_a_process_that_ends(tmp_path: Path) -> None:
    """It is in the journal, and the worker that wrote it starts nothing any more: the next one has to hear of it."""
    shop = Shop()
    database = await open_sqlite(f"{tmp_path}/shop.db")
    faulty = FaultyDatabase(database, Fuse(0, lambda: None))
    faulty.store = store = Hiccup(database.store)  # pyright: ignore[reportAttributeAccessIssue]
    options = Options(model=Scripted(script), times=FAST, database=faulty)
    async with Remanence(agents=[shop.agent()], options=options) as rt:
        session = await rt.open(shop.agent())
        await session.submit(call("refund", order="1", cents=1))
        await store.silent.wait()
    async with Remanence(agents=[shop.agent()], options=dataclasses.replace(options, database=database)) as rt:
        state = await asyncio.wait_for(until(await rt.get(session.id), lambda s: s.doubts or s.turn is None), 60)
        assert (len(state.doubts), shop.keys) == (1, [])
    await database.close()


class Late:
    """A store that takes longer than a lease to write the first intent of a tool call; then it is away for a while."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self._store = store
        self._clock = clock
        self.late = asyncio.Event()
        self.away = False
        for name in ("load", "read", "release", "behind", "wait"):
            setattr(self, name, getattr(store, name))

    async def append(self, write: Write) -> Appended:
        appended = await self._store.append(write)
        if not self.late.is_set() and any(isinstance(event, ToolStarted) for event in write.events):
            self.late.set()
            self.away = True
            self._clock.advance(60.0)
        return appended

    async def renew(self, leases: Sequence[Lease], *, until: int) -> Sequence[Lease]:
        if self.away:
            raise StoreUnavailable("The connection was cut.")
        return await self._store.renew(leases, until=until)

    async def claim(
        self, worker: str, *, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None = None
    ) -> Sequence[Lease]:
        if self.away:
            return []
        return await self._store.claim(worker, now=now, ttl_s=ttl_s, limit=limit, agents=agents)


async def begins_once_the_store_is_back(session: Session, shop: Shop, store: Late, clock: FakeClock) -> None:
    """Nothing begins while no lease can be renewed; then the call is made, and only once."""
    await asyncio.sleep(0.2)
    assert shop.keys == []
    store.away = False
    clock.advance(11.0)
    async with asyncio.timeout(60):
        while (state := await session.state()).turn is not None:
            await asyncio.sleep(0.01)
            clock.advance(0.05)
    assert (len(shop.keys), state.doubts) == (1, ())


async def test_no_effect_starts_once_the_lease_ran_out(tmp_path: Path) -> None:
    """Another worker may have the session by now: the call leaves only when the lease is this worker's again."""
    shop, clock = Shop(), FakeClock()
    database = await open_sqlite(f"{tmp_path}/shop.db")
    faulty = FaultyDatabase(database, Fuse(0, lambda: None))
    faulty.store = store = Late(database.store, clock)  # pyright: ignore[reportAttributeAccessIssue]
    options = Options(model=Scripted(script), clock=clock, database=faulty)
    async with Remanence(agents=[shop.agent()], options=options) as rt:
        session = await rt.open(shop.agent())
        await session.submit(call("refund", order="1", cents=1))
        await store.late.wait()
        await begins_once_the_store_is_back(session, shop, store, clock)
    await database.close()


@pytest.mark.parametrize("blocking", [False, True], ids=["on the loop", "in a thread"])
async def test_a_call_looks_at_the_lease_right_before_it_begins(blocking: bool, tmp_path: Path) -> None:
    """Of two calls that leave together the first takes longer than the lease: the second one's look is its own."""
    shop, clock = Shop(), FakeClock()
    database = await open_sqlite(f"{tmp_path}/shop.db")
    faulty = FaultyDatabase(database, Fuse(0, lambda: None))
    faulty.store = store = Late(database.store, clock)  # pyright: ignore[reportAttributeAccessIssue]
    store.late.set()
    stalled = threading.Event()

    @tool(replay="never")
    async def stall() -> str:
        """Hold up the whole process."""
        store.away = True
        clock.advance(60.0)
        stalled.set()
        return "stalled"

    @tool(replay="never")
    def post(*, effect_key: str) -> str:
        """Post something, from a thread."""
        shop.keys.append(effect_key)
        return "posted"

    @tool(replay="never")
    async def send(*, effect_key: str) -> str:
        """Send something, on the loop."""
        shop.keys.append(effect_key)
        return "sent"

    agent = Agent("shop", model="scripted", tools=[stall, post, send])
    options = Options(model=Scripted(script), clock=clock, database=faulty)
    async with Remanence(agents=[agent], options=options) as rt:
        session = await rt.open(agent)
        await session.submit(f"{call('stall')}\n{call('post' if blocking else 'send')}")
        async with asyncio.timeout(60):
            await asyncio.to_thread(stalled.wait)
        await begins_once_the_store_is_back(session, shop, store, clock)
    await database.close()


@pytest.mark.parametrize("blocking", [False, True], ids=["on the loop", "in a thread"])
async def test_a_function_asks_once_more_after_its_wait_for_a_thread(blocking: bool) -> None:
    begun: list[str] = []

    def note(word: str) -> str:
        begun.append(word)
        return word

    async def note_later(word: str) -> str:
        return note(word)

    declared = tool(note) if blocking else tool(note_later)
    context = ToolCallContext("s", "default", "a", "ada", 1, "s:1:c", 1, may_start=lambda: False)
    outcome = await declared.run(ToolCall("c", declared.spec.name, '{"word": "x"}'), context)
    assert (outcome.started, begun) == (False, [])
    outcome = await declared.run(ToolCall("c", declared.spec.name, '{"word": "x"}'), replace(context, may_start=None))
    assert (outcome.started, begun) == (True, ["x"])
