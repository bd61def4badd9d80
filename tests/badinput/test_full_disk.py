"""A disk that is full: what does not fit is refused with a sentence, what was acknowledged stays, and when there is
room again everything goes on where it was, outcomes of effects included."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runtime.shop import FAST, Shop, call, kinds, script, until

from remanence import Remanence
from remanence.app import Options
from remanence.commands.sessions import Opening
from remanence.commands.transfer import export_session, import_session, verify_session
from remanence.content import text_of
from remanence.errors import NotFound, StoreFull, StoreUnavailable
from remanence.events import InputReceived, ToolReturned
from remanence.models.scripted import Scripted
from remanence.stores.sqlite.database import SqliteDatabase, open_sqlite
from remanence.stores.sqlite.read_only import located
from remanence.stores.sqlite.read_only import on_a_full_disk as on_full
from remanence.stores.sqlite.readers import Readers

ROOM_BYTES = 300_000
"""Beyond what an empty database takes."""
LARGE = "x" * 200_000


async def make_room(database: SqliteDatabase) -> None:
    """The disk grows: SQLite is told of another limit."""
    await database._writer.do(lambda ledger: ledger.connection.execute("PRAGMA max_page_count = 100000").fetchone())


async def opened(tmp_path: Path, bytes_max: int | None = ROOM_BYTES) -> SqliteDatabase:
    path = tmp_path / "full.db"
    await (await open_sqlite(str(path))).close()
    database = await open_sqlite(str(path), bytes_max=bytes_max and path.stat().st_size + bytes_max)
    assert isinstance(database, SqliteDatabase)
    return database


async def emptied(tmp_path: Path) -> None:
    """A database with nothing in it, closed."""
    await (await opened(tmp_path, None)).close()


def runtime(database: SqliteDatabase, shop: Shop) -> Remanence:
    options = Options(database=database, model=Scripted(script), times=FAST)
    return Remanence(agents=[shop.agent()], options=options)


# No compiled module is written where no file may grow: the interpreter would leave the half of one, for everybody.
PYTHON = (sys.executable, "-B")
READER = """
import asyncio, resource, sys
from remanence.stores.sqlite.database import open_sqlite

resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))
asyncio.run(open_sqlite(sys.argv[1], writing=True))
"""
SHORT = """
import resource, sys
from remanence.cli import main

most = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
main()
"""
"""The command line where no file may grow: not the database, and not the 32 KB that the index of its log takes."""


def on_a_full_disk(folder: Path, *words: str, most: int = 16_384) -> tuple[int, str, str]:
    command = [*PYTHON, "-c", SHORT, str(most), "--database", f"sqlite:///{folder}/full.db", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    return done.returncode, done.stdout, done.stderr


async def test_what_a_full_disk_holds_can_be_read_while_nobody_has_it_open(tmp_path: Path) -> None:
    database = await opened(tmp_path, None)
    async with runtime(database, Shop()) as rt:
        session = await rt.open("shop", opening=Opening(session="s1"))
        await session.send("hello")
    await database.close()
    before = (tmp_path / "full.db").read_bytes()
    assert not (tmp_path / "full.db-wal").exists()
    for words in (("sessions", "list"), ("sessions", "verify", "--all"), ("sessions", "tail", "s1")):
        code, out, err = await asyncio.to_thread(on_a_full_disk, tmp_path, *words)
        assert (code, "s1" in out or "hello" in out) == (0, True), err
    code, _, err = await asyncio.to_thread(on_a_full_disk, tmp_path, "sessions", "send", "s1", "more")
    assert (code, "can only be read here: there is no space left on its disk" in err) == (1, True), err
    assert err.endswith("Make room and try again.\n")
    # With something in the log it would not be the whole of it.
    (tmp_path / "full.db-wal").write_bytes(b"something")
    code, _, err = await asyncio.to_thread(on_a_full_disk, tmp_path, "sessions", "list")
    assert (code, "There is no space left" in err) == (1, True), err
    (tmp_path / "full.db-wal").unlink()
    assert (tmp_path / "full.db").read_bytes() == before


def test_a_database_for_which_there_was_never_room_is_not_called_a_stranger(tmp_path: Path) -> None:
    """The file is made, and its first page does not fit: what is there then is ours, and empty."""
    code, _, err = on_a_full_disk(tmp_path, "db", "migrate")
    assert (code, "There is no space left" in err) == (1, True), err
    (tmp_path / "full.db").write_bytes(b"")
    code, _, err = on_a_full_disk(tmp_path, "sessions", "list")
    assert (code, "There is nothing in the database" in err, "no space left" in err) == (1, True, True), err


def test_files_that_do_not_fit_leave_nothing_that_is_in_the_way_later(tmp_path: Path) -> None:
    asyncio.run(emptied(tmp_path))
    settings = tmp_path / "remanence.toml"
    settings.write_text("# mine\n")
    before = sorted(tmp_path.rglob("*"))
    for words, most in (
        (("db", "backup", "copy.db"), 50_000),
        (("init", "hello"), 100),
        (("models", "add", "local", "--base-url", "http://127.0.0.1:1/v1"), 10),
    ):
        code, _, err = on_a_full_disk(tmp_path, *words, most=most)
        assert (code, "partial" in err) == (1, False), err
        assert words[0] == "db" or err.endswith("Make room and try again.\n"), err
        assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "hello"] == before
    assert settings.read_text() == "# mine\n"


async def test_who_reads_on_a_full_disk_hears_that_somebody_wrote_meanwhile(tmp_path: Path) -> None:
    path = str(tmp_path / "full.db")
    await (await open_sqlite(path)).close()
    location = on_full(located(path))
    assert location is not None
    readers = Readers(location)
    assert await readers.run(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    async with Remanence(f"sqlite:///{path}", agents=[Shop().agent()], worker=False) as rt:
        await rt.open("shop")
        for ask in (readers.run, readers.at_once):
            with pytest.raises(StoreUnavailable, match="somebody has written to it since"):
                await ask(lambda connection: connection.execute("SELECT 1").fetchone())
    with pytest.raises(StoreUnavailable, match="run this again"):
        await readers.run(lambda connection: connection.execute("SELECT 1").fetchone())
    await readers.close()


async def test_a_disk_without_room_for_the_index_of_the_log_is_called_full(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    command = [*PYTHON, "-c", READER, str(tmp_path / "full.db")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert "remanence.errors.StoreFull: There is no space left" in done.stderr


async def test_an_input_that_does_not_fit_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    async with runtime(database, Shop()) as rt:
        session = await rt.open("shop")
        assert await session.send("hello")
        before = await session.history()
        await session.submit(LARGE)
        with pytest.raises(StoreFull) as caught:
            await session.submit(LARGE + "?")
        assert "no space left" in caught.value.message
        assert "Nothing of this write was kept; everything acknowledged before is safe." in caught.value.message
        assert "Make room and try again." in caught.value.message
        await make_room(database)
        await session.submit("and now?")
        await until(session, lambda state: state.turns == 3 and state.turn is None)
        history = await session.history()
        assert list(history[: len(before)]) == list(before)
        assert (
            text_of(next(r.event for r in reversed(history) if isinstance(r.event, InputReceived)).parts) == "and now?"
        )
        assert (await verify_session(rt.caller, session.id)).intact
    await database.close()


async def test_the_outcome_of_an_effect_waits_for_room(tmp_path: Path) -> None:
    """The tools have run; a result is too large for what is left. It is kept until it can be written."""
    database = await opened(tmp_path)
    shop = Shop()
    async with runtime(database, shop) as rt:
        session = await rt.open("shop")
        await session.submit(call("hold", n=1) + "\n" + call("bulky", n=600_000))
        await shop.entered.wait()
        shop.gate.set()
        await asyncio.sleep(0.3)
        assert (await kinds(session)).count("ToolReturned") < 2
        await make_room(database)
        await until(session, lambda state: state.turns == 1 and state.turn is None)
        found = await kinds(session)
        assert (shop.calls["hold"], found.count("ToolStarted"), found.count("ToolReturned")) == (1, 2, 2)
        assert "ToolLost" not in found
        large = [r.event for r in await session.history() if isinstance(r.event, ToolReturned) and r.event.blob]
        assert len(await rt.database.blobs.get(large[0].blob or "")) == 600_000
        assert (await verify_session(rt.caller, session.id)).intact
    await database.close()


async def test_an_import_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    source = await opened(tmp_path, None)
    async with runtime(source, Shop()) as rt:
        session = await rt.open("shop", opening=Opening(session="s1"))
        for _ in range(5):
            await session.send("words " * 15_000)
        await export_session(rt.caller, "s1", tmp_path / "s.zip")
    await source.close()
    target = await open_sqlite(str(tmp_path / "small.db"), bytes_max=ROOM_BYTES)
    async with Remanence(worker=False, options=Options(database=target)) as rt:
        with pytest.raises(StoreFull):
            await import_session(rt.caller, tmp_path / "s.zip")
        with pytest.raises(NotFound):
            await rt.get("s1")
        assert (await rt.database.views.stats())["records"] == 0
    await target.close()


FILE_LIMIT = """
import asyncio, resource, signal, sys
from remanence import Remanence
from remanence.errors import StoreError, StoreFull
from remanence.commands.sessions import Opening

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, as on a full disk

async def main() -> None:
    async with Remanence("sqlite:///limited.db") as rt:
        session = await rt.open(agent(), opening=Opening(session="s1"))
        await session.send("hello")
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        refused = None
        for number in range(100):
            try:
                await session.submit(f"{number} " + "x" * 10_000)
            except StoreError as error:
                refused = (number, type(error).__name__, error.message)
                break
        assert refused is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await session.submit("last")
        async for _ in session.events():
            state = await session.state()
            if not state.queue and state.turn is None:
                break
        print(*refused, state.turns, sep="|")

def agent():
    from remanence import Agent
    return Agent("echo", model="scripted")

asyncio.run(main())
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The system itself refuses to let the file grow, and later lets it: every input that was accepted is answered."""
    done = subprocess.run(
        [*PYTHON, "-c", FILE_LIMIT], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    accepted, error, message, turns = done.stdout.strip().split("|")
    assert error in (StoreFull.__name__, StoreUnavailable.__name__)
    assert "Everything acknowledged before is safe" in message or "everything acknowledged before is safe" in message
    assert int(turns) in (int(accepted) + 2, int(accepted) + 3)
