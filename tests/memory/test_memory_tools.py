"""The memory tools, called as a model calls them: what they refuse, what they write, and that a rerun is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_remembering import QUIET, note_of, runtime

from remanence import Agent, Remanence
from remanence.app import Session
from remanence.commands.sessions import delete
from remanence.content import ToolCall
from remanence.core.memory.grants import Subject
from remanence.events import MemoryKept
from remanence.ports import ToolCallContext
from remanence.recollections import Place
from remanence.spec import MemoryUse
from remanence.tools.memory import memory_tools, moment_of


async def use(session: Session, tool: str, **arguments: Any) -> str:
    """What the tool answers."""
    return await session.send(f"{tool} {msgspec.json.encode(arguments).decode()}")


async def test_a_memory_of_another_user_cannot_be_opened_changed_or_forgotten(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        note = await rt.memory.keep("Ada drinks tea.", Place("default", "user:ada"))
        ben = await rt.open(QUIET, user="ben")
        for tool, more in (("memory_open", {}), ("memory_update", {"text": "no"}), ("memory_forget", {})):
            assert "there is no memory" in await use(ben, tool, memory=note.id, **more)
        assert "Nothing was found" in await use(ben, "memory_search", query="Ada drinks tea")
        assert [one.text for one in await rt.memory.history(note.id)] == ["Ada drinks tea."]


async def test_an_agent_writes_for_everybody_only_when_that_was_granted(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(QUIET, user="ada")
        for scope in ("project", "agent"):
            assert "no right to write" in await use(session, "memory_write", text="Lunch is at noon.", scope=scope)
        await rt.memory.grant("default", "agent:support", reads=("project",), writes=("project",))
        assert "Noted" in await use(session, "memory_write", text="Lunch is at noon.", scope="project")
        assert (await note_of(rt, "lunch noon")).place == Place("default", "project")
        assert "no right to write" in await use(session, "memory_write", text="Ada drinks tea.")


async def test_what_is_only_read_is_not_changed(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        note = await rt.memory.keep("Lunch is at noon.", Place("default", "project"))
        session = await rt.open(QUIET, user="ada")
        assert "noon" in await use(session, "memory_open", memory=note.id)
        assert "may read" in await use(session, "memory_update", memory=note.id, text="Lunch is at one.")
        assert "may read" in await use(session, "memory_forget", memory=note.id)


async def test_what_was_said_stays_as_it_was_said(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(QUIET, user="ada")
        await session.send("I drink tea.")
        assert "is no note" in await use(session, "memory_update", memory=f"{session.id}#2", text="I drink coffee.")


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("memory_write", {"text": "x", "since": "soon"}, "ISO 8601"),
        ("memory_write", {"text": "x", "since": "2030-01-02", "until": "2030-01-01"}, "does not come after"),
        ("memory_write", {"text": ""}, "was not run"),
        ("memory_write", {"text": "x", "scope": "everybody"}, "was not run"),
        ("memory_block", {"name": "a/b", "text": "x"}, "without a slash"),
        ("memory_block", {"name": "a", "text": "x" * 2_001}, "at most 2000 bytes"),
        ("memory_block", {"name": "a", "text": ""}, "no block"),
        ("memory_open", {"memory": "mem_0"}, "there is no memory"),
    ],
)
async def test_a_bad_call_says_what_is_wrong(tmp_path: Path, tool: str, arguments: dict[str, Any], says: str) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(QUIET, user="ada")
        assert says in await use(session, tool, **arguments)
        assert not [r for r in await session.history() if isinstance(r.event, MemoryKept)]


async def test_a_block_is_set_again_removed_and_set_anew(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(QUIET, user="ada")
        for text in ("one", "two", "", "three"):
            await use(session, "memory_block", name="style", text=text)
        history = await rt.memory.history("block/default/user:ada/style")
        assert [(one.version, one.text, one.closed_at is None) for one in history] == [
            (1, "one", False),
            (2, "two", False),
            (3, "three", True),
        ]


async def test_a_call_that_runs_again_keeps_the_same_memory(tmp_path: Path) -> None:
    async def settle(subject: Subject) -> None:
        """Nothing is to be indexed."""

    async with runtime(tmp_path) as rt:
        session = await rt.open(QUIET, user="ada")
        await session.send("hello")
        write = memory_tools(rt.database, rt.caller.clock, settle)["memory_write"]
        context = ToolCallContext(
            session.id, "default", "support", "ada", 1, f"{session.id}:1:call_1_1_1", 1, MemoryUse(), turn_position=3
        )
        call = ToolCall("call_1_1_1", "memory_write", '{"text": "Ada drinks tea."}')
        first, second = await write.run(call, context), await write.run(call, context)
        assert first == second
        (fact,) = first.facts
        assert isinstance(fact, MemoryKept)
        assert (fact.source, fact.scope) == (2, "user:ada")


async def test_a_session_of_nobody_keeps_to_itself(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        first = await rt.open(QUIET)
        await use(first, "memory_write", text="The code is 4711.")
        assert (await note_of(rt, "code")).place == Place("default", f"session:{first.id}")
        assert "Nothing was found" in await use(await rt.open(QUIET), "memory_search", query="code 4711")


async def test_a_session_that_is_removed_is_not_recalled_and_its_notes_stay(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(QUIET, user="ada")
        await session.send("My parcels go to number 12.")
        await use(session, "memory_write", text="Ada drinks tea.")
        await rt.memory.catch_up()
        await delete(rt.caller, session.id)
        await rt.memory.catch_up()
        left = [m.text async for m in rt.memory.export()]
        assert left == ["Ada drinks tea."]
        await rt.memory.rebuild()
        assert [m.text async for m in rt.memory.export()] == left


async def test_only_what_the_session_may_see_is_asked_for(tmp_path: Path) -> None:
    none = Agent("mute", model="scripted", memory=MemoryUse(reads=(), writes=()))
    async with runtime(tmp_path) as rt:
        await rt.memory.keep("Lunch is at noon.", Place("default", "project"))
        assert await _access(rt, none) == ((), ())
        assert "noon" not in await (await rt.open(none, user="ada")).send("When is lunch?")


async def _access(rt: Remanence, agent: Agent) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    access = await (await rt.open(agent, user="ada")).memory.access()
    return access.reads, access.writes


def test_a_moment_is_read_in_utc() -> None:
    assert moment_of({"at": "1970-01-02"}, "at") == 86_400_000_000
    assert moment_of({"at": "1970-01-01T01:00:00+01:00"}, "at") == 0
    assert moment_of({}, "at") is None
