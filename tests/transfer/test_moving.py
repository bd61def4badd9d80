"""A session moves to another database, of another kind, and goes on with its very next turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from moving import REPORT, World, erase, runtime, support
from msgspec.structs import replace

from remanence.app import Remanence
from remanence.commands.sessions import Opening
from remanence.commands.transfer import export_session, import_session, verify_session
from remanence.content import File, Text, ToolCall
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.events import ToolReturned
from remanence.spec import Limits

BIG = "a message that is larger than a row of the journal may be: " + "x" * 70_000


async def test_from_sqlite_to_postgresql_and_back(tmp_path: Path, postgres_database: str) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        session = await rt.open("support", user="ada", opening=Opening(session="s1", user="ada"))
        await session.send("hello")
        await session.send("refund 900")
        await session.send("report")
        blob = await rt.database.blobs.put(b"a picture of a broken vase")
        await session.send((Text(BIG), File("image/png", name="vase", blob=blob)))
        exported = await export_session(rt.caller, "s1", tmp_path / "one.zip")
        before = await session.history()
    assert (exported.records, exported.inherited, exported.in_turn) == (len(before), 0, False)
    assert (exported.blobs, exported.versions, exported.missing_blobs) == (2, 1, ())
    assert os.stat(tmp_path / "one.zip").st_mode & 0o777 == 0o600

    async with runtime(postgres_database, world) as rt:
        imported = await import_session(rt.caller, tmp_path / "one.zip")
        assert (imported.session, imported.records, imported.status) == ("s1", len(before), "idle")
        session = await rt.get("s1")
        assert list(await session.history()) == list(before)
        assert await session.send("and now?") == "I remember 5 messages, the first was 'hello'."
        assert await rt.database.blobs.get(blob) == b"a picture of a broken vase"
        returned = [r.event for r in before if isinstance(r.event, ToolReturned) and r.event.blob]
        assert (await rt.database.blobs.get(returned[0].blob or "")).decode() == REPORT
        assert (await verify_session(rt.caller, "s1")).intact
        await export_session(rt.caller, "s1", tmp_path / "two.zip")

    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        await import_session(rt.caller, tmp_path / "two.zip")
        session = await rt.get("s1")
        assert await session.send("still?") == "I remember 6 messages, the first was 'hello'."
        await session.send("refund 100")
        found = await verify_session(rt.caller, "s1")
        assert (found.intact, found.fault, found.blobs) == (True, None, 2)
        row = await rt.database.views.session("s1")
        assert (row.summary.agent, row.summary.user, row.summary.turns) == ("support", "ada", 7)
    assert world.refunds == ["s1:2:call_2_1_1", "s1:7:call_7_1_1"]


async def test_an_approval_that_waits_is_answered_in_the_other_database(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        session = await rt.open("support", opening=Opening(session="s1"))
        await session.submit("refund 9000")
        await until_waiting(session)
        exported = await export_session(rt.caller, "s1", tmp_path / "s.zip")
    assert exported.in_turn
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        assert (await import_session(rt.caller, tmp_path / "s.zip")).status == "waiting"
        session = await rt.get("s1")
        call = (await until_waiting(session)).call
        await session.approve(call, by="ada")
        assert await session.send("hello") == "I remember 2 messages, the first was 'refund 9000'."
    assert world.refunds == ["s1:1:call_1_1_1"]


async def until(rt: Remanence, session: str, wanted: Callable[[Session], bool]) -> Session:
    """The state of a session once it is as wanted."""
    handle = await rt.get(session)
    async for _ in handle.events():
        if wanted(s := await handle.state()):
            return s
    raise AssertionError("it never was")


async def until_waiting(session) -> ToolCall:
    """The first call that waits for an approval."""
    async for _ in session.events():
        state = await session.state()
        calls = [call for call in (state.turn.calls if state.turn else ()) if call.state == "asked"]
        if calls:
            return calls[0]
    raise AssertionError("it never waited")


async def test_a_call_without_an_outcome_is_in_doubt_where_it_arrives(tmp_path: Path) -> None:
    """It started in the first database; the second cannot know what became of it, and says so."""
    world, started, release = World(), asyncio.Event(), asyncio.Event()
    agent = support(world)
    refund = agent.tools_by_name["refund"]

    class Slow:
        spec = refund.spec

        async def run(self, call, context):
            started.set()
            await release.wait()
            return await refund.run(call, context)

        async def reconcile(self, effect_key):
            return None

    agent.tools_by_name["refund"] = Slow()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world, agent=agent) as rt:
        session = await rt.open("support", opening=Opening(session="s1"))
        await session.submit("refund 900")
        await started.wait()
        await export_session(rt.caller, "s1", tmp_path / "s.zip")
        release.set()
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        with pytest.raises(InvalidInput, match="call_1_1_1 of refund has started and has no outcome yet"):
            await import_session(rt.caller, tmp_path / "s.zip", as_session="s2")
        await import_session(rt.caller, tmp_path / "s.zip")
        session = await rt.get("s1")
        async for _ in session.events():
            if (await session.state()).doubts:
                break
        assert [doubt.effect_key for doubt in (await session.state()).doubts] == ["s1:1:call_1_1_1"]
        await session.resolve("call_1_1_1", by="ada", outcome="happened", result="refunded")
        assert await session.send("hello") == "I remember 2 messages, the first was 'refund 900'."
    assert world.refunds == ["s1:1:call_1_1_1"]


async def test_a_fork_travels_with_what_it_inherited(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        session = await rt.open("support", opening=Opening(session="root"))
        await session.send("one")
        await session.send("two")
        fork = await session.fork(turn=1)
        await fork.send("three")
        inner = await fork.fork()
        await inner.send("four")
        history = await inner.history()
        exported = await export_session(rt.caller, inner.id, tmp_path / "s.zip")
        assert (exported.records, exported.inherited) == (len(history), len(await fork.history()))
        await session.send("five")
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        await import_session(rt.caller, tmp_path / "s.zip", as_session="alone")
        session = await rt.get("alone")
        assert [r.event for r in await session.history()] == [r.event for r in history]
        assert await session.send("six") == "I remember 4 messages, the first was 'one'."
        found = await verify_session(rt.caller, "alone")
        assert (found.intact, found.inherited) == (True, 0)


async def test_what_was_erased_stays_erased_also_in_a_fork_made_before(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        session = await rt.open("support", opening=Opening(session="root"))
        await session.send("open sesame")
        fork = await session.fork()
        await fork.send("report")
        for record in await session.history():
            if "sesame" in str(record.event):
                await erase(rt, "root", record.position)
        found = await verify_session(rt.caller, fork.id)
        assert (found.intact, found.redacted) == (True, 2)
        for name, one in (("root", "root"), ("fork", fork.id)):
            await export_session(rt.caller, one, tmp_path / f"{name}.zip")
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        for name in ("root", "fork"):
            await import_session(rt.caller, tmp_path / f"{name}.zip", as_session=name)
            session = await rt.get(name)
            assert "sesame" not in str(await session.history())
            await session.send("three")
            found = await verify_session(rt.caller, name)
            assert (found.fault, found.redacted) == (None, 2)


async def test_twice_is_a_conflict_and_another_id_is_not(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        session = await rt.open("support", opening=Opening(session="s1"))
        await session.send("hello")
        await export_session(rt.caller, "s1", tmp_path / "s.zip")
        with pytest.raises(Conflict, match="'s1' already; it was left as it is"):
            await import_session(rt.caller, tmp_path / "s.zip")
        imported = await import_session(rt.caller, tmp_path / "s.zip", as_session="s2")
        assert (imported.session, imported.source) == ("s2", "s1")
        assert await (await rt.get("s2")).send("again") == "I remember 2 messages, the first was 'hello'."
        assert len(await session.history()) < len(await (await rt.get("s2")).history())
        with pytest.raises(Conflict, match="left as it is"):
            await export_session(rt.caller, "s1", tmp_path / "s.zip")
        with pytest.raises(NotFound, match="no session 'nobody'"):
            await export_session(rt.caller, "nobody", tmp_path / "n.zip")
        with pytest.raises(NotFound, match="no file or folder"):
            await import_session(rt.caller, tmp_path / "absent.zip")
        with pytest.raises(NotFound, match="no file or folder"):
            await export_session(rt.caller, "s1", tmp_path / "absent" / "n.zip")
    left = [name for name in os.listdir(tmp_path) if name.endswith((".zip", ".partial"))]
    assert left == ["s.zip"]


async def test_the_budget_of_a_session_travels_with_what_was_spent(tmp_path: Path) -> None:
    """Moving a session must not fill its purse."""
    world = World()

    limits = Limits(session_tokens=10_000)
    async with runtime(f"sqlite:///{tmp_path}/a.db", world, limits=limits) as rt:
        session = await rt.open("support", opening=Opening(session="s1"))
        await session.send("hello")
        (spent,) = await rt.database.controls.budgets("session:s1")
        assert spent.spent > 0
        await export_session(rt.caller, "s1", tmp_path / "s.zip")
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        await import_session(rt.caller, tmp_path / "s.zip", as_session="s2")
        (moved,) = await rt.database.controls.budgets("session:s2")
        assert (moved.limit, moved.spent, moved.reserved) == (10_000, spent.spent, 0)


async def test_a_session_that_waits_for_its_budget_waits_for_the_one_it_has_here(tmp_path: Path) -> None:
    """Its journal names the budget by the id that the session had where it came from."""
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world, limits=Limits(session_tokens=10)) as rt:
        session = await rt.open("support", opening=Opening(session="s1"))
        await session.submit("hello")
        await until(rt, "s1", lambda s: s.pause is not None)
    async with runtime(f"sqlite:///{tmp_path}/a.db", world, worker=False) as rt:
        await export_session(rt.caller, "s1", tmp_path / "s.zip")
    async with runtime(f"sqlite:///{tmp_path}/b.db", world) as rt:
        await import_session(rt.caller, tmp_path / "s.zip", as_session="s2")
        pause = (await (await rt.get("s2")).state()).pause
        assert pause is not None
        assert pause.scope == "session:s2"
        await rt.raise_budget("session:s2", tokens=100_000)
        state = await until(rt, "s2", lambda s: s.turn is None)
        assert (state.turns, state.last_turn, state.pause) == (1, "completed", None)


async def test_a_session_of_another_project_is_refused(tmp_path: Path) -> None:
    world = World()
    async with runtime(f"sqlite:///{tmp_path}/a.db", world) as rt:
        await rt.open("support", opening=Opening(session="s1"))
        await export_session(rt.caller, "s1", tmp_path / "s.zip")
    async with runtime(f"sqlite:///{tmp_path}/b.db", world, worker=False) as rt:
        with pytest.raises(InvalidInput, match="session of project 'default', and you work in 'other'"):
            await import_session(replace(rt.caller, project="other"), tmp_path / "s.zip")
        with pytest.raises(NotFound):
            await rt.get("s1")
