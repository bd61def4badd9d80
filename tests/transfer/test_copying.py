"""`db copy` and `db backup`: everything arrives, forks as forks, and the sessions go on there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from moving import World, erase, runtime

from remanence import Agent
from remanence.app import Remanence, open_database
from remanence.commands.copying import backup_database, copy_database
from remanence.commands.sessions import Opening
from remanence.commands.transfer import verify_session
from remanence.errors import Conflict, InvalidInput, RemanenceError, StoreUnavailable
from remanence.ports import Entry, EntryQuery, RawRecord, Registry, SessionQuery, SessionRow
from remanence.runtime.around import DatabaseAround
from remanence.spec import Limits


async def furnish(rt: Remanence) -> None:
    """Two agents' versions, a session with a fork and a fork of that, a budget, a freeze, an erasure."""
    session = await rt.open("support", opening=Opening(session="root", user="ada"))
    await session.send("hello")
    await session.send("report")
    await rt.set_budget("user:ada", tokens=100_000)
    await session.send("refund 900")
    fork = await session.fork(turn=1)
    await fork.send("a long message " + "x" * 70_000)
    await (await fork.fork(turn=1)).send("third")
    await erase(rt, "root", 2)
    await rt.freeze("project:elsewhere", reason="under repair")
    await rt.database.registry.put(Entry("api_key", "default", "k1", 5, 6, b'{"hash":"..."}'))


async def everything(rt: Remanence) -> dict[str, object]:
    """What must be the same in both."""
    rows = sorted(await rt.database.views.sessions(SessionQuery()), key=lambda row: row.session)
    versions = await rt.database.specs.versions(None)
    return {
        "rows": [(row.session, row.head, row.opened_at, row.updated_at, row.summary, row.fork) for row in rows],
        "journals": {row.session: list(await rt.database.raw(row.session)) for row in rows},
        "versions": [(one.project, one.agent, one.number, one.version, one.at) for one in versions],
        "budgets": [(one.scope, one.limit, one.spent) for one in await rt.database.controls.budgets()],
        "entries": list(await rt.database.registry.list(EntryQuery("api_key"))),
        "holds": [(one.scope, one.at, one.by, one.reason) for one in await rt.database.controls.holds()],
    }


@pytest.mark.parametrize("way", ["there", "back"])
async def test_everything_arrives(way: str, tmp_path: Path, empty_postgres_database: str) -> None:
    world = World()
    urls = [f"sqlite:///{tmp_path}/a.db", empty_postgres_database]
    here, there = urls if way == "there" else urls[::-1]
    async with runtime(here, world) as rt:
        await furnish(rt)
        await (await rt.open("support", opening=Opening(session="bounded"))).send("hello")
    async with runtime(here, world, worker=False) as rt, runtime(there, world, worker=False) as target:
        told: list[str] = []
        copied = await copy_database(rt.database, target.database, told.append)
        assert (copied.sessions, copied.present, copied.refused) == (4, 0, ())
        assert (copied.blobs, copied.versions, copied.entries, copied.budgets, copied.holds) == (1, 1, 1, 1, 1)
        assert sorted(told) == sorted(row.session for row in await rt.database.views.sessions(SessionQuery()))
        assert await everything(target) == await everything(rt)
        for session in told:
            assert (await verify_session(target.caller, session)).intact
        again = await copy_database(rt.database, target.database)
        assert (again.sessions, again.present, again.records) == (0, 4, 0)
    async with runtime(there, world) as target:
        session = await target.get("root")
        assert (await session.send("and now?")).startswith("I remember 4 messages")


async def test_a_copy_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    async with runtime(f"sqlite:///{tmp_path}/a.db", World()) as rt:
        await furnish(rt)
        target = await open_database(f"sqlite:///{tmp_path}/b.db")

        class Interrupted(Exception):
            pass

        def stop_at_the_third(session: str, seen: list[str] = []) -> None:  # noqa: B006 - it counts
            seen.append(session)
            if len(seen) == 3:
                raise Interrupted

        with pytest.raises(Interrupted):
            await copy_database(rt.database, target, stop_at_the_third)
        copied = await copy_database(rt.database, target)
        assert (copied.sessions, copied.present, copied.refused) == (1, 2, ())
        await target.close()


async def test_a_session_that_differs_or_is_damaged_is_left_and_named(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        for name in ("good", "other", "bad"):
            await (await rt.open("support", opening=Opening(session=name))).send("hello")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute(
            "UPDATE records SET at = at + 1 WHERE place = ((SELECT id FROM sessions WHERE name = 'bad') << 32 | 2)"
        )
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as target:
        await (await target.open("support", opening=Opening(session="other"))).send("something else")
        before = await (await target.get("other")).history()
        async with runtime(f"sqlite:///{tmp_path}/a.db", world, worker=False) as rt:
            copied = await copy_database(rt.database, target.database)
            with pytest.raises(InvalidInput, match="the same database"):
                await copy_database(rt.database, rt.database)
        why = {one.session: one.why for one in copied.refused}
        assert copied.sessions == 1
        assert why.keys() == {"bad", "other"}
        assert "Record 2 is not as it was written" in why["bad"]
        assert "another journal; it was left as it is" in why["other"]
        assert await (await target.get("other")).history() == before


async def test_a_session_that_was_not_at_rest_goes_on_in_the_copy(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world, worker=False) as rt:
        session = await rt.open("support", opening=Opening(session="s1"))
        await session.submit("refund 100")
        target = await open_database(f"sqlite:///{tmp_path}/b.db")
        await copy_database(rt.database, target)
        await target.close()
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        async for _ in (await rt.get("s1")).events():
            if (await (await rt.get("s1")).state()).last_turn == "completed":
                break
    assert world.refunds == ["s1:1:call_1_1_1"]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a.db"
    return request.getfixturevalue("empty_postgres_database")


async def test_a_backup_is_a_database_of_its_own(place: str, tmp_path: Path) -> None:
    world = World()
    async with runtime(place, world, limits=Limits(session_tokens=5_000_000)) as rt:
        await furnish(rt)
        copied = await backup_database(rt.database, tmp_path / "backup.db")
        assert (copied is None) == place.startswith("sqlite")
        with pytest.raises(Conflict, match="left as it is"):
            await backup_database(rt.database, tmp_path / "backup.db")
        with pytest.raises(RemanenceError):
            await backup_database(rt.database, tmp_path / "absent" / "backup.db")
        before = await everything(rt)
    assert os.stat(tmp_path / "backup.db").st_mode & 0o777 == 0o600
    async with runtime(f"sqlite:///{tmp_path}/backup.db", world, worker=False) as rt:
        assert await everything(rt) == before
    assert [name for name in os.listdir(tmp_path) if "backup" in name] == ["backup.db"]


async def test_a_backup_that_is_not_whole_in_its_file_is_not_put_there(postgres_database: str, tmp_path: Path) -> None:
    """Whoever has the unfinished file open keeps its last pages in the log beside it, which would stay behind."""
    held: list[sqlite3.Connection] = []

    def look(_: str) -> None:
        if not held:
            held.append(sqlite3.connect(tmp_path / ".backup.db.partial"))
            held[0].execute("SELECT count(*) FROM sqlite_master").fetchone()

    async with runtime(postgres_database, World(), worker=False) as rt:
        await rt.open("support", opening=Opening(session="root"))
        with pytest.raises(StoreUnavailable, match="Nothing was put"):
            await backup_database(rt.database, tmp_path / "backup.db", look)
        held[0].close()
        assert not (tmp_path / "backup.db").exists()
        await backup_database(rt.database, tmp_path / "backup.db")


class ErasedMeanwhile(DatabaseAround):
    """A database in which a session is erased when its records are about to be read for the first time."""

    def __init__(self, rt: Remanence, session: str) -> None:
        super().__init__(rt.database)
        self._rt = rt
        self._session = session
        self.raw = self._erased

    async def _erased(self, session: str, *, after: int = 0, limit: int = 1_000) -> Sequence[RawRecord]:
        if session == self._session:
            self._session = ""
            await self._rt.memory.erase("session", session, reason="asked to")
        return await self._rt.database.raw(session, after=after, limit=limit)


@pytest.mark.parametrize("erased", ["root", "fork"])
async def test_what_is_erased_meanwhile_is_whole_in_the_copy(erased: str, tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        session = await rt.open("support", opening=Opening(session="root", user="ada"))
        await session.send("hello")
        fork = await session.fork()
        await fork.send("report")
        source = ErasedMeanwhile(rt, "root" if erased == "root" else fork.id)
        async with runtime(f"sqlite:///{tmp_path}/b.db", world, worker=False) as target:
            copied = await copy_database(source, target.database)
            assert not copied.refused
            for one in ("root", fork.id):
                assert (await verify_session(target.caller, one)).sound, one
            assert (await target.database.views.session("root")).head == (await rt.database.views.session("root")).head


class RemovedMeanwhile(DatabaseAround):
    """A database in which the last entry of the first page of a kind is removed once it was read."""

    def __init__(self, rt: Remanence, kind: str) -> None:
        super().__init__(rt.database)
        self.registry = _Removing(rt.database.registry, kind)  # pyright: ignore[reportAttributeAccessIssue]


class _Removing:
    def __init__(self, registry: Registry, kind: str) -> None:
        self._registry = registry
        self._kind = kind

    def __getattr__(self, name: str) -> object:
        return getattr(self._registry, name)

    async def list(self, query: EntryQuery) -> Sequence[Entry]:
        page = await self._registry.list(query)
        if query.kind == self._kind:
            self._kind = ""
            await self._registry.remove(query.kind, page[-1].id)
        return page


async def test_an_entry_that_goes_between_two_pages_is_no_error(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world, worker=False) as rt:
        for number in range(3):
            await rt.database.registry.put(Entry("note", "default", f"n{number}", 5, 6, b"{}"))
        async with runtime(f"sqlite:///{tmp_path}/b.db", world, worker=False) as target:
            source = RemovedMeanwhile(rt, "note")
            await copy_database(source, target.database)  # pyright: ignore[reportArgumentType]
            assert {one.id for one in await target.database.registry.list(EntryQuery("note"))} == {"n0", "n1"}


class BegunMeanwhile(DatabaseAround):
    """A database in which a session of an agent that nobody had told before is opened when the sessions are listed."""

    def __init__(self, rt: Remanence) -> None:
        super().__init__(rt.database)
        self.views = _Beginning(rt)  # pyright: ignore[reportAttributeAccessIssue]


class _Beginning:
    def __init__(self, rt: Remanence) -> None:
        self._rt = rt
        self._begun = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._rt.database.views, name)

    async def sessions(self, query: SessionQuery) -> Sequence[SessionRow]:
        if not self._begun:
            self._begun = True
            newcomer = Agent("newcomer", model="scripted", instructions="Welcome them.", memory=True)
            await self._rt.open(newcomer, opening=Opening(session="late"))
        return await self._rt.database.views.sessions(query)


async def test_the_version_of_a_session_that_begins_meanwhile_is_in_the_copy(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world, worker=False) as rt:
        await rt.open("support", opening=Opening(session="root", user="ada"))
        async with runtime(f"sqlite:///{tmp_path}/b.db", world, worker=False) as target:
            source = BegunMeanwhile(rt)
            copied = await copy_database(source, target.database)  # pyright: ignore[reportArgumentType]
            assert (copied.sessions, copied.versions) == (2, 2)
            assert await everything(target) == await everything(rt)
            assert await target.memory.catch_up() == 2


async def test_a_database_is_not_copied_onto_itself_by_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mistypes the target must not go away with the belief that there is a copy."""
    monkeypatch.chdir(tmp_path)
    await (await open_database("sqlite:///a.db")).close()
    (tmp_path / "link.db").symlink_to("a.db")
    for first, second in ((f"{tmp_path}/a.db", "a.db"), ("a.db", "link.db")):
        source, target = await open_database(f"sqlite:///{first}"), await open_database(f"sqlite:///{second}")
        with pytest.raises(InvalidInput, match="the same database"):
            await copy_database(source, target)
        await target.close()
        await source.close()
