"""`sessions verify` on PostgreSQL, where one row holds the records of one write: whatever is done to a row shows.

The rows of a real database are changed behind the store's back, and put back after each look.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import asyncpg
from moving import World, erase, runtime

from remanence import Remanence
from remanence.commands.sessions import Opening
from remanence.commands.transfer import verify_session

Change = tuple[str, str, tuple[Any, ...]]
COLUMNS = "position, at, epoch, actor, payloads, sizes, digests, originals"


@asynccontextmanager
async def written(url: str) -> AsyncIterator[tuple[Remanence, asyncpg.Connection]]:
    """A session `s` with tool calls, a spilled input and an erasure; and a connection behind the store's back."""
    async with runtime(url, World()) as rt:
        session = await rt.open("support", opening=Opening(session="s"))
        for said in ("hello", "refund 900", "a long message " + "x" * 70_000, "bye"):
            await session.send(said)
        await erase(rt, "s", 2)
    async with runtime(url, World(), worker=False) as rt:
        connection = await asyncpg.connect(url)
        await connection.execute("SET search_path TO remanence")
        await connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM records")
        try:
            yield rt, connection
        finally:
            await connection.close()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def changes(row: asyncpg.Record) -> Iterator[Change]:
    """What can be done to one row: (in words, SQL, values)."""
    own = row["position"]

    def change(what: str, column: str, value: object) -> Change:
        return f"{what} of row {own}", f"UPDATE records SET {column} = $1 WHERE position = {own}", (value,)

    for column in ("payloads", "sizes", "digests", "originals"):
        content = row[column]
        if column == "payloads" and row["originals"]:
            continue  # what is left of an erased record is not what its digest was made of; a spilled one is elsewhere
        for at in {*range(0, len(content), 23), len(content) - 1} if content else ():
            yield change(f"byte {at} of {column}", column, flipped(content, at))
        yield change(f"one byte more in {column}", column, content + b"x")
    yield change("time", "at", row["at"] + 1)
    yield change("epoch", "epoch", row["epoch"] + 1)
    yield change("actor", "actor", "eve")
    yield change("place", "position", own + 1_000)
    yield f"row {own} dropped", f"DELETE FROM records WHERE position = {own}", ()
    if len(row["sizes"]) >= 8:
        yield change("last record dropped", "sizes", row["sizes"][:-4])
        yield from exchanged(row, change)


def exchanged(row: asyncpg.Record, change: Callable[[str, str, object], Change]) -> Iterator[Change]:
    """The first two records of a row change places, in everything but their digests; and only their digests do."""
    first, second = (int.from_bytes(row["sizes"][at : at + 4], "big") for at in (0, 4))
    payloads, digests = row["payloads"], row["digests"]
    if payloads[:first] != payloads[first : first + second] and first == second:
        yield change("two records", "payloads", payloads[first : first + second] + payloads[:first])
    yield change("two digests", "digests", digests[32:64] + digests[:32] + digests[64:])


async def test_whatever_is_done_to_a_row_shows(postgres_database: str) -> None:
    async with written(postgres_database) as (rt, connection):
        rows = await connection.fetch(f"SELECT {COLUMNS} FROM kept ORDER BY position")
        found = await verify_session(rt.caller, "s")
        assert (found.intact, found.records, found.redacted) == (True, found.head, 1)
        assert len(rows) < found.head, "records share rows"
        done = [change for row in rows for change in changes(row)]
        assert len(done) > 100
        for what, sql, values in done:
            await connection.execute(sql, *values)
            assert not (await verify_session(rt.caller, "s")).intact, what
            await connection.execute("DELETE FROM records")
            await connection.execute("INSERT INTO records SELECT * FROM kept")
        assert (await verify_session(rt.caller, "s")).intact


async def test_rows_in_another_order_and_blobs_that_are_gone_show(postgres_database: str) -> None:
    async with written(postgres_database) as (rt, connection):
        places = [row["position"] for row in await connection.fetch("SELECT position FROM kept ORDER BY position")]
        for one, other in pairwise(places):
            for old, moved in ((one, 5_000), (other, one), (5_000, other)):
                await connection.execute(f"UPDATE records SET position = {moved} WHERE position = {old}")
            assert not (await verify_session(rt.caller, "s")).intact, (one, other)
            await connection.execute("DELETE FROM records")
            await connection.execute("INSERT INTO records SELECT * FROM kept")
        assert (await verify_session(rt.caller, "s")).intact
        await connection.execute("UPDATE blobs SET content = set_byte(content, 100, 0)")
        assert not (await verify_session(rt.caller, "s")).intact
        await connection.execute("DELETE FROM blobs")
        assert not (await verify_session(rt.caller, "s")).intact
