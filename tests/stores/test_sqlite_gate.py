"""Who writes to the SQLite file is alone in it until the log is copied back, whatever SQLite allows beside it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from remanence.content import Text
from remanence.errors import StoreUnavailable
from remanence.events import InputReceived, Redacted, SessionOpened
from remanence.ports import Write
from remanence.stores.sqlite.connect import Location, connect
from remanence.stores.sqlite.database import SqliteDatabase, open_sqlite
from remanence.stores.sqlite.gate import Gate
from remanence.stores.sqlite.writer import Writer

T0 = 1_790_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "remanence.db")


@pytest.fixture
async def db(path: str) -> AsyncIterator[SqliteDatabase]:
    database = await open_sqlite(path, lock_timeout_s=0.2)
    yield database
    await database.close()


@pytest.fixture
def other(path: str, db: SqliteDatabase) -> Iterator[int]:
    """The log as another process has it open."""
    descriptor = os.open(f"{path}-wal", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def is_held(log: int) -> bool:
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(log, fcntl.LOCK_UN)
    return False


def said(text: str, session: str = "s") -> Write:
    return Write(session, (SessionOpened("a", "v", "p"), InputReceived("in", (Text(text),))), T0, "ada")


async def test_nobody_writes_while_another_process_may_be_copying_the_log(db: SqliteDatabase, other: int) -> None:
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(StoreUnavailable, match=r"locked by another process for more than 0\.2 s"):
        await db.store.append(said("hello"))
    waiting = asyncio.ensure_future(db.store.append(said("hello")))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    fcntl.flock(other, fcntl.LOCK_UN)
    assert (await waiting).head == 2


async def test_who_writes_is_alone_until_it_has_committed_and_copied(path: str, db: SqliteDatabase, other: int) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(_: Any) -> None:
        begun.set()
        go_on.wait(10)

    writer = Writer(Location(path), lambda: None)
    doing = writer.do(work)
    await asyncio.to_thread(begun.wait, 10)
    assert is_held(other)
    go_on.set()
    await doing
    await writer.close()
    assert not is_held(other)


async def test_a_log_that_may_be_in_use_is_emptied_of_what_was_erased_later(
    path: str, db: SqliteDatabase, other: int
) -> None:
    await db.store.append(said("quince"))
    await db.store.append(Write("s", (Redacted(2, "asked"),), T0, "ada"))
    await db.scrub()
    await db.store.append(said("medlar", "t"))
    await db.store.append(Write("t", (Redacted(2, "asked"),), T0, "ada"))
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(StoreUnavailable):
        await db.scrub()
    fcntl.flock(other, fcntl.LOCK_UN)
    await db.scrub()
    assert os.fstat(other).st_size == 0
    assert b"medlar" not in await asyncio.to_thread(Path(path).read_bytes)


async def test_one_is_within_at_a_time(path: str, db: SqliteDatabase) -> None:
    await db.store.append(said("hello"))
    connection = connect(Location(path), writer=True)
    gate = Gate(connection, Location(path))
    assert gate.enter()
    assert gate.enter()  # within already
    second = Gate(connection, Location(path, lock_timeout_s=0.05))
    with pytest.raises(StoreUnavailable, match="locked by another process"), second.within():
        pass
    gate.leave()
    with second.within():
        assert not gate.enter()
    assert gate.enter()
    gate.close()
    second.close()
    connection.close()
