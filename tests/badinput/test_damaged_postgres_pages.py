"""Pages of PostgreSQL's table of snapshots that are none any more: snapshots are a cache, so every session goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner
from tests.runtime.shop import FAST, Shop, script

from remanence.app import Options, Remanence, Session
from remanence.cli.root import remanence
from remanence.commands import erasure
from remanence.commands.proof import check_receipt
from remanence.commands.sessions import Opening
from remanence.commands.verification import mend_session, verify_session
from remanence.models.scripted import Scripted
from remanence.screens import Opened
from remanence.testing.postgres import OwnServer, own_server, postgres_database

NAMES = ("one", "two")
TURNS = 40
"""Enough for a snapshot or two of each session."""
PAGE_BYTES = 8192
Ruin = Callable[[str, Callable[[bytes], bytes]], None]


@pytest.fixture
def served() -> Iterator[tuple[OwnServer, str]]:
    """A server of its own, which may be killed, and a database on it."""
    with own_server() as server, postgres_database(server.url) as url:
        yield server, url


def opened(url: str) -> Remanence:
    return Remanence(url, agents=(Shop().agent(),), options=Options(model=Scripted(script), times=FAST))


async def write(url: str) -> None:
    async with opened(url) as rt:
        for name in NAMES:
            session = await rt.open("shop", opening=Opening(session=name))
            for number in range(TURNS):
                await session.send(f"hello {number}")


async def file_of(url: str, relation: str) -> Path:
    """Where a relation lies, with everything in it written there."""
    connection = await asyncpg.connect(url)
    await connection.execute("CHECKPOINT")
    folder = await connection.fetchval("SHOW data_directory")
    path = await connection.fetchval("SELECT pg_relation_filepath($1::regclass)", f"remanence.{relation}")
    await connection.close()
    return Path(folder) / path


def ruin(server: OwnServer, path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change every page of a file while the server is down."""
    server.kill()
    pages = path.read_bytes()
    path.write_bytes(b"".join(change(pages[at : at + PAGE_BYTES]) for at in range(0, len(pages), PAGE_BYTES)))
    server.start()


def no_page(page: bytes) -> bytes:
    """What a checksum would find as well: no page at all."""
    return b"\xa5" * len(page)


def flipped(page: bytes) -> bytes:
    """What only a checksum of pages would find: the header and the places of the rows are whole, their ends are not."""
    lower = int.from_bytes(page[12:14], "little")
    first_row = int.from_bytes(page[14:16], "little")
    rows = page[first_row:]
    return (
        page[:first_row] + bytes(byte ^ 0x55 if at % 64 == 63 else byte for at, byte in enumerate(rows))
        if lower
        else page
    )


async def answered(session: Session, words: str) -> str:
    return await asyncio.wait_for(session.send(words), 20)


@pytest.mark.parametrize("relation", ["snapshots", "snapshots_pkey"])
@pytest.mark.parametrize("change", [no_page, flipped])
async def test_without_its_snapshots_a_session_goes_on(
    served: tuple[OwnServer, str], relation: str, change: Callable[[bytes], bytes]
) -> None:
    server, url = served
    await write(url)
    path = await file_of(url, relation)
    await asyncio.to_thread(ruin, server, path, change)
    async with opened(url) as rt:
        for name in NAMES:
            session = await rt.get(name)
            assert (await session.state()).turns == TURNS
            assert await answered(session, "hello?") == "hello? -> "
            (shown,) = await rt.database.screens.ask(Opened(name))
            assert shown.loaded.summary.turns == TURNS + 1
            found = await verify_session(rt.caller, name)
            assert (found.intact, found.sound) == (True, False)
            assert "nobody uses" in found.wrong_snapshots[0].what
        # Also where the next snapshots would be laid down, and where a fork leaves one.
        for number in range(TURNS):
            assert await answered(session, f"hello {number}")
        fork = await session.fork(turn=TURNS - 1)
        assert await answered(fork, "hello!") == "hello! -> "
        assert (await mend_session(rt.caller, NAMES[0])).dropped
        for name in (*NAMES, fork.id):
            assert (await verify_session(rt.caller, name)).sound
        assert await answered(session, "well?") == "well? -> "


async def test_doctor_says_so(served: tuple[OwnServer, str], tmp_path: Path) -> None:
    server, url = served
    await write(url)
    await asyncio.to_thread(ruin, server, await file_of(url, "snapshots"), no_page)
    runner = CliRunner()
    environment = {"REMANENCE_DATABASE": url}
    said = await asyncio.to_thread(runner.invoke, remanence, ["doctor"], env=environment)
    assert said.exit_code == 1
    assert "a snapshot of session" in said.output
    verify = ["sessions", "verify", "--all"]
    said = await asyncio.to_thread(runner.invoke, remanence, verify, env=environment)
    assert "--mend" in said.output
    said = await asyncio.to_thread(runner.invoke, remanence, [*verify, "--mend"], env=environment)
    assert "Nothing is lost" in said.output
    said = await asyncio.to_thread(runner.invoke, remanence, verify, env=environment)
    assert said.exit_code == 0


@pytest.mark.parametrize("relation", ["snapshots", "snapshots_pkey"])
async def test_an_erasure_goes_through_a_damaged_page_of_snapshots(
    served: tuple[OwnServer, str], relation: str
) -> None:
    server, url = served
    await write(url)
    path = await file_of(url, relation)
    await asyncio.to_thread(ruin, server, path, no_page)
    async with opened(url) as rt:
        receipt = await erasure.erase(rt.caller, "session", "one", reason="asked")
        assert all(check.holds for check in await check_receipt(rt.caller, receipt))
        for name in NAMES:
            assert (await verify_session(rt.caller, name)).sound
            assert await answered(await rt.get(name), "hello?")
