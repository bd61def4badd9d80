"""`sessions verify` and snapshots: what was changed in one shows, and no session becomes unreadable by one.

The rows of real databases are changed behind the store's back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
import pytest
from moving import World, erase, runtime
from msgspec.structs import replace
from structlog.testing import capture_logs

from remanence import Remanence
from remanence.commands import forks
from remanence.commands.caller import state_of
from remanence.commands.sessions import Opening
from remanence.commands.transfer import verify_session
from remanence.commands.verification import mend_session
from remanence.core.snapshots import decode_snapshot, encode_snapshot

TURNS = 70
"""So many that the worker leaves two snapshots."""
Change = Callable[[str, int, bytes | None], Awaitable[None]]


@asynccontextmanager
async def written(url: str) -> AsyncIterator[tuple[Remanence, Change]]:
    """A long session `s` and a fork of it; and a way to change a snapshot behind the store's back."""
    async with runtime(url, World()) as rt:
        session = await rt.open("support", opening=Opening(session="s", title="Refunds"))
        for number in range(TURNS):
            await session.send(f"hello {number}")
        await erase(rt, "s", 2)
        await session.send("bye")
        forked = await rt.get(await forks.fork(rt.caller, "s", opening=Opening(session="fork")))
        await forked.send("hello there")
    async with runtime(url, World(), worker=False) as rt:
        yield rt, changing(url)


def changing(url: str) -> Change:
    """The snapshot of a session at a position becomes this one (None: is said to be of the next position)."""

    async def on_sqlite(session: str, position: int, state: bytes | None) -> None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            where = f"WHERE place = ((SELECT id FROM sessions WHERE name = '{session}') << 32 | {position})"
            if state is None:
                done = connection.execute(f"UPDATE snapshots SET place = place + 1 {where}")
            else:
                done = connection.execute(f"UPDATE snapshots SET state = ? {where}", (state,))
            assert done.rowcount == 1

    async def on_postgres(session: str, position: int, state: bytes | None) -> None:
        connection = await asyncpg.connect(url)
        where = f"WHERE sid = (SELECT sid FROM remanence.sessions WHERE id = '{session}') AND position = {position}"
        change, values = ("position = position + 1", ()) if state is None else ("state = $1", (state,))
        done = await connection.execute(f"UPDATE remanence.snapshots SET {change} {where}", *values)
        assert done == "UPDATE 1"
        await connection.close()

    return on_sqlite if url.startswith("sqlite") else on_postgres


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"sqlite:///{tmp_path / 'a.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    )


async def test_a_changed_snapshot_shows_and_is_dropped(url: str) -> None:
    async with written(url) as (rt, change):
        found, forked = await verify_session(rt.caller, "s"), await verify_session(rt.caller, "fork")
        assert (found.sound, found.snapshots >= 2, found.wrong_snapshots) == (True, True, ())
        assert (forked.sound, forked.snapshots) == (True, found.snapshots + 1)
        (first, state), *_, (last, _) = await rt.database.snapshots("s")
        true = decode_snapshot(state, "s", first)
        assert true is not None
        forged = encode_snapshot(replace(true, title="Refund everything", turns=99))
        await change("s", first, forged)

        found = await verify_session(rt.caller, "s")
        assert (found.intact, found.sound) == (True, False)
        ((whose, position, what),) = [(one.session, one.position, one.what) for one in found.wrong_snapshots]
        assert (whose, position) == ("s", first)
        assert what == "it differs from what the records say, in: title, turns"
        assert (await verify_session(rt.caller, "fork")).wrong_snapshots == found.wrong_snapshots
        assert (await verify_session(rt.caller, "fork", inherited=False)).sound, "that is its source's"

        mended = await mend_session(rt.caller, "s")
        assert (mended.sound, mended.dropped, mended.wrong_snapshots) == (True, True, found.wrong_snapshots)
        left = [at for at, _ in await rt.database.snapshots("s")]
        assert last in left
        assert first not in left
        again = await verify_session(rt.caller, "s")
        assert (again.sound, again.dropped, again.snapshots) == (True, False, len(left))
        assert (await verify_session(rt.caller, "fork")).sound


async def test_what_was_read_through_a_wrong_one_is_forgotten_with_it(url: str) -> None:
    async with written(url) as (rt, change):
        (last, state) = (await rt.database.snapshots("s"))[-1]
        true = decode_snapshot(state, "s", last)
        assert true is not None
        await change("s", last, encode_snapshot(replace(true, title="Refund everything")))
        async with runtime(url, World(), worker=False) as other:
            assert (await state_of(other.caller, "s")).title == "Refund everything"
            assert (await mend_session(other.caller, "s")).sound
            assert (await state_of(other.caller, "s")).title == "Refunds"


async def test_what_cannot_be_read_is_in_nobodys_way(url: str) -> None:
    async with written(url) as (rt, change):
        true = await rt.caller.states.look(rt.database.store, "s") if rt.caller.states else None
        (last, kept) = (await rt.database.snapshots("s"))[-1]
        for broken in (
            b"",
            b"no state",
            kept[:-9],
            kept[:30] + bytes([kept[30] ^ 1]) + kept[31:],
            "Grüße".encode("latin-1"),
        ):
            await change("s", last, broken)
            assert (await verify_session(rt.caller, "s")).wrong_snapshots[0].what.startswith("it cannot be read")
            async with runtime(url, World(), worker=False) as other:
                assert await (await other.get("s")).state() == true
        await change("s", last, kept)
        await change("s", last, None)
        assert not (await verify_session(rt.caller, "s")).sound, "it stands where another would"
        async with runtime(url, World()) as other:
            session = await other.get("s")
            assert await session.state() == true
            assert await session.send("hello again")
        # The worker that met it left one that can be read.
        assert (await rt.database.snapshots("s"))[-1][0] > last + 1
        found = await mend_session(rt.caller, "s")
        assert (len(found.wrong_snapshots), found.sound) == (1, True)
        assert (await verify_session(rt.caller, "s")).wrong_snapshots == ()


async def test_that_of_another_session_is_believed_by_nobody(url: str) -> None:
    """Both were written by the store, whole, at this very position: only the record beside them tells."""
    async with runtime(url, World()) as rt:
        for name in ("s", "t"):
            session = await rt.open("support", opening=Opening(session=name, title=f"Refunds of {name}"))
            for number in range(TURNS // 2):
                await session.send(f"hello {number}")
    async with runtime(url, World(), worker=False) as rt:
        (last, own), (there, _) = [(await stored(url, name))[-1] for name in ("s", "t")]
        assert last == there
        await changing(url)("t", last, own)
        with capture_logs() as told:
            assert (await state_of(rt.caller, "t")).title == "Refunds of t"
            assert (await state_of(rt.caller, "s")).title == "Refunds of s"
        assert [(one["session"], one["position"]) for one in told if "snapshot" in one["event"]] == [("t", last)]
        assert [one.position for one in (await verify_session(rt.caller, "t")).wrong_snapshots] == [last]
        assert (await mend_session(rt.caller, "t")).sound
        await changing(url)("s", last, unbound_again(own))
        assert (await state_of(rt.caller, "s")).title == "Refunds of s", "one of an older release stays good"


def unbound_again(kept: bytes) -> bytes:
    """A snapshot as it was kept before it was bound to its record."""
    assert kept.startswith(b"\xc2")
    return kept[17:]


async def stored(url: str, session: str) -> list[tuple[int, bytes]]:
    """The snapshots of a session as they lie in the table."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(
                "SELECT place & 4294967295, state FROM snapshots WHERE place >> 32 = "
                "(SELECT id FROM sessions WHERE name = ?) ORDER BY place",
                (session,),
            ).fetchall()
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT position, state FROM remanence.snapshots WHERE sid = "
        "(SELECT sid FROM remanence.sessions WHERE id = $1) ORDER BY position",
        session,
    )
    await connection.close()
    return [(position, state) for position, state in rows]


async def test_beside_a_damaged_journal_no_snapshot_is_judged_or_dropped(url: str) -> None:
    async with written(url) as (rt, change):
        (first, _), *_ = await rt.database.snapshots("s")
        await change("s", first, b"no state")
        await damage(url)
        for found in (await verify_session(rt.caller, "s"), await mend_session(rt.caller, "s")):
            assert (found.intact, found.snapshots, found.wrong_snapshots, found.dropped) == (False, 0, (), False)
        assert (await verify_session(rt.caller, "fork", inherited=False)).snapshots == 0, (
            "what it goes on from is damaged"
        )
        assert (await rt.database.snapshots("s"))[0] == (first, b"no state")


async def damage(url: str) -> None:
    """Another time in the third record."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute("UPDATE records SET at = at + 1 WHERE place & 4294967295 = 3")
        return
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE remanence.records SET at = at + 1 WHERE position BETWEEN 3 AND 6")
    await connection.close()
