"""Databases of the first schemas that were used, as they were written then: today's code opens them and goes on.

`golden/` holds the rows only. The tables are made by the migrations of that time, whose texts are never changed, and
the others then run over the rows. Every kind of session that can rest is there: with calls that wait for an approval,
an answer or a client, an effect in doubt, a timer, a budget that was reached, a freeze, a fork, content beside the
journal; and a freeze and a budget of an agent that two projects share.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from msgspec.structs import replace
from tests.runtime.shop import FAST, Shop, script, until

from remanence import Remanence
from remanence.app import Options, Session
from remanence.commands import approvals, erasure
from remanence.commands.proof import check_receipt
from remanence.commands.search import search
from remanence.commands.transfer import export_session, import_session
from remanence.commands.verification import sessions_all, verify_session
from remanence.content import Text
from remanence.models.scripted import Scripted
from remanence.ports import SessionQuery
from remanence.stores.migrations import Migration, migrations
from remanence.stores.postgres.connect import SCHEMA
from remanence.stores.schema_state import migrate, schema_state
from remanence.stores.sqlite.schema import APPLICATION_ID

GOLDEN = Path(__file__).parent / "golden"
MIGRATIONS = "CREATE TABLE migrations (number integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL)"


def applied(dialect: str, last: int) -> list[Migration]:
    return [one for one in migrations(dialect) if one.number <= last]


def lay_sqlite(path: Path) -> str:
    """A SQLite file of schema 2."""
    rows = gzip.decompress((GOLDEN / "sqlite_schema_2.sql.gz").read_bytes()).decode()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        done = applied("sqlite", 2)
        connection.executescript("\n".join([*(one.sql for one in done), MIGRATIONS, ";BEGIN;", rows, "COMMIT;"]))
        remembered = [(one.number, one.name, one.digest) for one in done]
        connection.executemany("INSERT INTO migrations VALUES (?, ?, ?)", remembered)
        connection.commit()
    return f"sqlite:///{path}"


async def lay_postgres(url: str) -> str:
    """A database of schema 3 on PostgreSQL."""
    tables = json.loads(gzip.decompress((GOLDEN / "postgres_schema_3.json.gz").read_bytes()))
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE SCHEMA {SCHEMA}; SET search_path = {SCHEMA}, public; {MIGRATIONS}")
    for one in applied("postgres", 3):
        await connection.execute(one.sql)
        await connection.execute("INSERT INTO migrations VALUES ($1, $2, $3)", one.number, one.name, one.digest)
    for table, (columns, rows) in tables.items():
        source = io.BytesIO(rows.encode())
        await connection.execute(f"TRUNCATE {table}")  # a migration may have left a row
        await connection.copy_to_table(table, source=source, columns=columns, schema_name=SCHEMA, format="text")
    await connection.execute(
        "SELECT setval(pg_get_serial_sequence('sessions', 'sid'), (SELECT max(sid) FROM sessions))"
    )
    await connection.close()
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("empty_postgres_database")
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
async def url(empty: str, tmp_path: Path) -> str:
    """A database of yesterday, brought up to date."""
    if empty.startswith("postgres"):
        made = await lay_postgres(empty)
    else:
        made = await asyncio.to_thread(lay_sqlite, tmp_path / "shop.db")
    assert (await schema_state(made)).pending
    assert await migrate(made)
    assert not (await schema_state(made)).pending
    return made


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    options = Options(model=Scripted(script), times=FAST)
    async with Remanence(url, agents=[Shop().agent()], options=options) as opened:
        yield opened


async def rests(session: Session, turns: int = 1) -> None:
    await until(session, lambda s: s.turn is None and s.turns >= turns)


async def waiting_call(session: Session) -> str:
    turn = (await session.state()).turn
    assert turn is not None
    return turn.calls[-1].call


async def test_what_rested_goes_on(rt: Remanence) -> None:
    async with asyncio.timeout(60):
        await rt.thaw("agent:shop")
        plain, approval, denied = await rt.get("plain"), await rt.get("approval"), await rt.get("denied")
        assert await plain.send("hello again") == "hello again -> "
        fork = await plain.fork(turn=3)
        assert await fork.send("hello there") == "hello there -> "
        await approval.approve(await waiting_call(approval), by="boss")
        await rests(approval)
        assert "refunded 6000 for A" in str((await approval.history())[-2].event)
        await denied.deny(await waiting_call(denied), by="boss")
        doubt, client = await rt.get("doubt"), await rt.get("client")
        await doubt.resolve(await waiting_call(doubt), by="boss", outcome="happened", result="it did")
        await approvals.tool_result(rt.caller, "client", await waiting_call(client), (Text("shown"),))
        await (await rt.get("question")).submit("the blue one")
        await rt.raise_budget("user:poor", tokens=1_000_000)
        await (await rt.get("frozen")).thaw()
        for name in ("denied", "doubt", "client", "question", "timer", "paused", "killed"):
            await rests(await rt.get(name))
        await rests(await rt.get("frozen"), turns=2)


async def test_a_freeze_and_a_budget_of_an_agent_stand_in_each_project(rt: Remanence) -> None:
    assert {hold.scope for hold in await rt.database.controls.holds()} == {"agent:shop", "agent@acme:shop"}
    budgets = {budget.scope: budget.limit for budget in await rt.database.controls.budgets()}
    assert budgets == {
        "agent:shop": 50_000_000,
        "agent@acme:shop": 50_000_000,
        "user:poor": 1,
        "user@acme:poor": 1,
    }
    theirs = await rt.get("theirs")
    await rt.thaw("agent:shop")
    await theirs.submit("hello")
    assert (await theirs.state()).turns == 1, "it is frozen still"


async def test_journals_are_whole_and_move(rt: Remanence, tmp_path: Path) -> None:
    names = [name async for name in sessions_all(rt.caller)]
    assert len(names) == 12
    for name in [*names, "theirs"]:
        found = await verify_session(rt.caller, name)
        assert found.sound, found
    assert (await rt.database.snapshots("plain"))[0][0] == 101
    await export_session(rt.caller, "plain", tmp_path / "plain.zip")
    async with Remanence(f"sqlite:///{tmp_path}/other.db", worker=False) as other:
        await import_session(other.caller, tmp_path / "plain.zip")
        assert (await verify_session(other.caller, "plain")).sound


async def test_what_was_said_is_found_and_erased(rt: Remanence) -> None:
    searched = await search(rt.caller, "forked ", SessionQuery(), within_s=30.0)
    assert [one.row.session[:5] for one in searched.found] == ["sess_"]
    receipt = await erasure.erase(replace(rt.caller, actor="boss"), "user", "ada", reason="asked")
    assert {one.session for one in receipt.records} >= {"plain", "approval", "doubt", "timer", "frozen"}
    assert all(check.holds for check in await check_receipt(rt.caller, receipt, name="ada"))
    assert not (await search(rt.caller, "forked ", SessionQuery(), within_s=30.0)).found
    for name in ("plain", "approval", "paused"):
        assert (await verify_session(rt.caller, name)).sound
