"""What keeps erased rows in PostgreSQL's files though nobody is connected: prepared transactions, replication slots."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from test_erasure import RARE, commanded, told

from remanence import Remanence
from remanence.app import Options
from remanence.commands import erasure
from remanence.commands.proof import check_receipt
from remanence.errors import StoreUnavailable
from remanence.models.scripted import Scripted
from remanence.stores.postgres import scrub
from remanence.testing.postgres import own_server, postgres_database


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    """One that takes prepared transactions."""
    with own_server(under=os.environ.get("PYTEST_DEBUG_TEMPROOT"), more="max_prepared_transactions = 5\n") as server:
        yield server.url


@pytest.fixture
def url(server: str) -> Generator[str]:
    with postgres_database(server) as url:
        yield url


@asynccontextmanager
async def prepared(url: str) -> AsyncIterator[str]:
    """A transaction of somebody who is gone, and may commit it yet."""
    connection = await asyncpg.connect(url)
    await connection.execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'left over'")
    try:
        yield "the prepared transaction left over"
    finally:
        await connection.execute("ROLLBACK PREPARED 'left over'")
        await connection.close()


class Standby:
    """As much of a standby as asks the server to keep what it still looks at."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def begin(self, user: str) -> None:
        told = b"".join(part.encode() + b"\0" for part in ("user", user, "replication", "true", ""))
        self._writer.write(struct.pack("!ii", 8 + len(told), 196608) + told)
        await self._until(b"Z")

    async def ask(self, statement: str, answered: bytes = b"Z") -> None:
        self._say(b"Q", statement.encode() + b"\0")
        await self._until(answered)

    def needs(self, xid: int) -> None:
        """It looks at everything from this transaction on (`hot_standby_feedback`)."""
        self._say(b"d", b"h" + struct.pack("!qIIII", 0, xid & 0xFFFFFFFF, xid >> 32, 0, 0))

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def _say(self, kind: bytes, content: bytes) -> None:
        self._writer.write(kind + struct.pack("!i", 4 + len(content)) + content)

    async def _until(self, wanted: bytes) -> None:
        kind = b""
        while kind != wanted:
            kind, length = struct.unpack("!ci", await self._reader.readexactly(5))
            content = await self._reader.readexactly(length - 4)
            assert kind != b"E", content


@asynccontextmanager
async def standby(url: str) -> AsyncIterator[str]:
    """A standby that is behind, and keeps what it still needs by a slot, also while it is away."""
    parts = urlsplit(url)
    socket = parse_qs(parts.query)["host"][0]
    connection = await asyncpg.connect(url)
    one = Standby(*await asyncio.open_unix_connection(f"{socket}/.s.PGSQL.{parts.port or 5432}"))
    await one.begin(parts.username or "postgres")
    await one.ask("CREATE_REPLICATION_SLOT standby PHYSICAL RESERVE_WAL")
    place = await connection.fetchval("SELECT pg_current_wal_lsn()::text")
    await one.ask(f"START_REPLICATION SLOT standby PHYSICAL {place}", answered=b"W")
    one.needs(await connection.fetchval("SELECT pg_current_xact_id()::text::bigint"))
    while await connection.fetchval("SELECT xmin FROM pg_replication_slots") is None:  # noqa: ASYNC110 - it is told so
        await asyncio.sleep(0.01)
    await one.leave()
    try:
        yield "the replication slot standby"
    finally:
        while await connection.fetchval("SELECT active FROM pg_replication_slots"):  # noqa: ASYNC110 - the server's turn
            await asyncio.sleep(0.01)
        await connection.execute("SELECT pg_drop_replication_slot('standby')")
        await connection.close()


@pytest.mark.parametrize("keeping", [prepared, standby])
async def test_what_is_kept_back_is_waited_for_and_named(
    url: str, monkeypatch: pytest.MonkeyPatch, keeping: Callable[[str], AbstractAsyncContextManager[str]]
) -> None:
    monkeypatch.setattr(scrub, "OLDER_S_MAX", 0.5)
    async with Remanence(url, options=Options(model=Scripted(commanded))) as rt:
        async with keeping(url) as who:
            await told(rt)
            with pytest.raises(StoreUnavailable, match=who):
                await rt.memory.erase("user", "ada", reason="asked to")
            assert await erasure.receipts(rt.caller) == []
        (receipt,) = await erasure.resume(rt.caller)
        assert [path.name for path in await rt.database.files() if RARE in path.read_bytes().lower()] == []
        checks = await check_receipt(rt.caller, receipt)
        assert all(check.holds for check in checks), checks
