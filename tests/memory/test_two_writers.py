"""Two who correct one memory at the same moment: one version is written, and the other is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_remembering import QUIET, commanded

from remanence import Remanence
from remanence.app import Options, Session
from remanence.content import ToolCall, text_of
from remanence.core.memory.grants import Subject
from remanence.errors import Conflict, NotFound
from remanence.models.scripted import Scripted
from remanence.ports import ToolCallContext, ToolOutcome
from remanence.recollections import Memory, Place
from remanence.runtime.memory_index import MemoryIndex
from remanence.spec import MemoryUse
from remanence.testing.clock import FakeClock
from remanence.tools.memory import memory_tools
from remanence.tools.memory_access import registry_id
from remanence.tools.memory_claims import CLAIM_KIND, LAPSE_S

ADAS = Place("default", "user:ada")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    async with Remanence(url, options=Options(model=Scripted(commanded))) as opened:
        yield opened


class Writer:
    """The memory tools as a worker runs them, for one session, with nothing journaled in between."""

    def __init__(self, rt: Remanence, session: Session, clock: FakeClock) -> None:
        self._tools = memory_tools(rt.database, clock, self.settle)
        self._session = session

    @staticmethod
    async def settle(subject: Subject) -> None:
        """What others are about to write is not indexed yet."""

    async def run(self, tool: str, number: int = 1, **given: Any) -> ToolOutcome:
        """One call; the same `number` is the same call again."""
        key = f"{self._session.id}:1:call_{number}"
        context = ToolCallContext(
            self._session.id, "default", "support", "ada", 1, key, 1, MemoryUse(), turn_position=3
        )
        return await self._tools[tool].run(
            ToolCall(f"call_{number}", tool, msgspec.json.encode(given).decode()), context
        )


async def writers(rt: Remanence, clock: FakeClock) -> tuple[Writer, Writer]:
    sessions = [await rt.open(QUIET, user="ada") for _ in range(2)]
    for session in sessions:
        await session.send("hello")
    return Writer(rt, sessions[0], clock), Writer(rt, sessions[1], clock)


async def test_the_first_writes_and_the_second_is_told(rt: Remanence) -> None:
    clock = FakeClock(rt.caller.clock.now())
    first, second = await writers(rt, clock)
    note = await rt.memory.keep("Ada drinks tea.", ADAS)
    given: dict[str, Any] = {"memory": note.id, "text": "Ada drinks coffee."}
    done = await first.run("memory_update", **given)
    assert [fact.version for fact in done.facts] == [2]  # pyright: ignore[reportAttributeAccessIssue]
    told = await second.run("memory_update", memory=note.id, text="Ada drinks milk.")
    assert told.error
    assert not told.facts
    assert "somebody else changed" in text_of(told.parts)
    ended = await second.run("memory_update", memory=note.id, text="Ada drinks milk.", since="2031-01-01")
    assert ended.error
    with pytest.raises(Conflict, match="Nothing was changed"):
        await rt.memory.edit(note.id, "Ada drinks water.")
    assert await first.run("memory_update", **given) == done, "the same call after a crash is not its own rival"
    clock.advance(LAPSE_S + 1)
    assert not (await second.run("memory_update", 2, memory=note.id, text="Ada drinks milk.")).error, "it never came"


async def test_so_it_is_with_blocks_also_new_ones(rt: Remanence) -> None:
    first, second = await writers(rt, FakeClock(rt.caller.clock.now()))
    assert not (await first.run("memory_block", name="style", text="In French.")).error
    assert (await second.run("memory_block", name="style", text="In German.")).error
    with pytest.raises(Conflict):
        await rt.memory.set_block("style", "In Greek.", ADAS)


async def test_a_correction_and_a_withdrawal_of_one_moment_meet(rt: Remanence) -> None:
    clock = FakeClock(rt.caller.clock.now())
    first, second = await writers(rt, clock)
    note = await rt.memory.keep("Ada drinks tea.", ADAS)
    assert not (await first.run("memory_forget", memory=note.id)).error
    assert "somebody else changed" in text_of((await second.run("memory_update", memory=note.id, text="x")).parts)
    assert (await second.run("memory_forget", memory=note.id)).error
    with pytest.raises(Conflict, match="Nothing was changed"):
        await rt.memory.edit(note.id, "Ada drinks water.")
    with pytest.raises(Conflict, match="Nothing was changed"):
        await rt.memory.forget(note.id)
    other = await rt.memory.keep("Ada drinks cocoa.", ADAS)
    assert not (await second.run("memory_update", 3, memory=other.id, text="Ada drinks milk.")).error
    with pytest.raises(Conflict, match="Nothing was changed"):
        await rt.memory.forget(other.id)
    assert (await first.run("memory_forget", 4, memory=other.id)).error


async def test_what_was_withdrawn_can_be_taken_back_at_once(rt: Remanence) -> None:
    note = await rt.memory.keep("Ada drinks tea.", ADAS)
    await rt.memory.forget(note.id)
    restored = await rt.memory.undo(note.id)
    assert (restored.version, restored.closed_at, restored.text) == (2, None, "Ada drinks tea.")
    await rt.memory.set_block("style", "In French.", ADAS)
    await rt.memory.forget("block/default/user:ada/style")
    assert (await rt.memory.set_block("style", "In Greek.", ADAS)).version == 2


async def test_of_those_who_correct_and_withdraw_at_once_each_is_done_or_told(rt: Remanence) -> None:
    for _ in range(5):
        note = await rt.memory.keep("Ada drinks tea.", ADAS)
        acts = [rt.memory.edit(note.id, f"Ada drinks {n}.") for n in "ab"]
        said = await asyncio.gather(*acts, *(rt.memory.forget(note.id) for _ in range(2)), return_exceptions=True)
        done = [one for one in said if isinstance(one, Memory)]
        assert done
        assert all(isinstance(one, Memory | Conflict) for one in said), said
        history = await rt.memory.history(note.id)
        corrected, withdrawn = (sum(isinstance(one, Memory) for one in part) for part in (said[:2], said[2:]))
        assert len(history) == corrected + 1, "whoever was told that it was done finds it in the history"
        assert (history[-1].closed_at is not None) == bool(withdrawn)
        assert withdrawn <= 1


async def test_whoever_writes_at_once_leaves_versions_in_a_row(rt: Remanence) -> None:
    note = await rt.memory.keep("Ada drinks tea.", ADAS)
    sessions = [await rt.open(QUIET, user="ada") for _ in range(3)]
    given = [f'memory_update {{"memory": "{note.id}", "text": "Ada drinks {drink}."}}' for drink in ("a", "b", "c")]
    acts: list[Awaitable[str | Memory]] = [s.send(text) for s, text in zip(sessions, given, strict=True)]
    said = await asyncio.gather(*acts, rt.memory.edit(note.id, "Ada drinks d."), return_exceptions=True)
    written = [one for one in said if isinstance(one, Memory) or "Corrected" in str(one)]
    assert written
    assert all(
        isinstance(one, Memory | Conflict) or "Corrected" in str(one) or "at this moment" in str(one) for one in said
    )
    await rt.memory.catch_up()
    history = await rt.memory.history(note.id)
    assert [one.version for one in history] == list(range(1, len(written) + 2))
    assert sum(one.closed_at is None for one in history) == 1


async def test_what_the_session_noted_before_its_worker_died_is_found(url: str) -> None:
    async with Remanence(url, options=Options(model=Scripted(commanded))) as rt:
        session = await rt.open(QUIET, user="ada")
        note = (await session.send('memory_write {"text": "Ada drinks tea."}')).split()[-1].rstrip(".")
    async with Remanence(url, worker=False) as rt:
        clock = FakeClock(rt.caller.clock.now())
        blind = memory_tools(rt.database, clock, Writer.settle)
        seeing = memory_tools(rt.database, clock, Writer.settle, MemoryIndex(rt.database, clock).read_own)
        await rt.database.memories.clear()  # the process that noted it died before it was indexed
        for tools, found in ((blind, False), (seeing, True)):
            context = ToolCallContext(session.id, "default", "support", "ada", 1, "k", 1, MemoryUse(), turn_position=3)
            opened = await tools["memory_open"].run(ToolCall("c", "memory_open", f'{{"memory": "{note}"}}'), context)
            assert ("Ada drinks tea." in text_of(opened.parts)) == found, text_of(opened.parts)


async def test_a_claim_goes_with_an_erased_memory(rt: Remanence) -> None:
    await rt.memory.set_block("style", "Answer Ada in French.", ADAS)
    identity = registry_id("default", "block/default/user:ada/style")
    assert await rt.database.registry.get(CLAIM_KIND, identity)
    await rt.memory.erase("user", "ada", reason="asked to")
    with pytest.raises(NotFound):
        await rt.database.registry.get(CLAIM_KIND, identity)
