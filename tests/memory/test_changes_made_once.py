"""What a person changes in the memory under a key is changed once, wherever whoever does it stops and begins again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from remanence import Remanence
from remanence.commands import memory
from remanence.commands.caller import Caller
from remanence.commands.given import Key
from remanence.commands.memory import Writing
from remanence.commands.memory_journal import journaled
from remanence.errors import KeyReused
from remanence.events import Event, MemoryKept
from remanence.recollections import Memory, Place
from remanence.testing.faults.fuse import FaultyDatabase, Fuse, Killed

ADAS = Place("default", "user:ada")
ONCE = Key("memory:one", "a request")
Change = Callable[[Caller, Key], Awaitable[Memory]]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return "sqlite:///:memory:" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def caller(url: str) -> AsyncIterator[Caller]:
    async with Remanence(url, worker=False) as rt:
        yield rt.caller


async def note(caller: Caller) -> str:
    return (await memory.keep(caller, Writing("The ladder stands in the shed.", ADAS))).id


async def corrected(caller: Caller) -> str:
    made = await note(caller)
    await memory.edit(caller, made, "The ladder is lent.")
    return made


async def withdrawn(caller: Caller) -> str:
    made = await note(caller)
    await memory.forget(caller, made)
    return made


async def in_anothers_place(caller: Caller) -> str:
    """A note that was written in the place of another one, which was withdrawn for it."""
    other = await withdrawn(caller)
    made = caller.make_id("mem")

    async def written() -> Event:
        return MemoryKept("default", made, "The ladder is in the barn.", scope=ADAS.scope, follows=other, by="ada")

    await journaled(caller, "default", written)
    return made


async def block(caller: Caller) -> str:
    return (await memory.set_block(caller, ADAS, "tools", "One ladder.")).id


CHANGES: dict[str, tuple[Callable[[Caller], Awaitable[str]], Callable[[str], Change]]] = {
    "keep": (note, lambda _: lambda c, key: memory.keep(c, Writing("The hedge is trimmed.", ADAS), key=key)),
    "edit": (note, lambda one: lambda c, key: memory.edit(c, one, "The ladder is lent.", seen=1, key=key)),
    "forget": (note, lambda one: lambda c, key: memory.forget(c, one, key=key)),
    "undo a correction": (corrected, lambda one: lambda c, key: memory.undo(c, one, key=key)),
    "undo a withdrawal": (withdrawn, lambda one: lambda c, key: memory.undo(c, one, key=key)),
    "undo a note": (note, lambda one: lambda c, key: memory.undo(c, one, key=key)),
    "undo what took a place": (in_anothers_place, lambda one: lambda c, key: memory.undo(c, one, key=key)),
    "set a new block": (note, lambda _: lambda c, key: memory.set_block(c, ADAS, "garden", "A hedge.", key=key)),
    "set a block": (block, lambda _: lambda c, key: memory.set_block(c, ADAS, "tools", "Two ladders.", key=key)),
}


async def told(caller: Caller) -> list[tuple[int, str, bool]]:
    """Every version of every memory: its number, its text, whether it is believed."""
    return sorted([(one.version, one.text, one.closed_at is None) async for one in memory.export(caller)])


async def run(caller: Caller, change: Change, at: int) -> bool:
    """Make a change that is killed at this write of it, and make it again; whether there was such a write."""
    fuse = Fuse(at, lambda: None)
    dying = replace(caller, database=FaultyDatabase(caller.database, fuse))
    try:
        first = await change(dying, ONCE)
    except Killed:
        first = await change(caller, ONCE)
    again = await change(caller, ONCE)
    assert (again.id, again.version, again.text) == (first.id, first.version, first.text)
    with pytest.raises(KeyReused):
        await change(caller, Key(ONCE.name, "another request"))
    return fuse.blown


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_under_a_key_is_made_once_wherever_it_stops(caller: Caller, name: str) -> None:
    prepare, change = CHANGES[name]
    outcomes: list[list[tuple[int, str, bool]]] = []
    killed = True
    while killed:
        at = len(outcomes)  # at first it is not killed at all
        beside = replace(caller, project=f"project-{at}")
        before = await prepare(beside)
        killed = await run(beside, change(before), at) or at == 0
        outcomes.append(await told(beside))
    assert len(outcomes) > 3, "it was killed before its write, and after it"
    assert outcomes == outcomes[:1] * len(outcomes)


async def test_without_a_key_the_same_change_is_another_one(caller: Caller) -> None:
    made = await corrected(caller)
    for text in ("The ladder stands in the shed.", "The ladder is lent."):
        assert (await memory.undo(caller, made)).text == text


async def test_what_comes_again_after_a_later_change_takes_nothing_back(caller: Caller) -> None:
    made = await note(caller)
    changes: list[Callable[[], Awaitable[Memory]]] = [
        lambda: memory.edit(caller, made, "The ladder is lent.", key=Key("memory:edit", "a request")),
        lambda: memory.forget(caller, made, key=Key("memory:forget", "a request")),
        lambda: memory.undo(caller, made, key=Key("memory:undo", "a request")),
        lambda: memory.undo(caller, made, key=Key("memory:undo again", "a request")),
    ]
    first = [(one.version, one.text) for one in [await change() for change in changes]]
    after = await told(caller)
    again = [(one.version, one.text) for one in [await change() for change in changes]]
    assert (again[0], await told(caller)) == (first[0], after)
    assert again[2:] == first[2:]
