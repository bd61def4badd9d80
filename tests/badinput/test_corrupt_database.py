"""A database file that is damaged or is none: said so, left as it is, and never read as something it is not."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.runtime.shop import Shop, call, runtime

from remanence import Remanence
from remanence.app import open_database
from remanence.commands.caller import Caller
from remanence.commands.search import catch_up
from remanence.commands.sessions import Opening
from remanence.commands.transfer import verify_session
from remanence.commands.usage import usage
from remanence.errors import InvalidConfig, NotFound, RemanenceError, StoreCorrupt
from remanence.events import ToolReturned
from remanence.ports import Database, RawRecord, SessionQuery, UsageQuery
from remanence.runtime.clock import SystemClock
from remanence.runtime.live import Hub

FLIPS = 150


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[RawRecord]]]:
    """A database of three sessions, closed in order, and their journals."""
    folder = tmp_path_factory.mktemp("written")
    journals: dict[str, list[RawRecord]] = {}

    async def write() -> None:
        async with runtime(folder, None, Shop().agent()) as rt:
            for name in ("one", "two", "three"):
                session = await rt.open("shop", opening=Opening(session=name))
                await session.send(call("refund", order=name, cents=900))
                await session.send(call("bulky", n=100_000))
            for name in ("one", "two", "three"):
                journals[name] = list(await rt.database.raw(name))

    asyncio.run(write())
    return folder / "shop.db", journals


def caller(database: Database) -> Caller:
    clock = SystemClock()
    return Caller(database, Hub(clock), clock, lambda prefix: prefix)


async def refusal(path: Path) -> RemanenceError:
    """What opening says of a file, which must not change by it."""
    before = await asyncio.to_thread(path.read_bytes)
    with pytest.raises(RemanenceError) as caught:
        await open_database(f"sqlite:///{path}")
    assert await asyncio.to_thread(path.read_bytes) == before
    return caught.value


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    await asyncio.to_thread(path.write_text, "Dear diary, " * 1_000)
    error = await refusal(path)
    assert isinstance(error, StoreCorrupt)
    assert "notes.db is damaged or is not a database" in error.message
    assert "The file was left as it is" in error.message


async def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    error = await refusal(path)
    assert isinstance(error, InvalidConfig)
    assert "is a SQLite database of another program. It was left as it is; give another path." in error.message


@pytest.mark.parametrize("path", ["{tmp}", "{tmp}/file/inside.db", "/proc/nowhere/x.db"])
async def test_a_path_that_cannot_be_a_file(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RemanenceError) as caught:
        await open_database(f"sqlite:///{path.format(tmp=tmp_path)}")
    assert "check the folder" in caught.value.message.lower()


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.7, 0.95])
async def test_a_file_cut_short(kept: float, written: tuple[Path, dict[str, list[RawRecord]]], tmp_path: Path) -> None:
    """What is still there can be read; what is not is an error, not an empty answer."""
    content = await asyncio.to_thread(written[0].read_bytes)
    path = tmp_path / "cut.db"
    await asyncio.to_thread(path.write_bytes, content[: int(len(content) * kept)])
    assert await seen(path, written[1]) in ("refused", "found out")


async def seen(path: Path, journals: dict[str, list[RawRecord]]) -> str:
    """What becomes of a damaged file: `refused` when it is opened, `found out` when it is read or verified, or `the
    same` when every journal in it is as it was written. Anything else fails."""
    try:
        database = await open_database(f"sqlite:///{path}")
    except RemanenceError:
        return "refused"
    try:
        intact = [await same(database, name, journal) for name, journal in journals.items()]
    finally:
        await database.close()
    return "the same" if all(intact) else "found out"


async def same(database: Database, name: str, journal: list[RawRecord]) -> bool:
    """Whether a session reads as it was written; False when that is noticed to be otherwise."""
    message = ""
    try:
        if not (await verify_session(caller(database), name)).intact:
            return False
        rows = list(await database.raw(name))
        await database.store.load(name)
        await database.views.sessions(SessionQuery())
    except RemanenceError as error:
        message = error.message
    assert "report it" not in message, message
    if not message:
        assert rows == journal, f"{name} reads as something it is not, and verifies"
    return not message


async def test_any_byte_may_flip(written: tuple[Path, dict[str, list[RawRecord]]], tmp_path: Path) -> None:
    """One byte anywhere in the file, many times: never a traceback, never a journal that is wrong and verifies."""
    path = tmp_path / "flipped.db"
    size = (await asyncio.to_thread(written[0].stat)).st_size
    dice = random.Random(11)
    counted = {"refused": 0, "found out": 0, "the same": 0}
    for _ in range(FLIPS):
        await asyncio.to_thread(shutil.copy, written[0], path)
        at = dice.randrange(size)
        await asyncio.to_thread(flip, path, at, 1 << dice.randrange(8))
        counted[await seen(path, written[1])] += 1
        for suffix in ("-wal", "-shm"):
            await asyncio.to_thread(Path(f"{path}{suffix}").unlink, missing_ok=True)
    assert counted["found out"] > FLIPS / 3, counted


def flip(path: Path, at: int, bits: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bits]))


async def test_one_damaged_session_does_not_stop_the_others(
    written: tuple[Path, dict[str, list[RawRecord]]], tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    await asyncio.to_thread(shutil.copy, written[0], path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            'UPDATE records SET payload = CAST(\'{"type":"TurnSta\' AS BLOB) '
            "WHERE place = ((SELECT id FROM sessions WHERE name = 'two') << 32 | 3)"
        )
    async with runtime(tmp_path, None, Shop().agent()) as rt:
        two = await rt.get("two")
        with pytest.raises(StoreCorrupt, match="The record was left as it is; run `remanence sessions verify`"):
            await two.history()
        await two.submit("hello?")
        assert await (await rt.get("one")).send("hello") == "hello -> "
        found = await verify_session(rt.caller, "two")
        assert found.fault is not None
        assert (found.fault.position, rt.worker is not None and rt.worker.alive) == (3, True)


async def test_a_blob_is_what_its_name_says_or_is_not_handed_out(tmp_path: Path) -> None:
    """Large content lies beside the journal: what was put in its place is neither shown nor given to a model."""
    path = tmp_path / "shop.db"
    async with runtime(tmp_path, None, Shop().agent()) as rt:
        result = await rt.open("shop")
        await result.send(call("bulky", n=100_000))
        said = await rt.open("shop")
        await said.send("x" * 100_000)
    with closing(sqlite3.connect(path)) as connection, connection:
        for digest, content in connection.execute("SELECT digest, content FROM blobs").fetchall():
            connection.execute(
                "UPDATE blobs SET content = ? WHERE digest = ?", (content.replace(b"xxx", b"yyy"), digest)
            )
    async with runtime(tmp_path, None, Shop().agent()) as rt:
        (blob,) = [
            record.event.blob
            for record in await (await rt.get(result.id)).history()
            if isinstance(record.event, ToolReturned)
        ]
        assert blob is not None
        with pytest.raises(StoreCorrupt, match=f"The content of blob {blob} is damaged"):
            await rt.database.blobs.get(blob)
        with pytest.raises(StoreCorrupt, match=f"record 2 of session '{said.id}', which lies among the blobs"):
            await (await rt.get(said.id)).history()
        for session in (result, said):
            assert not (await verify_session(rt.caller, session.id)).intact


# --- what is made from journals ---------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    """The last records of `two` are gone, and `three` cannot be found by its name any more."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "DELETE FROM records WHERE place > ((SELECT id FROM sessions WHERE name = 'two') << 32 | 5) "
            "AND place < (((SELECT id FROM sessions WHERE name = 'two') + 1) << 32)"
        )
    content = path.read_bytes()
    for at in (at for at in range(len(content)) if content.startswith(b"three", at)):
        flip(path, at + 4, 1)
        with closing(sqlite3.connect(path)) as connection:
            if ("thred",) in connection.execute("SELECT name FROM sessions NOT INDEXED").fetchall():
                return
        flip(path, at + 4, 1)
    raise AssertionError("the name stands nowhere")


async def test_sums_words_and_memories_leave_out_what_cannot_be_read(
    written: tuple[Path, dict[str, list[RawRecord]]], tmp_path: Path
) -> None:
    """A journal whose end is missing, and one whose name is damaged: the others are counted, found and remembered."""
    path = tmp_path / "shop.db"
    await asyncio.to_thread(shutil.copy, written[0], path)
    with closing(sqlite3.connect(path)) as connection, connection:
        for view in ("cursors", "usage_hours", "usage_days", "search_words"):
            connection.execute(f"DELETE FROM {view}")
    await asyncio.to_thread(cut, path)
    async with Remanence(f"sqlite:///{path}", worker=False) as rt:
        rows, unread = await usage(rt.caller, UsageQuery(by=("session",)))
        assert {row.key[0] for row in rows if row.calls > 1} == {"one"}
        assert {"two"} <= set(unread) <= {"two", "three", "thred"}
        assert await catch_up(rt.caller, within_s=30) == 0
        with pytest.raises((StoreCorrupt, NotFound)) as caught:
            await asyncio.wait_for(rt.memory.rebuild(), 30)
        assert "report it" not in caught.value.message
    ran = await asyncio.to_thread(told, path, "sessions", "verify", "--all")
    assert ran.returncode == 1
    assert ran.stderr.startswith("1 session of 3 as written.\n")
    assert "it is listed, and cannot be found by its name" in ran.stderr


def test_a_row_without_an_actor_and_a_version_that_is_no_json(
    written: tuple[Path, dict[str, list[RawRecord]]], tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    shutil.copy(written[0], path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE records SET actor = NULL WHERE place & 4294967295 = 4")
        connection.execute("UPDATE records SET digest = x'00' WHERE place & 4294967295 = 3")
        connection.execute("UPDATE versions SET spec = substr(spec, 1, 40)")
    for words in (("sessions", "verify", "--all"), ("agents", "versions", "shop"), ("sessions", "fork", "one")):
        ran = told(path, *words)
        assert ran.returncode == 1, ran
        assert "report it" not in ran.stderr, ran.stderr


def told(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "remanence", *words, "--database", f"sqlite:///{path}")
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
