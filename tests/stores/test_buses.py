"""The ways between the processes over one database: who hears what, and what is left of a process that was killed."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from remanence.ports import Bus, Database
from remanence.stores.postgres.database import open_postgres
from remanence.stores.sqlite.bus import ADDRESS_BYTES_MAX, SocketBus, bus_beside
from remanence.stores.sqlite.connect import Location
from remanence.stores.sqlite.database import open_sqlite

WAIT_S = 60


class Listener:
    """What one process heard."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.heard = bus, list[bytes]()
        self.ready = asyncio.Event()
        self._news = asyncio.Event()
        self.listen()

    def listen(self) -> None:
        self.bus.listen(self._hear, self.ready.set)

    def _hear(self, message: bytes) -> None:
        self.heard.append(message)
        self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def opened(url: str, count: int) -> AsyncIterator[list[Listener]]:
    """So many processes, so to speak, that listen."""
    databases: list[Database] = []
    try:
        for _ in range(count):
            path = url.removeprefix("sqlite:///")
            databases.append(await (open_sqlite(path) if path != url else open_postgres(url)))
        listeners = [Listener(database.bus) for database in databases]
        async with asyncio.timeout(WAIT_S):
            for listener in listeners:
                await listener.ready.wait()
        yield listeners
    finally:
        for database in databases:
            await database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


async def test_everybody_else_hears_or_the_one_who_is_named(url: str) -> None:
    async with opened(url, 3) as (one, two, three):
        assert len({one.bus.name, two.bus.name, three.bus.name}) == 3
        one.bus.send(b'"all"')
        one.bus.send(b'"two"', to=two.bus.name)
        two.bus.send(b'"one"', to=one.bus.name)
        two.bus.send(b'"three"', to=three.bus.name)
        await one.until(lambda: len(one.heard) == 1)
        await two.until(lambda: len(two.heard) == 2)
        await three.until(lambda: len(three.heard) == 2)
        assert (one.heard, sorted(two.heard), sorted(three.heard)) == (
            [b'"one"'],
            [b'"all"', b'"two"'],
            [b'"all"', b'"three"'],
        )


async def test_a_message_may_be_as_long_as_it_says_and_hold_any_character(url: str) -> None:
    async with opened(url, 2) as (one, two):
        text = "'\\\"$1;\n\u2028\U0001f600"
        message = text.encode() + b"x" * (one.bus.bytes_max - len(text.encode()))
        one.bus.send(message)
        await two.until(lambda: bool(two.heard))
        assert two.heard == [message]


async def test_nobody_is_told_by_who_has_closed(url: str) -> None:
    async with opened(url, 2) as (one, two):
        await one.bus.close()
        one.bus.send(b"late")
        two.bus.send(b"on", to=one.bus.name)
        two.bus.send(b"on")
        one.bus.listen(one.heard.append, one.ready.set)
        await one.bus.close()
        assert one.heard == two.heard == []


# --- beside a SQLite file ---------------------------------------------------------------------------------------------


def folder_of(path: Path) -> Path:
    return Path(f"{path}-live")


async def test_the_folder_is_for_its_user_alone_and_goes_with_the_last(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert not folder_of(path).exists()
    async with opened(f"sqlite:///{path}", 2) as (one, two):
        assert stat.S_IMODE(folder_of(path).stat().st_mode) == 0o700
        assert {entry.name for entry in folder_of(path).iterdir()} == {one.bus.name, two.bus.name}
    assert not folder_of(path).exists()


async def test_the_socket_of_a_killed_process_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(f"sqlite:///{path}", 2) as (one, two):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(folder_of(path) / ("0" * 16)))
        for name in ("f" * 16, "notes.txt"):
            (folder_of(path) / name).touch()
        one.bus.send(b"who is there")
        one.bus.send(b"and there", to="../a.db")
        await two.until(lambda: two.heard == [b"who is there"])
        left = {entry.name for entry in folder_of(path).iterdir()}
        assert left == {one.bus.name, two.bus.name, "f" * 16, "notes.txt"}
        assert await asyncio.to_thread(path.exists)


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(f"sqlite:///{path}", 2) as (one, two):
        for listener in (one, two):
            (folder_of(path) / listener.bus.name).unlink()
        folder_of(path).rmdir()
        one.bus.send(b"into nothing")
        for listener in (one, two):
            listener.listen()
        one.bus.send(b"again")
        await two.until(lambda: two.heard == [b"again"])


@pytest.mark.parametrize("what", ["open to others", "a file", "a link"])
async def test_a_folder_that_is_not_ours_alone_is_not_used(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "a.db-live"
    if what == "a file":
        folder.touch()
    elif what == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o770)
    listener = Listener(SocketBus(folder))
    listener.bus.send(b"nobody")
    assert not listener.ready.is_set()
    await listener.bus.close()
    assert sorted(os.listdir(tmp_path)) == (["a.db-live", "elsewhere"] if what == "a link" else ["a.db-live"])
    assert what == "a file" or not os.listdir(folder)


async def test_a_long_path_has_its_folder_where_temporary_files_are(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    bus, again = (bus_beside(Location(str(deep / name))) for name in ("a.db", "../" + "d" * 120 + "/a.db"))
    other = bus_beside(Location(str(deep / "b.db")))
    one, two, three = Listener(bus), Listener(again), Listener(other)
    try:
        one.bus.send(b"here")
        await two.until(lambda: two.heard == [b"here"])
        assert not three.heard
        assert not list(deep.iterdir())
    finally:
        for listener in (one, two, three):
            await listener.bus.close()


def test_an_address_never_is_too_long(tmp_path: Path) -> None:
    for length in range(1, 120):
        folder = tmp_path / "x"
        bus = bus_beside(Location(str(folder / ("f" * length))))
        assert isinstance(bus, SocketBus)
        assert len(os.fsencode(bus.path)) <= ADDRESS_BYTES_MAX


@pytest.mark.parametrize("location", [Location("a.db", ephemeral=True), Location("a.db", read_only="it is")])
async def test_a_file_that_nobody_else_writes_or_that_cannot_be_written_has_none(location: Location) -> None:
    listener = Listener(bus_beside(location))
    assert listener.bus.name == ""
    listener.bus.send(b"nobody")
    assert not listener.ready.is_set()
    await listener.bus.close()


# --- over PostgreSQL --------------------------------------------------------------------------------------------------


async def test_a_connection_that_was_cut_is_made_again(postgres_database: str) -> None:
    async with opened(postgres_database, 2) as (one, two):
        admin = await asyncpg.connect(postgres_database)
        try:
            two.ready.clear()
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> $1",
                admin.get_server_pid(),
            )
        finally:
            await admin.close()
        async with asyncio.timeout(WAIT_S):
            while b"again" not in two.heard:
                for listener in (one, two):
                    listener.listen()
                one.bus.send(b"again")
                await asyncio.sleep(0.01)
