"""What a newer release wrote: a schema, or an event of a kind nobody here knows. It is refused by name and kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.runtime.shop import Shop, runtime

from remanence.app import open_database
from remanence.commands.sessions import Opening
from remanence.commands.transfer import export_session, verify_session
from remanence.errors import StoreError, UnknownEvent
from remanence.events import chain_digest, payload_digest


def dream(path: Path, session: str) -> None:
    """Append an event of tomorrow to a session, chained as it should be, and make the session due."""
    payload = b'{"type":"DreamDreamt","about":"sheep"}'
    with closing(sqlite3.connect(path)) as connection, connection:
        id_, head, digest = connection.execute(
            "SELECT s.id, h.head, h.digest FROM sessions s JOIN heads h ON h.id = s.id WHERE s.name = ?", (session,)
        ).fetchone()
        chained = chain_digest(digest, payload_digest(payload), position=head + 1, at=1, epoch=0, actor="tomorrow")
        connection.execute(
            "INSERT INTO records (place, at, epoch, actor, payload, digest) VALUES (?, 1, 0, 'tomorrow', ?, ?)",
            ((id_ << 32) + head + 1, payload, chained),
        )
        connection.execute("UPDATE heads SET head = ?, digest = ?, wake_at = 1 WHERE id = ?", (head + 1, chained, id_))


async def test_an_event_of_a_newer_release(tmp_path: Path) -> None:
    """The session is left alone, what is said to it is kept, the others go on."""
    async with runtime(tmp_path, None, Shop().agent()) as rt:
        for name in ("today", "tomorrow"):
            await (await rt.open("shop", opening=Opening(session=name))).send("hello")
    dream(tmp_path / "shop.db", "tomorrow")
    async with runtime(tmp_path, None, Shop().agent()) as rt:
        tomorrow, today = await rt.get("tomorrow"), await rt.get("today")
        assert await today.send("again") == "again -> "
        with pytest.raises(UnknownEvent) as caught:
            await tomorrow.history()
        assert caught.value.message.startswith("Session tomorrow, record ")
        assert "an event of kind 'DreamDreamt', which this release does not know" in caught.value.message
        assert "Nothing was changed; open it with the release that wrote it" in caught.value.message
        head = (await tomorrow.submit("are you there?")).head
        assert await today.send("and again") == "and again -> "
        assert rt.worker is not None
        assert rt.worker.alive
        found = await verify_session(rt.caller, "tomorrow")
        assert (found.intact, found.head) == (True, head)
        assert "an event of kind 'DreamDreamt', which this release does not know" in found.unread
        assert not (await verify_session(rt.caller, "today")).unread
        assert (await export_session(rt.caller, "tomorrow", tmp_path / "s.zip")).records == head
    rows = await raw_kinds(tmp_path / "shop.db")
    assert rows[-2:] == ["DreamDreamt", "InputReceived"]


async def raw_kinds(path: Path) -> list[str]:
    database = await open_database(f"sqlite:///{path}")
    try:
        return [row.kind for row in await database.raw("tomorrow")]
    finally:
        await database.close()


async def test_a_schema_of_a_newer_release_on_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await (await open_database(f"sqlite:///{path}")).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'dreams', 'x')")
    await refused(f"sqlite:///{path}")


async def test_a_schema_of_a_newer_release_on_postgresql(postgres_database: str) -> None:
    await (await open_database(postgres_database)).close()
    connection = await asyncpg.connect(postgres_database)
    await connection.execute("INSERT INTO remanence.migrations VALUES (99, 'dreams', 'x')")
    await connection.close()
    await refused(postgres_database)


async def refused(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        await open_database(url)
    assert "has schema 99, and this release knows schemas up to" in caught.value.message
    assert "Nothing was changed; open it with that release, or a newer one." in caught.value.message
