"""Two functions of the schema have the same rules, one for groups and one for a single write: they never disagree."""

from __future__ import annotations

import random
from typing import Any

import asyncpg
from tests.stores.test_postgres import T0, opened, opening, sql

from remanence.stores.postgres.group import STATEMENTS

TRIES = 400
HELD = ["all", "project:p", "project:q", "agent@p:scribe", "agent:scribe"]
LEASED, RELEASES, WAKES, EFFECTS, EXPECTS, CHARGES, UNLESS_HELD = 1, 2, 4, 8, 16, 32, 64


def a_row(dice: random.Random) -> dict[str, Any]:
    """What a session's row may hold."""
    near = (None, T0 - 1, T0, T0 + 1, T0 + 1_000_000, T0 + 4_000_000_000)
    return {
        "epoch": dice.choice((0, 1, 2)),
        "worker": dice.choice((None, "w", "v")),
        "lease_until": dice.choice(near),
        "wake_at": dice.choice(near),
        "frozen": dice.choice((0, 0, 0, 1)),
        "updated_at": dice.choice((T0 - 5, T0 + 5)),
        "effect_position": dice.choice((None, 1)),
        "waiting_on": dice.choice(("", "approval")),
    }


def a_write(dice: random.Random, sid: int, head: int) -> tuple[list[Any], bool, list[str] | None]:
    """The columns of one write, and what holds for its group."""
    flags = sum(dice.choice((0, bit)) for bit in (LEASED, RELEASES, WAKES, EFFECTS, EXPECTS, CHARGES, UNLESS_HELD))
    maybe = [dice.choice((None, value)) for value in (T0 + 7, 2, "idle", "approval", 3, 40, 50, b"snapshot")]
    terms = [sid, head if dice.random() < 0.9 else head + 1, 1, flags, T0, dice.choice((0, 1, 2)), "ada", "w"]
    scopes = [dice.choice(("agent:scribe", "user:p:ada"))] if flags & CHARGES else None
    return [*terms, *maybe, b"payload", b"\x07\x00\x00\x00", b"d" * 32], bool(flags & EFFECTS), scopes


async def outcome(connection: asyncpg.Connection, one: bool, row: dict[str, Any], held: str, write: Any) -> object:
    """What the call answers, and all that is there afterwards; undone again."""
    columns, gated, scopes = write
    given = columns if one else [None if value is None else [value] for value in columns]
    undo = connection.transaction()
    await undo.start()
    try:
        sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(row, start=1))
        await connection.execute(f"UPDATE sessions SET {sets}", *row.values())
        if held:
            await connection.execute("INSERT INTO holds (scope, at, held_by, reason) VALUES ($1, 0, '', '')", held)
        done = await connection.fetchval(STATEMENTS[one, False, False], *given, gated, scopes)
        sessions = [dict(found) for found in await connection.fetch("SELECT * FROM sessions ORDER BY sid")]
        for found in sessions:
            found["effect_at"] = found["effect_at"] is not None  # the clock of the server
        rest = [await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("records", "snapshots")]
        return done is None, sessions, rest
    finally:
        await undo.rollback()


async def test_one_write_does_the_same_alone_as_in_a_group(postgres_database: str) -> None:
    dice, moved = random.Random(14), 0
    async with opened(postgres_database) as database, sql(postgres_database) as connection:
        await database.store.append(opening())
        await database.store.append(opening("other"))
        await connection.execute(
            "INSERT INTO budgets (scope, unit, ceiling, at) VALUES ('agent:scribe', 'tokens', 9, 0)"
        )
        sid = await connection.fetchval("SELECT sid FROM sessions WHERE id = 's'")
        for _ in range(TRIES):
            row, held, write = a_row(dice), dice.choice(("", "", *HELD)), a_write(dice, sid, 1)
            alone = await outcome(connection, True, row, held, write)
            assert alone == await outcome(connection, False, row, held, write), (row, held, write)
            moved += alone[0]  # pyright: ignore[reportIndexIssue]
    assert TRIES / 20 < moved < TRIES / 2, "the dice make writes that match, and others"
