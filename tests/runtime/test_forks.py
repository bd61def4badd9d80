"""A fork costs the same wherever it is taken: nobody reads a long session to find the state or the turn to go on from.

How many records leave the real store is counted, of a session of 5,000 turns with snapshots as a worker leaves them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from remanence import Remanence
from remanence.commands import forks, sessions
from remanence.commands.caller import Caller, state_in, state_of
from remanence.content import Text, Usage
from remanence.core.session import evolve, fold
from remanence.core.snapshots import SNAPSHOT_EVERY_RECORDS, encode_snapshot
from remanence.core.state import Session
from remanence.errors import InvalidInput, NotFound
from remanence.events import Event, InputReceived, ModelCalled, ModelReplied, Recorded, TurnEnded, TurnStarted
from remanence.ports import Appended, Database, Loaded, Store, Write
from remanence.spec import AgentSpec
from remanence.testing.postgres import postgres_database

TURNS = 5_000
PER_TURN = 5
RECORDS_MAX = 200
"""Read for one fork: what follows a snapshot, and what it takes to find a turn."""
NAME = "long"


def a_turn(number: int) -> tuple[Event, ...]:
    first, call, digest = 2 + (number - 1) * PER_TURN, f"m_{number}", "0" * 64
    return (
        InputReceived(f"in_{number}", (Text(f"question {number}"),), user="ada"),
        TurnStarted(number, (first,)),
        ModelCalled(call, number, "scripted", number, first, digest),
        ModelReplied(call, (Text(f"answer {number}"),), Usage(30, 3), 12),
        TurnEnded(number, "completed"),
    )


def end_of(turn: int) -> int:
    return 1 + turn * PER_TURN


async def lay_down(caller: Caller) -> None:
    """The long session, with a snapshot wherever a worker leaves one."""
    await sessions.open_session(caller, AgentSpec("shop", "scripted"), sessions.Opening(session=NAME, title="Long"))
    s, events, before = await state_of(caller, NAME), list[Event](), 0
    for number in range(1, TURNS + 1):
        for event in a_turn(number):
            s = evolve(s, Recorded(NAME, s.head + 1, 0, 0, "worker", event))
            events.append(event)
        if s.head - before >= SNAPSHOT_EVERY_RECORDS or number == TURNS:
            before = s.head
            await caller.database.store.append(Write(NAME, tuple(events), 0, "worker", snapshot=encode_snapshot(s)))
            events.clear()


class CountingStore:
    """The real store; counts the records that it hands out."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.records = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, write: Write) -> Appended:
        return await self._store.append(write)

    async def load(self, session: str, *, upto: int | None = None) -> Loaded:
        loaded = await self._store.load(session, upto=upto)
        self.records += len(loaded.records)
        return loaded

    async def read(self, session: str, *, after: int = 0, limit: int | None = None) -> Sequence[Recorded]:
        records = await self._store.read(session, after=after, limit=limit)
        self.records += len(records)
        return records


class CountingDatabase:
    """The real database, with that store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.store = CountingStore(database.store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


class Counted:
    """A caller whose reading is counted."""

    def __init__(self, caller: Caller) -> None:
        self._database: Any = CountingDatabase(caller.database)
        self.caller = replace(caller, database=self._database)

    def taken(self) -> int:
        """How many records were read since this was asked last."""
        store = self._database.store
        taken, store.records = store.records, 0
        return taken


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('forks')}/r.db"
        return
    with postgres_database(request.getfixturevalue("postgres_url")) as made:
        yield made


@pytest.fixture(scope="module")
async def counted(url: str) -> AsyncIterator[Counted]:
    async with Remanence(url, worker=False) as rt:
        await lay_down(rt.caller)
        yield Counted(rt.caller)


@pytest.mark.parametrize("turn", [1, 100, 2_500, 4_900, TURNS])
async def test_a_fork_reads_as_little_at_an_early_turn_as_at_a_late_one(counted: Counted, turn: int) -> None:
    caller = counted.caller
    counted.taken()
    forked = await forks.fork(caller, NAME, turn=turn)
    assert counted.taken() <= RECORDS_MAX
    by_position = await forks.fork(caller, NAME, position=end_of(turn))
    assert counted.taken() <= SNAPSHOT_EVERY_RECORDS + PER_TURN
    again = await forks.fork(caller, by_position, position=end_of(max(1, turn // 2)))
    assert counted.taken() <= SNAPSHOT_EVERY_RECORDS + PER_TURN, "a fork knows its past by its source's snapshots"
    state = await state_of(caller, forked)
    assert (state.id, state.turns, state.head) == (forked, turn, end_of(turn) + 1)
    assert (await state_of(caller, again)).turns == max(1, turn // 2)
    past = await caller.database.store.read(forked, after=end_of(turn) - 1)
    assert [type(record.event).__name__ for record in past] == ["TurnEnded", "SessionForked"]


@pytest.mark.parametrize("position", [1, 2, 99, 100, 101, 12_504, end_of(TURNS)])
async def test_the_state_at_a_position_is_what_is_folded_from_the_first_record(counted: Counted, position: int) -> None:
    store = counted.caller.database.store
    whole = fold(Session(NAME), await store.read(NAME, limit=position))
    assert await state_in(store, NAME, upto=position) == whole


async def test_a_turn_and_a_position_at_once_are_refused(counted: Counted) -> None:
    with pytest.raises(InvalidInput, match="not both"):
        await forks.fork(counted.caller, NAME, turn=1, position=2)


async def test_a_turn_or_a_position_that_is_not_there_is_said_without_reading_it_all(counted: Counted) -> None:
    counted.taken()
    for turn in (-1, 0, TURNS + 1):
        with pytest.raises(NotFound, match="no finished turn"):
            await forks.fork(counted.caller, NAME, turn=turn)
        assert counted.taken() <= RECORDS_MAX
    for position in (-1, 0, end_of(TURNS) + 1):
        with pytest.raises(InvalidInput, match=f"positions 1 to {end_of(TURNS)}"):
            await forks.fork(counted.caller, NAME, position=position)
        assert counted.taken() <= SNAPSHOT_EVERY_RECORDS + PER_TURN
