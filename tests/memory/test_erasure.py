"""Erasure, on real files: nothing that was erased is found again, by any query or in any byte of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from remanence import Agent, Remanence
from remanence.app import Options, Session
from remanence.commands import erasure
from remanence.commands.caller import Caller, state_of
from remanence.commands.proof import check_receipt
from remanence.commands.reach import Reach
from remanence.commands.receipts import Order, Receipt, tracer_of
from remanence.commands.verification import verify_session
from remanence.content import Text, ToolCall, ToolResult, text_of
from remanence.core.session import evolve
from remanence.core.snapshots import encode_snapshot
from remanence.errors import Conflict, NotFound, StoreUnavailable
from remanence.events import ContextCompacted, InputReceived, Recorded, Redacted, SessionAnnotated
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import Appended, ModelReply, ModelRequest, SessionQuery, Write
from remanence.recollections import Place
from remanence.spec import Limits

SECRET = "the spare key lies under the Zanzibarquince pot behind the shed"
RARE = b"zanzibarquince"


def commanded(request: ModelRequest) -> ModelReply:
    """A model that calls `TOOL {json}` when told so, and says back what it has in view otherwise."""
    last = request.messages[-1]
    if last.role == "tool":
        return ModelReply((Text("\n".join(text_of(p.parts) for p in last.parts if isinstance(p, ToolResult))),))
    name, _, arguments = last_user_text(request).partition(" ")
    if name.startswith("memory_"):
        return ModelReply((ToolCall("x", name, arguments),))
    return ModelReply((Text(request.instructions + "\n".join(text_of(m.parts) for m in request.messages)),))


AGENT = Agent("support", model="scripted", instructions="Help.", memory=True)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    async with Remanence(url, options=Options(model=Scripted(commanded))) as opened:
        yield opened


async def bytes_with(rt: Remanence, rare: bytes = RARE) -> list[str]:
    """The files of the database in which a rare word stands, after the planner had a look at everything."""
    await rt.database.scrub()
    if rt.database.url.startswith("postgres"):
        server = await asyncpg.connect(rt.database.url)
        await server.execute("ANALYZE")
        await server.execute("CHECKPOINT")  # what the server has in memory is in the files then
        await server.close()
    paths = await rt.database.files()
    assert paths, "the test must be able to read the files"
    return [path.name for path in paths if path.exists() and rare in path.read_bytes().lower()]


async def holds(rt: Remanence, receipt: Receipt) -> dict[str, bool]:
    return {check.what: check.holds for check in await check_receipt(rt.caller, receipt)}


async def told(rt: Remanence, text: str = SECRET, *, user: str = "ada", title: str = "") -> Session:
    session = await rt.open(AGENT, user=user, title=title)
    await session.send(f"Remember: {text}.")
    await session.send(f'memory_write {{"text": "{text}", "subjects": ["the shed"]}}')
    await rt.memory.catch_up()
    return session


async def test_a_user_who_is_erased_is_in_no_byte_of_the_database(rt: Remanence) -> None:
    session = await told(rt, title=f"about {SECRET}")
    other = await told(rt, "the garage code is 5525 and the hedge is trimmed in May", user="ben")
    again = await rt.open(AGENT, user="ada")
    assert RARE.decode() in (await again.send("Where is the spare key?")).lower()
    await rt.database.blobs.put(b"something else")
    assert await bytes_with(rt)

    receipt = await rt.memory.erase("user", "ada", reason="asked to")

    assert await bytes_with(rt) == []
    assert {one.session for one in receipt.records} == {session.id, again.id}
    assert receipt.memories
    assert all((await holds(rt, receipt)).values()), await check_receipt(rt.caller, receipt)
    for one in (session, again, other):
        assert (await verify_session(rt.caller, one.id)).intact
    third = await rt.open(AGENT, user="ada")
    assert RARE.decode() not in (await third.send("Where is the spare key?")).lower()
    fourth = await rt.open(AGENT, user="ben")
    assert "5525" in await fourth.send("What is the garage code?")
    assert RARE.decode() not in (await session.send("Where is the key that lies there?")).lower()
    rows = await rt.database.views.sessions(SessionQuery(user="ada"))
    assert not any(RARE.decode() in row.summary.title.lower() for row in rows)


async def test_a_memory_goes_with_what_it_was_learned_from_and_what_repeats_it(rt: Remanence) -> None:
    session = await told(rt)
    await session.send("The weather is fine, thank you for asking about it.")
    (note,) = [m for m in await rt.memory.list() if m.kind == "note"]

    receipt = await rt.memory.erase("memory", note.id, reason="wrong house")

    assert note.id in receipt.memories
    assert await bytes_with(rt) == []
    assert all((await holds(rt, receipt)).values())
    history = [text_of(getattr(record.event, "parts", ())) for record in await session.history()]
    assert any("weather is fine" in text for text in history)
    with pytest.raises(NotFound):
        await rt.memory.get(note.id)


async def test_what_a_person_noted_goes_from_the_journal_of_its_store(rt: Remanence) -> None:
    note = await rt.memory.keep(f"{SECRET} (says Ben)", Place("default", "user:ada"), subjects=["the shed"])
    await rt.memory.edit(note.id, f"{SECRET}, still")
    await rt.memory.set_block("house", f"{SECRET}!", Place("default", "user:ada"))
    await erasure.hold(rt.caller, "user:ada", reason="case 12/2026")
    with pytest.raises(Conflict, match="A legal hold stands over user:ada"):
        await rt.memory.erase("memory", note.id, reason="wrong house")
    await erasure.unhold(rt.caller, "user:ada")
    receipt = await rt.memory.erase("user", "ada", reason="asked to")
    assert len(receipt.memories) == 2
    assert await bytes_with(rt) == []
    assert all((await holds(rt, receipt)).values())


async def test_a_subject_is_erased_in_every_session_and_the_rest_stays(rt: Remanence) -> None:
    await told(rt)
    await told(rt, "the tulips along the fence are watered on Sundays")
    receipt = await rt.memory.erase("subject", "the shed", reason="moved house")
    assert await bytes_with(rt) == []
    assert all((await holds(rt, receipt)).values())
    with pytest.raises(NotFound, match="with anything to erase"):
        await rt.memory.erase("subject", "the shed", reason="again")


async def test_a_session_goes_with_its_forks_share_of_it_and_exports_made_later(rt: Remanence, tmp_path: Path) -> None:
    session = await told(rt)
    inherited = (await session.state()).head
    fork = await session.fork()
    await fork.send("Where was it again?")
    receipt = await rt.memory.erase("session", session.id, reason="asked to")
    assert {one.session for one in receipt.records} == {session.id, fork.id}, "the fork's own reply quoted it"
    said = [text_of(getattr(r.event, "parts", ())).lower() for r in await fork.history() if r.position <= inherited]
    assert not any(RARE.decode() in text for text in said)
    assert await bytes_with(rt) == []
    assert (await verify_session(rt.caller, fork.id)).intact


async def test_a_summary_that_covers_it_goes_with_it(rt: Remanence) -> None:
    small = Agent("small", model="scripted", instructions="Help.", limits=Limits(window_tokens=600))
    session = await rt.open(small, user="ada")
    await session.send("My locker is Zanzibarquince-4711, please remember that.")
    for number in range(12):
        await session.send(f"Tell me more about the weather in the mountains, part {number}. " * 4)
    history = await session.history()
    said = {r.position: text_of(r.event.summary) for r in history if isinstance(r.event, ContextCompacted)}
    assert any(RARE.decode() in text.lower() for text in said.values()), "the summary keeps the name"
    first = next(r.position for r in history if isinstance(r.event, InputReceived))
    reach = Reach(rt.caller, Order("x", "default", "session", session.id, "me", "", 0), await tracer_of(rt.caller))
    assert [p async for p in covering(reach, session.id, first)] == list(said)
    await rt.memory.erase("session", session.id, reason="asked to")
    assert await bytes_with(rt) == []


async def covering(reach: Reach, session: str, position: int) -> AsyncIterator[int]:
    """The summaries that go when one record goes."""
    row = await reach.row(session)
    await reach._follow_in(row, frozenset({(session, position)}))
    for found in sorted(reach.records.get(session, {})):
        yield found


async def test_titles_and_metadata_go_from_every_snapshot_also_from_those_of_forks(rt: Remanence) -> None:
    session = await told(rt, title=f"about {SECRET}")
    store, at = rt.database.store, rt.caller.clock.now()
    for _ in range(3):
        said = SessionAnnotated({"where": SECRET}, {}, "ada")
        s = await session.state()
        s = evolve(s, Recorded(s.id, s.head + 1, at, 0, "ada", said))
        await store.append(Write(session.id, (said,), at, "ada", snapshot=encode_snapshot(s)))
        await store.append(Write(session.id, (SessionAnnotated({}, {}, "ada"),), at, "ada"))
    for early in (await session.fork(turn=1), await session.fork()):
        assert RARE.decode() in (await early.state()).title.lower()
        await (await early.fork()).send("Good evening.")
        assert RARE.decode() in (await (await early.fork(turn=1)).state()).title.lower()
    await rt.memory.erase("session", session.id, reason="asked to")
    assert await bytes_with(rt) == []
    for row in await rt.database.views.sessions(SessionQuery(user="ada")):
        assert (await verify_session(rt.caller, row.session)).intact
        assert RARE.decode() not in (await state_of(rt.caller, row.session)).title.lower()


async def test_a_fork_keeps_a_title_that_says_nothing_of_what_is_erased(rt: Remanence) -> None:
    session = await told(rt, title="about sheds")
    (note,) = [m for m in await rt.memory.list() if m.kind == "note"]
    fork = await session.fork()
    again = await fork.fork()
    receipt = await rt.memory.erase("memory", note.id, reason="wrong house")
    assert await bytes_with(rt) == []
    assert not {fork.id, again.id} & {one.session for one in receipt.records}
    for one in (session, fork, again):
        assert (await one.state()).title == "about sheds"


async def test_what_agents_and_tools_quoted_elsewhere_goes_and_a_persons_own_words_stay(rt: Remanence) -> None:
    session = await told(rt)
    quoting = await rt.open(AGENT, user="ada")
    await quoting.send('memory_search {"query": "Where is the spare key?"}')
    own = await rt.open(AGENT, user="ada")
    await own.send("My aunt waters the tulips on Sundays.")
    receipt = await rt.memory.erase("session", session.id, reason="asked to")
    assert quoting.id in {one.session for one in receipt.records}
    assert await bytes_with(rt) == []
    assert any("My aunt waters" in text_of(getattr(r.event, "parts", ())) for r in await own.history())


async def test_a_legal_hold_wins_and_says_so(rt: Remanence) -> None:
    session = await told(rt)
    await erasure.hold(rt.caller, "user:ada", reason="case 12/2026")
    for what, name in (("user", "ada"), ("session", session.id), ("subject", "the shed")):
        with pytest.raises(Conflict, match=r"A legal hold stands over user:ada.*case 12/2026.*Nothing was erased"):
            await rt.memory.erase(what, name, reason="asked to")  # pyright: ignore[reportArgumentType]
    assert await bytes_with(rt)
    assert await erasure.receipts(rt.caller) == []
    await erasure.unhold(rt.caller, "user:ada")
    await rt.memory.erase("user", "ada", reason="asked to")
    assert await bytes_with(rt) == []


async def test_a_receipt_knows_a_trace_that_was_left_and_what_is_only_said_again(rt: Remanence, url: str) -> None:
    await told(rt)
    receipt = await rt.memory.erase("user", "ada", reason="asked to")
    assert RARE.decode() not in repr(receipt).lower()
    forged = replace(receipt, records=receipt.records[1:])
    assert (await holds(rt, forged))["signature"] is False
    ben = await told(rt, user="ben")
    said = await check_receipt(rt.caller, receipt)
    assert all(check.holds for check in said)
    assert f"what others say, too, such as {ben.id}#" in said[-1].found
    await rt.memory.erase("user", "ben", reason="asked to")
    await leave_a_trace(url)
    assert (await holds(rt, receipt)) == {"signature": True, "records": True, "memories": True, "files": False}


async def leave_a_trace(url: str) -> None:
    """As a table would that somebody else made in the same database."""
    statements = ("CREATE TABLE notebook (page text)", f"INSERT INTO notebook VALUES ('{SECRET}')")
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            for statement in statements:
                file.execute(statement)
        return
    server = await asyncpg.connect(url)
    for statement in (*statements, "CHECKPOINT"):
        await server.execute(statement)
    await server.close()


class Dying:
    """A store that is gone after so many writes that erase."""

    def __init__(self, store: Any, writes: int) -> None:
        self._store = store
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, write: Write) -> Appended:
        if any(isinstance(event, Redacted) for event in write.events):
            self._left -= 1
            if self._left < 0:
                raise StoreUnavailable("gone")
        return await self._store.append(write)


class Broken:
    """A database with such a store."""

    def __init__(self, database: Any, writes: int) -> None:
        self._database = database
        self.store = Dying(database.store, writes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


@pytest.mark.parametrize("writes", [0, 1, 2])
async def test_an_order_survives_the_death_of_whoever_carries_it_out(rt: Remanence, writes: int) -> None:
    for _ in range(3):
        await told(rt)
    broken: Caller = replace(rt.caller, database=Broken(rt.database, writes))  # pyright: ignore[reportArgumentType]
    with pytest.raises(StoreUnavailable):
        await erasure.erase(broken, "user", "ada", reason="asked to")
    assert await bytes_with(rt)
    (receipt,) = await erasure.resume(rt.caller)
    assert await bytes_with(rt) == []
    assert len({one.session for one in receipt.records}) == 3
    assert all((await holds(rt, receipt)).values())
    assert list(await erasure.resume(rt.caller)) == []
    assert list(await erasure.receipts(rt.caller)) == [receipt]
