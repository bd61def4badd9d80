"""What is written down by whoever had it in view, or in hand, before it was erased; and what no index knows yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_erasure import AGENT, RARE, SECRET, bytes_with, commanded, told

from remanence import Remanence
from remanence.app import Options
from remanence.commands import erasure, memory
from remanence.commands.caller import Caller
from remanence.commands.proof import check_receipt
from remanence.content import Text
from remanence.events import Recorded, Redacted
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.recollections import MemoryRemoval, MemorySelector, Place
from remanence.runtime.around import DatabaseAround
from remanence.testing.clock import LeapingClock


class Waiting(Scripted):
    """A model that answers `hold` when it is told to."""

    def __init__(self) -> None:
        super().__init__(commanded)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if last_user_text(request).startswith("hold"):
            self.asked.set()
            await self.go.wait()
        return await super().reply(request, on_delta)


class Edited(DatabaseAround):
    """A database in which a person edits a memory just before it is removed from the index."""

    def __init__(self, caller: Caller, note: str) -> None:
        super().__init__(caller.database)
        self.memories = _Edited(caller, note)  # pyright: ignore[reportAttributeAccessIssue]


class _Edited:
    def __init__(self, caller: Caller, note: str) -> None:
        self._caller = caller
        self._note = note

    def __getattr__(self, name: str) -> object:
        return getattr(self._caller.database.memories, name)

    async def remove(self, selector: MemorySelector) -> MemoryRemoval:
        note, self._note = self._note, ""
        if note:
            await memory.edit(self._caller, note, "The shed is green.")
        return await self._caller.database.memories.remove(selector)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
def model() -> Waiting:
    return Waiting()


@pytest.fixture
async def rt(url: str, model: Waiting) -> AsyncIterator[Remanence]:
    async with Remanence(url, options=Options(model=model)) as opened:
        yield opened


async def test_a_reply_on_its_way_in_another_session_of_the_person_goes_too(rt: Remanence, model: Waiting) -> None:
    session = await told(rt)
    (note,) = [m for m in await rt.memory.list() if m.kind == "note"]
    other = await rt.open(AGENT, user="ada")
    talk = asyncio.ensure_future(other.send("hold on, where is the spare key?"))
    await model.asked.wait()
    head = (await session.state()).head
    erasing = asyncio.create_task(rt.memory.erase("memory", note.id, reason="wrong house"))
    async for item in session.events(after=head):
        if isinstance(item, Recorded) and isinstance(item.event, Redacted):
            break
    model.go.set()
    assert RARE.decode() in (await talk).lower(), "it had it in view"
    await erasing
    await rt.memory.catch_up()
    assert await bytes_with(rt) == []


async def test_a_reply_under_a_lease_that_ran_out_is_waited_for(rt: Remanence, url: str, model: Waiting) -> None:
    """Nobody has claimed the session since, so its worker still journals what its model answers."""
    session = await told(rt)
    (note,) = [m for m in await rt.memory.list() if m.kind == "note"]
    other = await rt.open(AGENT, user="ada")
    talk = asyncio.ensure_future(other.send("hold on, where is the spare key?"))
    await model.asked.wait()
    head, later = (await session.state()).head, LeapingClock()
    later.leap(3_600)
    async with Remanence(url, worker=False, options=Options(model=model, clock=later)) as elsewhere:
        erasing = asyncio.create_task(elsewhere.memory.erase("memory", note.id, reason="wrong house"))
        async for item in session.events(after=head):
            if isinstance(item, Recorded) and isinstance(item.event, Redacted):
                break
        await asyncio.wait((erasing,), timeout=0.5)
        model.go.set()
        assert RARE.decode() in (await talk).lower(), "it had it in view"
        await erasing
    await rt.memory.catch_up()
    assert await bytes_with(rt) == []


async def test_a_version_that_is_written_meanwhile_is_erased_as_well(rt: Remanence) -> None:
    note = await rt.memory.keep(SECRET, Place("default", "user:ada"))
    editing = replace(rt.caller, follow=None)  # whose process knows nothing of the erasure
    caller = replace(rt.caller, database=Edited(editing, note.id))  # pyright: ignore[reportArgumentType]
    receipt = await erasure.erase(caller, "memory", note.id, reason="wrong house")
    await rt.memory.rebuild()
    checks = await check_receipt(rt.caller, receipt)
    assert all(check.holds for check in checks), checks


async def test_a_note_that_is_not_indexed_yet_is_found_in_its_journal(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "INDEX_PATIENCE_S", 0.0)
    async with Remanence(url, worker=False, options=Options(model=Scripted(commanded))) as rt:
        await rt.memory.keep(SECRET, Place("default", "user:ada"))
        await rt.open(AGENT, user="ada", title="about the shed")
        await rt.database.memories.clear()
        receipt = await erasure.erase(rt.caller, "user", "ada", reason="asked to")
        assert len(receipt.memories) == 1
        await rt.memory.rebuild()
        assert await bytes_with(rt, RARE) == []


async def test_a_reply_that_only_says_that_something_is_gone_is_in_no_receipt(url: str) -> None:
    """It has nothing to erase, and comes back with the index: the receipt would not hold."""
    async with Remanence(url, options=Options(model=Scripted(lambda _: ModelReply((Text("[redacted]"),))))) as rt:
        session = await rt.open(AGENT, user="ada")
        await session.send(SECRET)
        await rt.memory.catch_up()
        receipt = await rt.memory.erase("user", "ada", reason="asked to")
        await rt.memory.rebuild()
        checks = await check_receipt(rt.caller, receipt)
        assert all(check.holds for check in checks), checks
