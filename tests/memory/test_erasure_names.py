"""Who it was: the names of users, and of blocks, leave the database with what they name."""

from __future__ import annotations

import io
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from test_erasure import AGENT, RARE, SECRET, bytes_with, commanded, told

from remanence import Agent, Remanence
from remanence.app import Options
from remanence.commands import erasure, memory_stores, sessions
from remanence.commands.caller import state_of
from remanence.commands.controls import freeze_scope
from remanence.commands.kept_views import keep_view, list_views
from remanence.commands.memory import Looking
from remanence.commands.proof import check_receipt
from remanence.commands.receipts import Receipt
from remanence.commands.transfer import export_session, import_session
from remanence.commands.usage import bring_up_to_date
from remanence.commands.verification import verify_session
from remanence.content import Text, text_of
from remanence.core.session import fold
from remanence.core.state import Session as State
from remanence.events import Redacted
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import EntryQuery, ModelReply, ModelRequest, SessionQuery, UsageQuery, Write
from remanence.recollections import Place
from remanence.spec import Limits
from remanence.tools.memory_claims import CLAIM_KIND, Step, claim

ADA = "ada.quokkawell@example.org"
NAME = b"quokkawell"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    async with Remanence(url, options=Options(model=Scripted(commanded))) as opened:
        yield opened


async def found(rt: Remanence, receipt: Receipt, name: str = "") -> dict[str, str]:
    """What of a receipt does not hold."""
    return {check.what: check.found for check in await check_receipt(rt.caller, receipt, name=name) if not check.holds}


async def test_the_name_of_a_user_is_in_no_byte_of_the_database(rt: Remanence) -> None:
    session = await told(rt, user=ADA)
    await session.send("Hello again.", key=f"{ADA}-1")
    fork = await session.fork()
    await fork.send("And here.")
    as_ada = replace(rt.caller, actor=ADA)
    other = await told(rt, "the garage code is 5525 and the hedge is trimmed in May", user="ben")
    await sessions.freeze(as_ada, other.id, reason="not now")
    await sessions.thaw(as_ada, other.id)
    await rt.set_budget(f"user:{ADA}", usd="5.00")
    await session.send("This is counted.")
    await keep_view(as_ada, "hers", f"user={ADA.replace('@', '%40')}")
    await memory_stores.create_store(as_ada, "shed")
    await freeze_scope(as_ada, "agent:support", reason="wait")
    await rt.thaw("agent:support")
    await freeze_scope(as_ada, "agent:support", reason="wait")
    await rt.memory.keep(SECRET, Place("default", f"user:{ADA}"))
    await rt.memory.catch_up()
    assert await bytes_with(rt, NAME)  # the planner has had a look as well
    whole = UsageQuery(by=())
    await bring_up_to_date(rt.caller)
    spent = await rt.database.views.usage(whole)

    receipt = await rt.memory.erase("user", ADA, reason=f"{ADA} asked us to")

    assert await bytes_with(rt, NAME) == []
    assert await bytes_with(rt) == []
    assert NAME.decode() not in repr(receipt)
    assert await found(rt, receipt) == {}
    assert await found(rt, receipt, ADA) == {}
    assert set(await found(rt, receipt, "ben")) == {"name"}
    assert list(await rt.database.views.usage(whole)) == list(spent)
    called = receipt.order.name
    assert {row.session for row in await rt.database.views.sessions(SessionQuery(user=called))} == {session.id, fork.id}
    assert {b.scope: b.limit for b in await rt.database.controls.budgets()} == {f"user:{called}": 5_000_000}
    assert [view.query for view in await list_views(rt.caller)] == [f"user={called.replace(':', '%3A')}"]
    for one in (session, fork, other):
        assert (await verify_session(rt.caller, one.id)).intact
        state = await state_of(rt.caller, one.id)
        assert state == fold(State(one.id), await rt.database.store.read(one.id))
    assert (await state_of(rt.caller, fork.id)).user == called


async def test_whoever_comes_back_is_a_stranger(rt: Remanence) -> None:
    session = await told(rt, user=ADA)
    receipt = await rt.memory.erase("user", ADA, reason="asked to")
    again = await rt.open(AGENT, user=ADA)
    assert RARE.decode() not in (await again.send("Where is the spare key?")).lower()
    assert await found(rt, receipt, ADA) == {}
    assert (await state_of(rt.caller, session.id)).user == receipt.order.name
    second = await rt.memory.erase("user", ADA, reason="once more")
    assert second.order.name != receipt.order.name
    assert {one.session for one in second.records} == {again.id}
    assert await bytes_with(rt, NAME) == []
    assert await found(rt, receipt, ADA) == await found(rt, second, ADA) == {}


async def test_what_is_left_of_an_erased_record_cannot_be_changed_unseen(rt: Remanence, tmp_path: Path) -> None:
    session = await told(rt, user=ADA)
    fork = await session.fork()
    await rt.memory.erase("user", ADA, reason="asked to")
    out = io.BytesIO()
    await export_session(rt.caller, fork.id, out)
    moved = await import_session(rt.caller, out, as_session="moved")
    assert (await verify_session(rt.caller, moved.session)).intact
    assert NAME not in out.getvalue()
    for column, value in (("actor", "eve"), ("at", 1), ("epoch", 7)):
        for changed in (session.id, moved.session):
            before = await changed_row(rt, changed, column, value)
            assert not (await verify_session(rt.caller, changed)).intact, column
            await changed_row(rt, changed, column, before)
    assert (await verify_session(rt.caller, session.id)).intact
    assert (await verify_session(rt.caller, moved.session)).intact


async def changed_row(rt: Remanence, session: str, column: str, value: object) -> Any:
    """Change the header of a session's second record behind everybody's back; what was there before."""
    url = rt.database.url
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            where = "place = (SELECT id << 32 | 2 FROM sessions WHERE name = ?)"
            (before,) = file.execute(f"SELECT {column} FROM records WHERE {where}", (session,)).fetchone()
            file.execute(f"UPDATE records SET {column} = ? WHERE {where}", (value, session))
        return before
    server = await asyncpg.connect(url, server_settings={"search_path": "remanence"})
    where = "sid = (SELECT sid FROM sessions WHERE id = $1) AND position >= 2"
    position = await server.fetchval(f"SELECT min(position) FROM records WHERE {where}", session)
    before = await server.fetchval(f"SELECT {column} FROM records WHERE {where} AND position = $2", session, position)
    change = f"UPDATE records SET {column} = $3 WHERE {where} AND position = $2"
    await server.execute(change, session, position, value)
    await server.close()
    return before


async def test_the_name_of_a_block_goes_with_its_text(rt: Remanence) -> None:
    session = await rt.open(AGENT, user="ada")
    await session.send(f'memory_block {{"name": "daughter_zelmira", "text": "{SECRET}"}}')
    await rt.memory.catch_up()
    await session.send("Do you see it?")
    other = await rt.open(AGENT, user="ada")
    assert RARE.decode() in (await other.send("And here?")).lower()
    (block,) = [one for one in await rt.memory.list() if one.kind == "block"]
    assert await bytes_with(rt, b"zelmira")

    receipt = await rt.memory.erase("memory", block.id, reason="the child is nobody's business")

    assert await bytes_with(rt, b"zelmira") == []
    assert await bytes_with(rt) == []
    assert await found(rt, receipt) == {}
    assert await found(rt, receipt, block.id) == {}
    for one in (session, other):
        assert (await verify_session(rt.caller, one.id)).intact
    await rt.memory.rebuild()
    assert [one for one in await rt.memory.list(Looking(closed=True)) if one.kind == "block"] == []
    again = await rt.memory.set_block("daughter_zelmira", "It is set anew.", block.place)
    assert (again.id, again.version) == (block.id, 1)
    assert await found(rt, receipt) == {}


async def test_a_name_that_an_older_release_left_goes_with_its_user(rt: Remanence) -> None:
    """A session that was redacted without pseudonyms, and a receipt that says who it was."""
    session = await told(rt, user=ADA)
    await rt.memory.erase("session", session.id, reason=f"{ADA} asked for this one")
    await rt.memory.set_block("house", SECRET, Place("default", f"user:{ADA}"))
    head = (await session.state()).head
    for position in range(1, head + 1):
        await rt.database.store.append(Write(session.id, (Redacted(position, ADA),), rt.caller.clock.now(), ADA))
    assert await bytes_with(rt, NAME)
    receipt = await rt.memory.erase("user", ADA, reason="and now all of it")
    assert await found(rt, receipt, ADA) == {}
    assert (await verify_session(rt.caller, session.id)).intact
    first = min(await erasure.receipts(rt.caller), key=lambda one: one.order.at)
    assert await found(rt, first) == {}
    assert await bytes_with(rt, NAME) == []


def tersely(request: ModelRequest) -> ModelReply:
    """A model that says nothing but the number of the locker it was told of."""
    said = " ".join(text_of(message.parts) for message in request.messages[:-1])
    found = re.search(r"quince-[0-9]+", said)
    return ModelReply((Text(f"It is {found[0]}." if found and "number" in last_user_text(request) else "Fine."),))


async def test_an_identifier_that_a_fork_repeats_from_an_erased_summary_goes(url: str) -> None:
    small = Agent("small", model="scripted", instructions="Help.", limits=Limits(window_tokens=600))
    async with Remanence(url, options=Options(model=Scripted(tersely))) as rt:
        session = await rt.open(small, user="ada")
        await session.send("My locker is quince-4711, please remember that.")
        for number in range(12):
            await session.send(f"Tell me more about the weather in the mountains, part {number}. " * 4)
        fork, own = await session.fork(), await session.fork()
        assert await fork.send("What was the number?") == "It is quince-4711."
        await own.send("By the way, mine is quince-4711, too.")
        assert await own.send("What was the number?") == "It is quince-4711."
        receipt = await rt.memory.erase("session", session.id, reason="asked to")
        assert b"quince-4711" not in b"".join(one.payload for one in await rt.database.raw(fork.id))
        said = b"".join(one.payload for one in await rt.database.raw(own.id))
        assert said.count(b"quince-4711") == 2, "who said it themselves keeps it, and the answer"
        assert await found(rt, receipt) == {}
        assert await fork.send("Good evening.") == "Fine."


async def test_a_text_of_few_letters_is_looked_for_where_it_stands_in_a_record(rt: Remanence) -> None:
    session = await rt.open(AGENT, user="ada", title="PIN 77-1")
    await session.send("PIN 4711")
    receipt = await rt.memory.erase("user", "ada", reason="asked to")
    assert await found(rt, receipt) == {}
    await leave_a_trace(rt, "the page says PIN 4711 in the middle of something else")
    assert await found(rt, receipt) == {}
    ben = await rt.open(AGENT, user="ben")
    await ben.send("PIN 4711")
    assert await found(rt, receipt) == {}, "who says the same says it for himself"
    await rt.memory.erase("user", "ben", reason="asked to")
    await leave_a_trace(rt, '{"type":"InputReceived","input":"in","parts":[{"type":"Text","text":"PIN 4711"}]}')
    assert "found 1 in" in (await found(rt, receipt))["files"]


async def leave_a_trace(rt: Remanence, text: str) -> None:
    """As a table would that somebody else made in the same database."""
    make, add = "CREATE TABLE IF NOT EXISTS notebook (page text)", f"INSERT INTO notebook VALUES ('{text}')"
    url = rt.database.url
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            file.execute(make)
            file.execute(add)
        return
    server = await asyncpg.connect(url)
    for statement in (make, add, "CHECKPOINT"):
        await server.execute(statement)
    await server.close()


async def test_an_operator_recycles_the_log_of_postgresql_as_the_page_says(postgres_database: str) -> None:
    nobody_else = "mia.bandicootford@example.org"  # the log is the server's: other tests write to it meanwhile
    async with Remanence(postgres_database, options=Options(model=Scripted(commanded))) as rt:
        await told(rt, user=nobody_else)
        await rt.memory.erase("user", nobody_else, reason="asked to")
    server = await asyncpg.connect(postgres_database)
    log = Path(await server.fetchval("SELECT current_setting('data_directory')")) / "pg_wal"
    assert files_with(b"bandicootford", log)
    page = Path(__file__).parents[2] / "docs" / "how-to" / "erase-what-somebody-said.md"
    said = "ALTER" + page.read_text(encoding="utf-8").partition("```text\nALTER")[2].partition("```")[0]
    statements = [line.strip() for line in said.split(";") if line.strip()]
    try:
        for statement in statements + statements[-2:] * await server.fetchval("SELECT count(*) FROM pg_ls_waldir()"):
            await server.execute(statement)
        left = files_with(b"bandicootford", log)
    finally:
        await server.execute("ALTER SYSTEM RESET wal_recycle")
        await server.execute("SELECT pg_reload_conf()")
        await server.close()
    assert left == []


def files_with(word: bytes, folder: Path) -> list[Path]:
    """The files of a folder that hold a word, of those that stay until they are read."""
    found: list[Path] = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.is_file() and word in path.read_bytes():
                found.append(path)
    return found


@pytest.mark.parametrize("what", ["user", "session"])
async def test_a_memory_that_was_claimed_and_never_written_names_nobody(rt: Remanence, what: Any) -> None:
    session, registry = await told(rt, user=ADA), rt.database.registry
    hers, shared, bens = (f"block/default/{place}" for place in ("user:ada/mia", "agent:support/mia", "user:ben/mia"))
    hers = hers.replace("user:ada", f"user:{ADA}")
    for memory, by in ((hers, "sess_elsewhere"), (shared, session.id), (bens, "sess_elsewhere")):
        assert await claim(registry, "default", Step(memory, 1), by=f"{by}:1:call_1_1_1", now=1)
    await rt.memory.erase(what, ADA if what == "user" else session.id, reason="asked to")
    left = {entry.id for entry in await registry.list(EntryQuery(CLAIM_KIND, "default"))}
    assert left == {f"default/{bens}"} | ({f"default/{hers}"} if what == "session" else set())
    if what == "user":
        assert await bytes_with(rt, NAME) == []
