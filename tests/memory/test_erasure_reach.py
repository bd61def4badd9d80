"""How far an erasure reaches: what people noted themselves, forks of forks, answers that were on their way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing

import asyncpg
import pytest
from msgspec.structs import replace
from test_erasure import AGENT, RARE, SECRET, Broken, bytes_with, commanded, holds, told

from remanence import Agent, Remanence
from remanence.app import Options
from remanence.commands import erasure
from remanence.commands.memory import Looking
from remanence.commands.proof import check_receipt
from remanence.commands.receipts import tracer_of
from remanence.content import Text, Usage, text_of
from remanence.core.memory.journal import journal_of
from remanence.core.memory.projection import MEMORY
from remanence.errors import Conflict, NotFound, StoreUnavailable
from remanence.events import ContextCompacted, Redacted
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.recollections import Place
from remanence.spec import Limits, MemoryUse

ADAS = Place("default", "user:ada")
TULIPS = "the tulips along the fence are watered on Sundays"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: object) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    async with Remanence(url, options=Options(model=Scripted(commanded))) as opened:
        yield opened


@pytest.mark.parametrize("what", ["user", "memory"])
async def test_what_a_person_noted_goes_and_what_was_said_of_it(rt: Remanence, what: str) -> None:
    note = await rt.memory.keep("the key is somewhere", ADAS)
    await rt.memory.edit(note.id, SECRET)
    session = await rt.open(AGENT, user="ada")
    assert RARE.decode() in (await session.send("Where is the spare key?")).lower()
    bens = await rt.memory.keep("the key is somewhere", Place("default", "user:ben"))
    name = "ada" if what == "user" else note.id
    receipt = await rt.memory.erase(what, name, reason="asked to")  # pyright: ignore[reportArgumentType]
    assert await bytes_with(rt) == []
    assert journal_of("default", "default") in {one.session for one in receipt.records}
    assert all((await holds(rt, receipt)).values())
    await rt.memory.rebuild()
    assert [m.id for m in await rt.memory.list() if m.kind == "note"] == [bens.id]
    with pytest.raises(NotFound):
        await rt.memory.erase("session", journal_of("default", "default"), reason="all of it")


async def test_a_note_goes_with_what_it_was_learned_from_in_another_session_in_other_words(rt: Remanence) -> None:
    session, other = await rt.open(AGENT, user="ada"), await rt.open(AGENT, user="ada")
    await session.send(f"{SECRET}.")
    await rt.memory.catch_up()
    said = min((m for m in await rt.memory.list() if m.session == session.id), key=lambda m: m.position)
    late, tea = "Whoever comes home late gets in.", "Tea is at five on Thursdays."
    await other.send(f'memory_write {{"text": "{late}", "source": "{said.id}"}}')
    await other.send(f'memory_write {{"text": "{tea}"}}')
    learned, free = sorted((m for m in await rt.memory.list() if m.kind == "note"), key=lambda m: m.position)
    receipt = await rt.memory.erase("session", session.id, reason="asked to")
    assert (learned.text, free.text) == (late, tea)
    assert {learned.id, free.id} & set(receipt.memories) == {learned.id}
    assert [m.text for m in await rt.memory.list() if m.kind == "note"] == [tea]


async def test_a_hold_over_a_user_covers_what_people_noted_of_them(rt: Remanence) -> None:
    note = await rt.memory.keep(SECRET, ADAS)
    await erasure.hold(rt.caller, "user:ada", reason="case 12/2026")
    with pytest.raises(Conflict, match="case 12/2026"):
        await rt.memory.erase("memory", note.id, reason="asked to")
    assert (await rt.memory.get(note.id)).text == SECRET


async def test_a_note_for_everybody_goes_from_everybodys_sessions(rt: Remanence) -> None:
    use = MemoryUse(writes=("user", "session", "project"))
    agent = Agent("open", model="scripted", instructions="Help.", memory=use)
    session = await rt.open(agent, user="ada")
    await session.send(f'memory_write {{"text": "{SECRET}", "scope": "project"}}')
    other = await rt.open(agent, user="ben")
    assert RARE.decode() in (await other.send("Where is the spare key?")).lower()
    await rt.memory.erase("user", "ada", reason="asked to")
    assert await bytes_with(rt) == []


async def test_a_summary_in_a_fork_of_a_fork_goes_too(rt: Remanence) -> None:
    small = Agent("small", model="scripted", instructions="Help.", limits=Limits(window_tokens=600))
    first = await rt.open(small, user="ada")
    await first.send("My locker is Zanzibarquince-4711, please remember that.")
    second = await first.fork()
    await second.send("Go on.")
    third = await second.fork()
    for number in range(12):
        await third.send(f"Tell me more about the weather in the mountains, part {number}. " * 4)
    covering = [r.event for r in await third.history() if isinstance(r.event, ContextCompacted)]
    assert any(RARE.decode() in text_of(event.summary).lower() for event in covering)
    await rt.memory.erase("session", first.id, reason="asked to")
    left = [r.event for r in await third.history() if isinstance(r.event, ContextCompacted)]
    assert not any(RARE.decode() in text_of(event.summary).lower() for event in left)


@pytest.mark.parametrize("call", ["memory_update", "memory_forget"])
async def test_an_index_made_again_after_an_erasure_is_the_same(rt: Remanence, call: str) -> None:
    await told(rt, TULIPS)
    (note,) = [m for m in await rt.memory.list() if m.kind == "note"]
    other = await rt.open(AGENT, user="ada")
    more = "reason" if call == "memory_forget" else "text"
    await other.send(f'{call} {{"memory": "{note.id}", "{more}": "{SECRET}"}}')
    receipt = await rt.memory.erase("session", other.id, reason="asked to")
    everything = Looking(closed=True)
    before = list(await rt.memory.list(everything))
    assert all(m.closed_at is not None for m in before if m.kind == "note")
    await rt.memory.rebuild()
    assert list(await rt.memory.list(everything)) == before
    assert await bytes_with(rt) == []
    assert all((await holds(rt, receipt)).values())


async def test_an_order_that_a_hold_stops_keeps_no_other_waiting(rt: Remanence) -> None:
    for user in ("ada", "ben"):
        await told(rt, f"{SECRET}, says {user}", user=user)
        broken = replace(rt.caller, database=Broken(rt.database, 0))  # pyright: ignore[reportArgumentType]
        with pytest.raises(StoreUnavailable):
            await erasure.erase(broken, "user", user, reason="asked to")
    tracer = await tracer_of(rt.caller)
    for held, done in (("ada", ["ben"]), ("nobody", ["ada"])):
        await erasure.hold(rt.caller, f"user:{held}", reason="case 12/2026")
        finished = await erasure.resume(rt.caller)
        assert [tracer.pseudonym(one.order.id, name) for one, name in zip(finished, done, strict=True)] == [
            one.order.name for one in finished
        ]
        await erasure.unhold(rt.caller, f"user:{held}")
    assert await bytes_with(rt) == []


class Slow:
    """A model that is still thinking when it is asked to wait, and then says what it was shown."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self._quick = Scripted(commanded)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if "wait" not in last_user_text(request):
            return await self._quick.reply(request, on_delta)
        self.asked.set()
        await self.may_answer.wait()
        return ModelReply((Text("\n".join(text_of(message.parts) for message in request.messages)),))


@pytest.mark.parametrize("what", ["user", "memory"])
async def test_an_answer_that_was_on_its_way_is_waited_for_and_erased(url: str, what: str) -> None:
    model = Slow()
    async with Remanence(url, options=Options(model=model)) as rt:
        session = await told(rt)
        (note,) = [m for m in await rt.memory.list() if m.kind == "note"]
        turn = asyncio.create_task(_say(session.send("Please wait and say it again.")))
        await model.asked.wait()
        name = "ada" if what == "user" else note.id
        order = asyncio.create_task(rt.memory.erase(what, name, reason="asked to"))  # pyright: ignore[reportArgumentType]
        while not isinstance((await session.history())[-1].event, Redacted):
            await rt.database.store.wait(timeout_s=0.1)
        model.may_answer.set()
        receipt = await order
        await turn
        assert await bytes_with(rt) == []
        assert all((await holds(rt, receipt)).values())


async def _say(said: Awaitable[object]) -> None:
    await said


async def test_what_moving_rows_left_between_them_goes_too(rt: Remanence) -> None:
    """Rows of many lengths, written in turn into two sessions, move from page to page; each leaves its old bytes."""
    sessions = [await rt.open(AGENT, user="ada") for _ in range(2)]
    for number in range(24):
        for session in sessions:
            await session.send(f"{SECRET}, and once more, {SECRET}; " * (1 + 7 * number % 5))
    receipt = await rt.memory.erase("user", "ada", reason="asked to")
    assert await bytes_with(rt, b"the spare key lies") == []
    assert all((await holds(rt, receipt)).values())


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[None]:
    """Another program has begun to read, and could look at everything as it was."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.execute("BEGIN")
            file.execute("SELECT count(*) FROM sessions").fetchone()
            yield
        return
    server = await asyncpg.connect(url)
    async with server.transaction(isolation="repeatable_read"):
        await server.execute("SELECT 1")  # it locks nothing
        yield
    await server.close()


async def test_what_somebody_else_could_still_see_goes_when_they_have_ended(rt: Remanence, url: str) -> None:
    await told(rt)
    async with reading(url):
        erasing = asyncio.create_task(rt.memory.erase("user", "ada", reason="asked to"))
        done, _ = await asyncio.wait([erasing], timeout=3)
    await erasing
    assert not done, "it waits"
    paths = await rt.database.files()
    assert [path.name for path in paths if RARE in path.read_bytes().lower()] == []


async def test_who_writes_in_another_database_of_the_server_is_waited_for(
    postgres_database: str, empty_postgres_database: str
) -> None:
    """As long as they do, every look taken on that server is as old as they are: the new tables would keep it all."""
    async with Remanence(postgres_database, options=Options(model=Scripted(commanded))) as rt:
        neighbour = await asyncpg.connect(empty_postgres_database)
        async with neighbour.transaction():
            await neighbour.execute("SELECT pg_current_xact_id()")
            await told(rt)
            erasing = asyncio.create_task(rt.memory.erase("user", "ada", reason="asked to"))
            done, _ = await asyncio.wait([erasing], timeout=3)
        await neighbour.close()
        await erasing
        assert not done, "it waits"
        assert [path.name for path in await rt.database.files() if RARE in path.read_bytes().lower()] == []


@pytest.mark.parametrize("what", ["memory", "subject"])
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
async def test_what_a_dead_process_had_found_is_erased_by_the_next_and_so_is_what_was_said_since(
    rt: Remanence, what: str, writes: int
) -> None:
    await told(rt)
    asking = [await rt.open(AGENT, user="ada") for _ in range(2)]
    await asking[0].send(f"I said that {SECRET}, did I not?")  # her own words, found by the note alone
    for session in asking:
        assert RARE.decode() in (await session.send("Where is the spare key?")).lower()
    (note,) = [m for m in await rt.memory.list() if m.kind == "note"]
    name = note.id if what == "memory" else "the shed"
    broken = replace(rt.caller, database=Broken(rt.database, writes))  # pyright: ignore[reportArgumentType]
    died = True
    try:
        await erasure.erase(broken, what, name, reason="asked to")  # pyright: ignore[reportArgumentType]
        died = False
    except StoreUnavailable:
        await rt.memory.catch_up()  # the index follows what was erased so far: nothing leads from it to the rest
        await asking[-1].send("Say once more where it is.")  # it may still be in this session's view
    assert died == (writes < 3), "the order writes into three sessions"
    if died:
        (receipt,) = await erasure.resume(rt.caller)
        assert all((await holds(rt, receipt)).values()), await check_receipt(rt.caller, receipt)
    assert await bytes_with(rt) == []


async def test_the_index_forgets_at_once_also_where_nobody_reads_the_journals_for_it(url: str) -> None:
    async with Remanence(url, options=Options(model=Scripted(commanded))) as rt:
        await told(rt)
        note = await rt.memory.keep(SECRET, ADAS)
        held = [m.id for m in await rt.memory.list()]
    async with Remanence(url, worker=False) as rt:
        receipt = await erasure.erase(rt.caller, "user", "ada", reason="asked to")
        assert {note.id, *held} <= set(receipt.memories)
        for memory in held:
            with pytest.raises(NotFound):
                await rt.database.memories.get("default", memory)
        assert await rt.database.store.behind(MEMORY, limit=9), "the test is about an index nobody brought up to date"


async def test_two_orders_over_the_same_reach_all_there_is(rt: Remanence) -> None:
    for number in range(30):
        await rt.memory.keep(f"{SECRET}, number {number}", ADAS, subjects=("the shed",))
    await told(rt)
    done = await asyncio.gather(
        rt.memory.erase("user", "ada", reason="asked to"),
        rt.memory.erase("subject", "the shed", reason="asked to"),
        return_exceptions=True,
    )
    found = [one for one in done if not isinstance(one, BaseException)]
    assert found
    assert all(isinstance(one, NotFound) for one in done if isinstance(one, BaseException)), done
    assert list(await rt.memory.list(Looking(closed=True, limit=300))) == []
    assert await bytes_with(rt) == []
