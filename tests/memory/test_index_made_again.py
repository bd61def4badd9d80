"""What is erased, looked up and changed while the index of the memory is made again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from test_erasure import AGENT, RARE, SECRET, bytes_with, commanded

from remanence import Remanence
from remanence.app import Options
from remanence.commands import erasure, memory
from remanence.commands.caller import commit
from remanence.commands.proof import check_receipt
from remanence.errors import Conflict, NotFound, StoreUnavailable
from remanence.events import MemoryKept
from remanence.models.scripted import Scripted
from remanence.ports import Memories, Write
from remanence.recollections import Place
from remanence.runtime.around import DatabaseAround
from remanence.runtime.memory_index import MemoryIndex
from remanence.tools import memory_following

ADAS = Place("default", "user:ada")
READS = ("get", "history", "list", "places")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    async with Remanence(url, worker=False, options=Options(model=Scripted(commanded))) as opened:
        yield opened


class Emptied:
    """An index that somebody empties just before each of the first reads, and makes again just after it."""

    def __init__(self, rt: Remanence, times: int) -> None:
        self._rt = rt
        self._left = times

    def __getattr__(self, name: str) -> Any:
        of = getattr(self._rt.database.memories, name)
        return self._around(of) if name in READS else of

    def _around(self, read: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def emptied(*given: Any, **named: Any) -> Any:
            if not self._left:
                return await read(*given, **named)
            self._left -= 1
            await self._rt.database.memories.clear()
            try:
                return await read(*given, **named)
            finally:
                await self._rt.memory.catch_up()

        return emptied


class EmptiedDatabase(DatabaseAround):
    """A database with such an index."""

    def __init__(self, rt: Remanence, times: int) -> None:
        super().__init__(rt.database)
        self.memories: Memories = Emptied(rt, times)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("what", ["user", "memory", "subject"])
async def test_an_order_finds_what_an_index_that_is_made_again_does_not_say(rt: Remanence, what: Any) -> None:
    note = await rt.memory.keep(SECRET, ADAS, subjects=["key"])
    caller = replace(rt.caller, database=EmptiedDatabase(rt, 20))
    name = {"user": "ada", "memory": note.id, "subject": "key"}[what]
    receipt = await erasure.erase(caller, what, name, reason="asked to")
    assert receipt.memories == (note.id,)
    await rt.memory.rebuild()
    assert await bytes_with(rt, RARE) == []
    checks = await check_receipt(rt.caller, receipt)
    assert all(check.holds for check in checks), checks


async def test_what_is_changed_meanwhile_is_there(rt: Remanence) -> None:
    """Also where another process has emptied the index, and made none of it again yet."""
    note = await rt.memory.keep("The ladder is in the shed.", ADAS)
    caller = replace(rt.caller, database=EmptiedDatabase(rt, 2))
    await rt.database.memories.clear()
    assert (await memory.show(caller, note.id)).text == note.text
    for times in range(4):
        caller = replace(rt.caller, database=EmptiedDatabase(rt, times))
        await rt.database.memories.clear()
        assert (await memory.edit(caller, note.id, f"The ladder is lent to {times}.")).text.endswith(f"{times}.")
        await rt.database.memories.clear()
        assert (await memory.undo(caller, note.id)).text == note.text
        await rt.database.memories.clear()
        note = await memory.edit(caller, note.id, f"The ladder was lent to {times}.")
    await rt.database.memories.clear()
    assert len(await memory.history(caller, note.id)) == 13
    await rt.database.memories.clear()
    await memory.forget(caller, note.id)
    await rt.database.memories.clear()
    assert (await memory.undo(caller, note.id)).version == 14
    with pytest.raises(NotFound):
        await memory.show(caller, "mem_that_was_never_there")


async def test_a_change_goes_on_from_the_newest_version_though_only_an_older_one_is_indexed(rt: Remanence) -> None:
    session = await rt.open(AGENT, user="ada")
    noted = MemoryKept("default", "mem_1", "Ada drinks tea.", scope="user:ada")
    await commit(rt.caller, Write(session.id, (noted,), rt.caller.clock.now(), "agent:support"))
    await rt.memory.edit("mem_1", "Ada drinks coffee.")
    await rt.database.memories.clear()
    (first, *_) = [c for c in await rt.database.store.behind("memory", limit=10) if c.session == session.id]
    assert rt.caller.follow is not None
    await MemoryIndex(rt.database, rt.caller.clock).project(first)
    assert (await rt.memory.edit("mem_1", "Ada drinks milk.")).version == 3
    with pytest.raises(Conflict, match="version 3"):
        await rt.memory.edit("mem_1", "Ada drinks water.", seen=2)
    await rt.memory.rebuild()
    assert [one.text for one in await rt.memory.history("mem_1")][-1] == "Ada drinks milk."


async def test_an_index_that_is_far_behind_is_told_from_one_that_knows(
    rt: Remanence, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = await rt.memory.keep("The ladder is in the shed.", ADAS)
    await rt.database.memories.clear()
    monkeypatch.setattr(memory_following, "FOLLOW_S", -1.0)
    for verb in (rt.memory.get, rt.memory.history, rt.memory.undo, rt.memory.forget):
        with pytest.raises(StoreUnavailable, match="try again in a minute"):
            await verb(note.id)
    with pytest.raises(StoreUnavailable, match="Nothing was changed"):
        await rt.memory.edit(note.id, "The ladder is lent.")
    await rt.memory.catch_up()
    assert await rt.memory.get(note.id) == note
