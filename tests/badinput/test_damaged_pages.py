"""One page of a SQLite file that is no page any more: what lies under it is named, everything else goes on."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.shop import Shop, runtime

from remanence.app import Remanence, open_database
from remanence.cli.root import remanence
from remanence.commands import erasure
from remanence.commands.lists import list_sessions
from remanence.commands.proof import check_receipt
from remanence.commands.sessions import Opening
from remanence.commands.verification import mend_session, verify_session
from remanence.errors import StoreCorrupt
from remanence.events import Redacted
from remanence.ports import SessionQuery, Write
from remanence.stores.sqlite.pages import Pages, look_at_pages
from remanence.stores.unreadable import noted_unreadable
from remanence.testing.conformance.harness import said

NAMES = ("one", "two", "three")
TURNS = 40
"""Enough for a snapshot or two, and for pages of records that hold one session's only."""
LOST = 45
"""A record of the first session on the fourth page of records."""
T0 = 2_000_000_000_000_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")

    async def write() -> None:
        async with runtime(folder, None, Shop().agent()) as rt:
            for name in NAMES:
                session = await rt.open("shop", opening=Opening(session=name))
                for number in range(TURNS):
                    await session.send(f"hello {number} " + "and more " * 30)

    asyncio.run(write())
    return folder


def root_of(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]


def ruin(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(16)
        size = int.from_bytes(file.read(2)) % 65_535
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def leaf_of(path: Path, table: str, number: int) -> int:
    """One of the pages below the root of a table, by its place."""
    root = root_of(path, table)
    with path.open("rb") as file:
        file.seek(16)
        size = int.from_bytes(file.read(2)) % 65_535
        file.seek((root - 1) * size)
        page = file.read(size)
    assert page[0] == 5, "the root has pages below it"
    cell = int.from_bytes(page[12 + 2 * number : 14 + 2 * number])
    return int.from_bytes(page[cell : cell + 4])


def page_of_snapshots(path: Path, lies: str) -> int:
    """The page that all of them are found by, or one that some of the first session's lie on."""
    if lies == "root":
        return root_of(path, "snapshots")
    many = [(id_ << 32 | position, b"x" * 400) for id_ in (1, 2, 3) for position in range(2, 90)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO snapshots VALUES (?, ?)", many)
    return leaf_of(path, "snapshots", 1)


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    """A copy of the database, in a folder of its own."""
    shutil.copy(written / "shop.db", tmp_path / "shop.db")
    return tmp_path


def opened(folder: Path) -> Remanence:
    return runtime(folder, None, Shop().agent())


async def test_without_its_snapshots_a_session_goes_on(copied: Path) -> None:
    """Snapshots are a cache: a page of theirs that is gone must not take the sessions along that they were made of."""
    await asyncio.to_thread(ruin, copied / "shop.db", root_of(copied / "shop.db", "snapshots"))
    async with opened(copied) as rt:
        for name in NAMES:
            session = await rt.get(name)
            assert (await session.state()).turns == TURNS
            assert await asyncio.wait_for(session.send("hello?"), 20) == "hello? -> "
            found = await verify_session(rt.caller, name)
            assert (found.intact, found.sound) == (True, False)
            assert "cannot be read, and nobody uses them" in found.wrong_snapshots[0].what
        for number in range(TURNS):  # also where the next snapshots would be laid down
            assert await asyncio.wait_for(session.send(f"hello {number}"), 20)
        assert (await mend_session(rt.caller, "two")).dropped
        fork = await (await rt.get("two")).fork(turn=TURNS - 1)
        assert await asyncio.wait_for(fork.send("hello!"), 20) == "hello! -> "


@pytest.mark.parametrize("lies", ["root", "leaf"])
async def test_a_file_is_rid_of_such_a_page_when_it_is_mended(copied: Path, lies: str) -> None:
    path = copied / "shop.db"
    await asyncio.to_thread(ruin, path, page_of_snapshots(path, lies))
    runner, verify = CliRunner(), ["sessions", "verify", "--all"]
    here = {"REMANENCE_DATABASE": f"sqlite:///{path}"}
    said = await asyncio.to_thread(runner.invoke, remanence, verify, env=here)
    assert (said.exit_code, "verify --all --mend" in said.output) == (1, True)
    said = await asyncio.to_thread(runner.invoke, remanence, [*verify, "--mend"], env=here)
    assert (said.exit_code, "Nothing is lost" in said.output) == (0, True), said.output
    said = await asyncio.to_thread(runner.invoke, remanence, verify, env=here)
    assert said.exit_code == 0, said.output
    assert await asyncio.to_thread(look_at_pages, str(path), timeout_s=60.0) == Pages()
    async with opened(copied) as rt:
        for name in NAMES:
            assert (await (await rt.get(name)).state()).turns == TURNS


@pytest.mark.parametrize("name", ["one", "three"])
@pytest.mark.parametrize("lies", ["root", "leaf"])
async def test_an_erasure_goes_through_a_damaged_page_of_snapshots(copied: Path, lies: str, name: str) -> None:
    """Snapshots are a cache: they are given up, of whichever session they were, and all the rest is as promised."""
    path = copied / "shop.db"
    await asyncio.to_thread(ruin, path, page_of_snapshots(path, lies))
    async with opened(copied) as rt:
        receipt = await erasure.erase(rt.caller, "session", name, reason="asked")
        assert all(check.holds for check in await check_receipt(rt.caller, receipt))
        for other in NAMES:
            found = await verify_session(rt.caller, other)
            assert found.sound, found
            assert await (await rt.get(other)).send("hello?") == "hello? -> "
    assert await asyncio.to_thread(look_at_pages, str(path), timeout_s=60.0) == Pages()


async def test_an_erasure_is_refused_where_records_cannot_be_read(copied: Path) -> None:
    """Nobody can say what stands on such a page. What else there is stays, the snapshots as well."""
    path = copied / "shop.db"
    await asyncio.to_thread(ruin, path, leaf_of(path, "records", 3))
    async with opened(copied) as rt:
        for name in ("one", "two"):  # the page is of the first: the second goes, but not from the file
            with pytest.raises(StoreCorrupt) as caught:
                await erasure.erase(rt.caller, "session", name, reason="asked")
            assert "is damaged" in caught.value.message
        assert await erasure.receipts(rt.caller) == []
        assert await rt.database.snapshots("three")


async def test_one_sessions_damage_is_not_the_others(copied: Path) -> None:
    """Verifying says of each session how it is, also where the database cannot read on."""
    await asyncio.to_thread(ruin, copied / "shop.db", leaf_of(copied / "shop.db", "records", 3))
    async with opened(copied) as rt:
        found = {name: await verify_session(rt.caller, name) for name in NAMES}
        assert [name for name in NAMES if found[name].intact] == ["two", "three"]
        fault = found["one"].fault
        assert fault is not None
        assert "is damaged" in fault.what
        assert fault.position > 1
        assert await (await rt.get("two")).send("hello?") == "hello? -> "


async def test_a_list_says_which_session_cannot_be_read_until_it_can(copied: Path) -> None:
    """Its row is whole, so a list would call it idle for ever."""
    path = copied / "shop.db"
    leaf, whole = leaf_of(path, "records", 3), path.read_bytes()
    await asyncio.to_thread(ruin, path, leaf)

    async def listed(rt: Remanence) -> dict[str, str]:
        return {row.session: row.unreadable for row in (await list_sessions(rt.caller, SessionQuery())).rows}

    async with opened(copied) as rt:
        assert not any((await listed(rt)).values()), "nobody has noticed yet"
        await (await rt.get("one")).submit("hello?")
        async with asyncio.timeout(60):
            while not await noted_unreadable(rt.database, "default"):  # the worker meets it
                await rt.database.store.wait(timeout_s=0.05)
        found = await listed(rt)
        assert [name for name in NAMES if found[name]] == ["one"]
        assert "is damaged" in found["one"]
        said = await asyncio.to_thread(
            CliRunner().invoke, remanence, ["sessions", "list"], env={"REMANENCE_DATABASE": f"sqlite:///{path}"}
        )
        assert said.output.count("unreadable") == 1
    with path.open("r+b") as file:  # mended: the page is what it was
        size = int.from_bytes(whole[16:18]) % 65_535
        file.seek((leaf - 1) * size)
        file.write(whole[(leaf - 1) * size : leaf * size])
    async with Remanence(f"sqlite:///{path}", worker=False) as rt:
        assert await noted_unreadable(rt.database, "default")
        assert not any((await listed(rt)).values())
        assert not await noted_unreadable(rt.database, "default"), "a note of what is mended goes"


async def test_a_write_that_meets_a_damaged_page_fails_alone(copied: Path) -> None:
    """What is committed together with it is somebody else's, and lands."""
    await asyncio.to_thread(ruin, copied / "shop.db", leaf_of(copied / "shop.db", "records", 3))
    database = await open_database(f"sqlite:///{copied}/shop.db")
    try:
        erases = Write(session="one", events=(Redacted(LOST, "ada"),), at=T0, actor="ada")
        writes = [Write(session=name, events=(said("b"),), at=T0, actor="ada") for name in ("two", "three")]
        results = await asyncio.gather(
            *(database.store.append(write) for write in (writes[0], erases, writes[1])), return_exceptions=True
        )
        assert [isinstance(result, StoreCorrupt) for result in results] == [False, True, False]
    finally:
        await database.close()


async def test_pages_are_looked_at(written: Path, copied: Path) -> None:
    path = copied / "shop.db"
    assert await asyncio.to_thread(look_at_pages, str(path), timeout_s=60.0) == Pages()
    assert not (await asyncio.to_thread(look_at_pages, str(path), timeout_s=-1.0)).all_seen
    await asyncio.to_thread(ruin, path, leaf_of(path, "records", 2))
    assert "page" in (await asyncio.to_thread(look_at_pages, str(path), timeout_s=60.0)).fault.lower()
