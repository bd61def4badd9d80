"""A projection that is begun anew on PostgreSQL, while another one is about to find a session read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from remanence import Remanence
from remanence.ports import Cursor, Database
from remanence.recollections import Place
from remanence.screens import SCREENS, Seen

HELD = 77
# Whoever finds a session read to its end by every projection commits when the test lets them.
SLOW = f"""
CREATE FUNCTION remanence.slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared({HELD}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON remanence.sessions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (OLD.behind AND NOT NEW.behind) EXECUTE FUNCTION remanence.slow();
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
async def rt(postgres_database: str) -> AsyncIterator[Remanence]:
    async with Remanence(postgres_database, worker=False) as opened:
        yield opened


@pytest.fixture
async def server(rt: Remanence) -> AsyncIterator[asyncpg.Connection]:
    """Another connection to the server, which lets nobody commit."""
    connection = await asyncpg.connect(rt.database.url)
    await connection.execute(SLOW)
    await connection.execute(f"SELECT pg_advisory_lock({HELD})")
    yield connection
    await connection.close()


async def waiting(server: asyncpg.Connection, many: int, task: asyncio.Task[object]) -> None:
    """Until so many wait for a gate, or the task is done."""
    while not task.done() and await server.fetchval(WAITING) < many:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.01)


Begin = Callable[[Database], Awaitable[object]]


@pytest.mark.parametrize(
    ("projection", "begin"),
    [
        ("memory", lambda db: db.memories.clear()),
        (SCREENS, lambda db: db.screens.clear()),
        ("another", lambda db: db.store.behind("another", limit=10)),
    ],
)
async def test_no_session_is_taken_for_read(
    rt: Remanence, server: asyncpg.Connection, projection: str, begin: Begin
) -> None:
    db = rt.database
    note = await rt.memory.keep("The ladder is in the shed.", Place("default", "user:ada"))
    await rt.memory.catch_up()
    if projection == SCREENS:
        await db.screens.record(await behind(db, SCREENS, note.session), Seen())
    ending = asyncio.create_task(db.views.record_usage(await behind(db, "usage", note.session), ()))
    await waiting(server, 1, ending)
    beginning = asyncio.create_task(as_task(begin, db))
    await waiting(server, 2, beginning)
    await server.execute("SELECT pg_advisory_unlock_all()")
    await asyncio.gather(ending, beginning)
    assert note.session in [c.session for c in await db.store.behind(projection, limit=10)]


async def behind(database: Database, projection: str, session: str) -> Cursor:
    """Where a projection stands in a session that it has not read to its end."""
    (cursor,) = [one for one in await database.store.behind(projection, limit=10) if one.session == session]
    return Cursor(session, cursor.position, cursor.head)


async def as_task(begin: Begin, database: Database) -> object:
    return await begin(database)
