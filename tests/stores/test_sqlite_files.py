"""The SQLite file in bad company: full, locked, damaged, foreign, newer, and what leaves it for good."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from remanence.content import Text
from remanence.errors import Conflict, InvalidConfig, StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from remanence.events import InputReceived, Redacted, SessionOpened
from remanence.ports import Database, SessionQuery, Write
from remanence.stores.sqlite.database import SqliteDatabase, open_sqlite
from remanence.stores.sqlite.schema import migrate, waiting
from remanence.stores.verify import verify_session

T0 = 1_790_000_000_000_000
Changes = list[tuple[str, tuple[object, ...]]]


def opened(session: str = "s") -> Write:
    return Write(session, (SessionOpened("a", "v", "p"),), T0, "ada")


def said(*texts: str, session: str = "s") -> Write:
    return Write(session, tuple(InputReceived("in", (Text(text),)) for text in texts), T0, "ada")


def got(path: str) -> bytes:
    return Path(path).read_bytes()


def put(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


def is_there(path: str) -> bool:
    return Path(path).exists()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "remanence.db")


@pytest.fixture
async def db(path: str) -> AsyncIterator[SqliteDatabase]:
    database = await open_sqlite(path, lock_timeout_s=0.2)
    yield database
    await database.close()


@pytest.fixture
def outsider(path: str, db: SqliteDatabase) -> Iterator[sqlite3.Connection]:
    """Another program with the file open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


# --- closed -----------------------------------------------------------------------------------------------------------


async def test_a_closed_database_is_one_file(path: str) -> None:
    """Nothing stays in the log beside it: a file that is moved takes everything along."""
    for number in range(100):
        db = await open_sqlite(path)
        await db.store.append(opened(f"s{number}"))
        await asyncio.gather(*(db.store.read(f"s{number}") for _ in range(4)), db.views.stats(), db.views.stats())
        await db.close()
        assert not is_there(f"{path}-wal")


# --- full -------------------------------------------------------------------------------------------------------------


async def fill(db: Database) -> int:
    """Write until there is no more room; returns the last position that was acknowledged."""
    head = 0
    for number in range(10_000):
        try:
            head = (await db.store.append(said(f"{number} " + "x" * 3_000))).head
        except StoreFull:
            return head
    raise AssertionError("the limit was never reached")


async def test_a_full_disk_keeps_what_was_acknowledged(path: str) -> None:
    db = await open_sqlite(path, bytes_max=400_000)
    await db.store.append(opened())
    head = await fill(db)
    # The writer lives, small writes beside large ones are not dragged down, and reading goes on.
    large = said("y" * 60_000)
    outcomes = await asyncio.gather(*(db.store.append(large) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, StoreFull) for outcome in outcomes)
    assert "everything acknowledged before is safe" in str(outcomes[0])
    assert (await db.views.session("s")).head == head
    assert (await verify_session(db, "s")).flaws == ()
    await db.close()
    roomier = await open_sqlite(path)
    assert (await roomier.store.append(said("at last"))).head == head + 1
    assert (await verify_session(roomier, "s")).flaws == ()
    await roomier.close()


async def test_a_small_write_fits_where_its_large_neighbours_do_not(path: str) -> None:
    db = await open_sqlite(path, bytes_max=600_000)
    await db.store.append(opened())
    await db.store.append(opened("t"))
    large = said("y" * 2_000_000)
    writes = [large, said("small", session="t"), large, said("small too", session="t")]
    outcomes = await asyncio.gather(*(db.store.append(write) for write in writes), return_exceptions=True)
    assert [isinstance(outcome, StoreFull) for outcome in outcomes] == [True, False, True, False]
    assert len(await db.store.read("t")) == 3
    assert len(await db.store.read("s")) == 1
    await db.close()


# --- locked -----------------------------------------------------------------------------------------------------------


async def test_a_locked_database_says_so_and_recovers(db: SqliteDatabase, outsider: sqlite3.Connection) -> None:
    await db.store.append(opened())
    outsider.execute("BEGIN IMMEDIATE")
    outcomes = await asyncio.gather(*(db.store.append(said(str(n))) for n in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert "locked" in str(outcomes[0])
    # Readers never wait for a writer.
    assert len(await db.store.read("s")) == 1
    outsider.execute("ROLLBACK")
    assert (await db.store.append(said("now"))).head == 2


async def test_a_write_waits_for_a_lock_that_is_given_back(path: str) -> None:
    db = await open_sqlite(path, lock_timeout_s=60)
    await db.store.append(opened())
    with closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        waiting_write = asyncio.create_task(db.store.append(said("patient")))
        await asyncio.sleep(0.02)
        assert not waiting_write.done()
        outsider.execute("ROLLBACK")
        assert (await waiting_write).head == 2
    await db.close()


async def test_a_reader_that_stays_keeps_nobody_from_writing(db: SqliteDatabase, outsider: sqlite3.Connection) -> None:
    await db.store.append(opened())
    outsider.execute("BEGIN")
    before = outsider.execute("SELECT count(*) FROM records").fetchone()
    for number in range(20):
        await db.store.append(said(str(number)))
    await db.store.append(Write("s", (Redacted(2, "ada"),), T0, "ada"))
    assert outsider.execute("SELECT count(*) FROM records").fetchone() == before
    outsider.execute("ROLLBACK")


# --- damaged ----------------------------------------------------------------------------------------------------------


async def test_what_is_not_a_database_is_refused_and_left_alone(path: str) -> None:
    before = b"these are my notes, not a database\n" * 100
    put(path, before)
    with pytest.raises(StoreCorrupt, match="not a database"):
        await open_sqlite(path)
    assert got(path) == before


async def test_damaged_pages_are_reported_and_the_rest_still_reads(path: str) -> None:
    db = await open_sqlite(path)
    for name in ("s", "t"):
        await db.store.append(opened(name))
    for number in range(200):
        await db.store.append(said(f"{number} " + "x" * 300, session="t"))
    await db.close()
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records'").fetchone()
    content = bytearray(got(path))
    content[(root - 1) * 4096 : (root - 1) * 4096 + 64] = b"\xff" * 64
    put(path, bytes(content))
    again = await open_sqlite(path)
    with pytest.raises(StoreCorrupt, match="restore a backup"):
        await again.store.read("t")
    with pytest.raises(StoreCorrupt):
        await again.store.append(said("more", session="t"))
    assert len(await again.views.sessions(SessionQuery())) == 2
    await again.close()


TAMPERINGS: dict[str, Changes] = {
    "a flipped byte": [("UPDATE records SET payload = replace(payload, 'x3', 'y3') WHERE place & 255 = 5", ())],
    "a moment": [("UPDATE records SET at = at + 1 WHERE place & 255 = 5", ())],
    "an actor": [("UPDATE records SET actor = 'eve' WHERE place & 255 = 5", ())],
    "a digest": [("UPDATE records SET digest = zeroblob(32) WHERE place & 255 = 5", ())],
    "a dropped record": [("DELETE FROM records WHERE place & 255 = 5", ())],
    "the last record dropped": [("DELETE FROM records WHERE place & 255 = 10", ())],
    "two swapped records": [
        ("UPDATE records SET place = -1 WHERE place & 255 = 5", ()),
        ("UPDATE records SET place = place - 1 WHERE place & 255 = 6", ()),
        ("UPDATE records SET place = (1 << 32) | 6 WHERE place = -1", ()),
    ],
    "a redaction nobody announced": [
        (
            "UPDATE records SET payload_digest = (SELECT digest FROM records WHERE place & 255 = 4) "
            "WHERE place & 255 = 5",
            (),
        ),
    ],
    "content missing beside the journal": [("DELETE FROM blobs", ())],
    "content changed beside the journal": [("UPDATE blobs SET content = replace(content, 'z', 'y')", ())],
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_tampering_shows(how: str, db: SqliteDatabase, outsider: sqlite3.Connection) -> None:
    await db.store.append(opened())
    for number in range(8):
        await db.store.append(said(f"x{number}"))
    await db.store.append(said("z" * 70_000))
    assert (await verify_session(db, "s")).flaws == ()
    for sql, values in TAMPERINGS[how]:
        outsider.execute(sql, values)
    flaws = (await verify_session(db, "s")).flaws
    assert flaws, how
    assert {flaw.position for flaw in flaws} <= {5, 6, 7, 10}


async def test_a_journal_that_cannot_be_read_leaves_no_reader_in_the_past(
    db: SqliteDatabase, outsider: sqlite3.Connection
) -> None:
    """A read that was given up in the middle holds on to nothing, even while somebody holds on to its error."""
    for session in ("s", "t"):
        await db.store.append(opened(session))
    for number in range(8):
        await db.store.append(said(f"x{number}"))
    outsider.execute('UPDATE records SET payload = CAST(\'{"type":"Inp\' AS BLOB) WHERE place & 4294967295 = 3')
    reads = [db.store.read("s") for _ in range(8)]
    errors = await asyncio.gather(*reads, return_exceptions=True)
    assert all(isinstance(error, StoreCorrupt) for error in errors)
    await db.store.append(said("news", session="t"))
    for _ in range(8):
        assert [len(records) for records in await asyncio.gather(*(db.store.read("t") for _ in range(8)))] == [2] * 8


# --- foreign, newer, unreachable --------------------------------------------------------------------------------------


async def test_a_database_of_another_program_is_left_alone(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = got(path)
    with pytest.raises(InvalidConfig, match="another program"):
        await open_sqlite(path)
    assert got(path) == before


async def test_a_newer_schema_is_refused(path: str) -> None:
    await (await open_sqlite(path)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES (9999, 'from_the_future', 'digest')")
    with pytest.raises(StoreError, match="newer"):
        await open_sqlite(path)


async def test_a_migration_in_other_words_is_refused(path: str) -> None:
    await (await open_sqlite(path)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE migrations SET digest = 'another' WHERE number = 1")
    with pytest.raises(StoreError, match="wording"):
        await open_sqlite(path)


async def test_migrating_is_done_once(path: str) -> None:
    numbers = [migration.number for migration in await waiting(path)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert not await asyncio.to_thread(Path(path).exists)
    done = await asyncio.gather(*(migrate(path) for _ in range(4)))
    assert sum(len(each) for each in done) == len(numbers)
    assert await waiting(path) == ()


async def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="permissions"):
        await open_sqlite(str(tmp_path / "file" / "remanence.db"))


async def test_the_folder_is_made_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "some where" / "été?" / "remanence.db"
    await (await open_sqlite(str(path))).close()
    assert path.stat().st_mode & 0o077 == 0
    assert [each.name for each in path.parent.iterdir()] == ["remanence.db"]


async def test_an_ephemeral_database_leaves_nothing() -> None:
    db = await open_sqlite(":memory:")
    await db.store.append(opened())
    assert (await db.store.append(said("one"))).head == 2
    assert len(await db.store.read("s")) == 2
    folder = Path(db.path).parent
    assert db.url == "sqlite:///:memory:"
    await db.close()
    assert not folder.exists()


# --- copies and erasure -----------------------------------------------------------------------------------------------


async def test_a_backup_is_the_database_at_one_moment(db: SqliteDatabase, tmp_path: Path) -> None:
    await db.store.append(opened())
    copy = str(tmp_path / "copy.db")

    async def write_on() -> None:
        for number in range(50):
            await db.store.append(said(str(number), "and more"))

    await asyncio.gather(write_on(), db.backup(copy))
    with pytest.raises(Conflict):
        await db.backup(copy)
    restored = await open_sqlite(copy)
    verified = await verify_session(restored, "s")
    assert verified.flaws == ()
    assert verified.records % 2 == 1
    assert (await restored.store.append(said("on its own"))).head == verified.records + 1
    await restored.close()
    assert (await db.views.session("s")).head == 101


async def test_what_was_redacted_leaves_the_file(db: SqliteDatabase, path: str) -> None:
    await db.store.append(opened())
    large = "a secret in a blob " * 5_000
    await db.store.append(said("a secret in a row", large))
    await db.store.append(Write("s", (Redacted(2, "ada"), Redacted(3, "ada")), T0, "ada"))
    await db.store.append(said("one more, so that the log was emptied before"))
    await db.close()
    for file in await asyncio.to_thread(lambda: list(Path(path).parent.iterdir())):
        assert b"secret" not in await asyncio.to_thread(file.read_bytes), file.name
