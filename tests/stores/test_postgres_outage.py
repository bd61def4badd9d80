"""A PostgreSQL that goes away: nothing acknowledged is lost, nothing is doubled, and no call hangs."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from remanence.content import Text
from remanence.errors import StoreUnavailable
from remanence.events import InputReceived, SessionOpened
from remanence.ports import Charge, Database, Write
from remanence.stores.postgres.database import open_postgres
from remanence.stores.verify import verify_session
from remanence.testing.postgres import OwnServer, own_server, postgres_database

T0 = 1_790_000_000_000_000
SOCKET = ".s.PGSQL.5432"

Fate = Literal["request lost", "answer lost", "request late"]


class Proxy:
    """Stands between the store and the server, and cuts a connection at a chosen moment."""

    def __init__(self, server_socket: str) -> None:
        self._server_socket = server_socket
        self._fate: Fate | None = None
        self._token = b""
        self._late: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]] = []
        self.cuts = 0

    def cut(self, fate: Fate, token: bytes) -> None:
        """Let this become of the next request that holds `token`, and hang up on the client."""
        self._fate, self._token = fate, token

    async def deliver_late(self) -> None:
        """Hand the server the request that was held back, and wait for its answer."""
        for reader, writer, chunk in self._late:
            writer.write(chunk)
            await writer.drain()
            await reader.read(1 << 16)
            writer.close()
        self._late.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server_socket)
        answers = asyncio.create_task(_pump(server_reader, writer))
        fate: Fate | None = None
        try:
            while fate is None and (chunk := await reader.read(1 << 20)):
                if self._fate is not None and self._token in chunk:
                    fate, self._fate = self._fate, None
                    self.cuts += 1
                    await _stopped(answers)
                if fate == "request late":
                    self._late.append((server_reader, server_writer, chunk))
                elif fate != "request lost":
                    server_writer.write(chunk)
                if fate == "answer lost":
                    # The server answers when it has committed; nobody will hear it.
                    await server_reader.read(1 << 16)
        finally:
            await _stopped(answers)
            writer.close()
            if fate != "request late":
                server_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 20):
        writer.write(chunk)
    writer.close()


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def through_proxy(url: str) -> AsyncIterator[tuple[Proxy, Database]]:
    """The database at `url`, reached through a proxy."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query)["host"][0]
    proxy = Proxy(str(Path(folder) / SOCKET))
    with TemporaryDirectory(prefix="rp-") as place:
        async with await asyncio.start_unix_server(proxy.serve, str(Path(place) / SOCKET)):
            database = await open_postgres(parts._replace(query=f"host={quote(place)}").geturl())
            try:
                yield proxy, database
            finally:
                await database.close()


def opened(session: str = "s") -> Write:
    return Write(session, (SessionOpened("scribe", "v", "p"),), T0, "ada")


def said(text: str, session: str = "s", **more: object) -> Write:
    return Write(session, (InputReceived(text, (Text(text),)),), T0, "ada", **more)  # type: ignore[arg-type]


async def inputs(database: Database, session: str = "s") -> list[str]:
    return [r.event.input for r in await database.store.read(session) if isinstance(r.event, InputReceived)]


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server(under=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as server:
        yield server


@pytest.fixture
def own_database(own: OwnServer) -> Iterator[str]:
    with postgres_database(own.url) as url:
        yield url


@pytest.mark.parametrize("fate", ["request lost", "answer lost", "request late"])
async def test_a_plain_append_without_an_answer_lands_once(own_database: str, fate: Fate) -> None:
    async with through_proxy(own_database) as (proxy, database):
        await database.store.append(opened())
        await database.store.append(said("before"))
        proxy.cut(fate, b'"cut"')
        appended = await database.store.append(said("cut"))
        await proxy.deliver_late()
        await database.store.append(said("after"))
        assert proxy.cuts == 1
        assert await inputs(database) == ["before", "cut", "after"]
        assert (await database.store.read("s"))[2] == appended.records[0]
        assert (await verify_session(database, "s")).flaws == ()


@pytest.mark.parametrize("fate", ["request lost", "answer lost"])
async def test_a_careful_append_without_an_answer_lands_once(own_database: str, fate: Fate) -> None:
    async with through_proxy(own_database) as (proxy, database):
        await database.controls.set_budget("user:ada", "tokens", 100, at=T0)
        proxy.cut(fate, b"COMMIT")
        await database.store.append(opened())
        proxy.cut(fate, b"COMMIT")
        charge = Charge("reserve", "effect", ("user:ada",), tokens=60)
        appended = await database.store.append(said("cut", key="k", key_digest="d", charges=(charge,)))
        assert proxy.cuts == 2
        assert not appended.replayed
        assert await inputs(database) == ["cut"]
        (budget,) = await database.controls.budgets()
        assert budget.reserved == 60
        again = await database.store.append(said("cut", key="k", key_digest="d", charges=(charge,)))
        assert again.replayed
        assert again.records == appended.records


async def test_a_commit_that_hangs_in_the_net_is_reported_as_unknown_and_lands_once(own_database: str) -> None:
    async with through_proxy(own_database) as (proxy, database):
        await database.store.append(opened())
        proxy.cut("request late", b"COMMIT")
        with pytest.raises(StoreUnavailable, match="Read the session again"):
            await database.store.append(said("cut", key="k", key_digest="d"))
        await proxy.deliver_late()
        assert await inputs(database) == ["cut"]
        again = await database.store.append(said("cut", key="k", key_digest="d"))
        assert again.replayed


async def test_a_neighbour_of_a_write_in_doubt_is_not_held_up(own_database: str) -> None:
    async with through_proxy(own_database) as (proxy, database):
        await asyncio.gather(database.store.append(opened("a")), database.store.append(opened("b")))
        proxy.cut("request lost", b'"cut"')
        began = time.monotonic()
        await asyncio.gather(database.store.append(said("cut", "a")), database.store.append(said("beside", "b")))
        assert time.monotonic() - began < 10, "a command that hangs has 20 s"
        assert await inputs(database, "a") == ["cut"]
        assert await inputs(database, "b") == ["beside"]


class Burst:
    """Sessions that say one thing after another; a thing that failed is not said again."""

    def __init__(self, database: Database, sessions: list[str]) -> None:
        self._database = database
        self.kept: dict[str, list[str]] = {session: [] for session in sessions}
        self._count = 0
        self._wanted = 0
        self._reached = asyncio.Event()
        self.server_is_there = asyncio.Event()
        self.over = False

    async def goes_on(self, count: int) -> None:
        """Return when so many more were acknowledged."""
        self._wanted = self._count + count
        self._reached.clear()
        await self._reached.wait()

    async def talk(self, session: str) -> None:
        number = 0
        while not self.over:
            number += 1
            text = f"{session}-{number}"
            try:
                await self._database.store.append(said(text, session))
            except StoreUnavailable:
                await self.server_is_there.wait()
                continue
            self.kept[session].append(text)
            self._count += 1
            if self._count >= self._wanted:
                self._reached.set()


async def test_a_server_killed_in_a_burst_of_appends_loses_and_doubles_nothing(
    own: OwnServer, own_database: str
) -> None:
    database = await open_postgres(own_database)
    burst = Burst(database, [f"s{number}" for number in range(32)])
    await asyncio.gather(*[database.store.append(opened(session)) for session in burst.kept])
    talking = [asyncio.create_task(burst.talk(session)) for session in burst.kept]
    for _ in range(2):
        await burst.goes_on(2_000)
        burst.server_is_there.clear()
        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(own.start)
        burst.server_is_there.set()
    await burst.goes_on(500)
    burst.over = True
    await asyncio.gather(*talking)
    for session, kept in burst.kept.items():
        found = await inputs(database, session)
        assert max(Counter(found).values()) == 1, "something was doubled"
        assert [text for text in found if text in set(kept)] == kept, "something was lost"
        assert (await verify_session(database, session)).flaws == ()
    await database.close()


async def test_closing_does_not_wait_for_a_server_that_is_gone(own: OwnServer, own_database: str) -> None:
    database = await open_postgres(own_database)
    await database.store.append(opened())
    await database.store.wait(timeout_s=1)  # which opens a listening connection too
    await asyncio.to_thread(own.kill)
    try:
        began = time.monotonic()
        await database.close()
        await database.close()
        assert time.monotonic() - began < 15
    finally:
        await asyncio.to_thread(own.start)


async def test_a_server_that_stays_away_fails_every_call_soon_and_is_found_again(
    own: OwnServer, own_database: str
) -> None:
    database = await open_postgres(own_database)
    await database.store.append(opened())
    await asyncio.to_thread(own.kill)
    try:
        calls = (
            lambda: database.store.append(said("unheard")),
            lambda: database.store.load("s"),
            lambda: database.store.read("s"),
            lambda: database.store.claim("w", now=T0, ttl_s=30, limit=1),
            lambda: database.controls.freeze("all", at=T0, by="ada", reason=""),
            lambda: database.views.stats(),
            lambda: database.blobs.put(b"x"),
        )
        for call in calls:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="kept"):
                await call()
            assert time.monotonic() - began < 8, "it waits 2 s for the server; to get hold of a connection takes 10"
        await database.store.wait(timeout_s=0.01)
    finally:
        await asyncio.to_thread(own.start)
    await database.store.append(said("heard"))
    assert await inputs(database) == ["heard"]
    await database.close()
