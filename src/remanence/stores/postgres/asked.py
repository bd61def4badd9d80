"""What a page asks of PostgreSQL, answered in one transaction: see `ports.Screens.ask`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from remanence.events import Recorded
from remanence.ports import Budget, Loaded, SessionQuery, SessionRow, Version
from remanence.screens import (
    STRETCH_BYTES,
    Behind,
    Budgets,
    Found,
    Hit,
    Opened,
    Question,
    Search,
    Sessions,
    Shown,
    Spent,
    Sums,
    Tags,
    Uses,
    Versions,
    Waiting,
    bytes_of,
)
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.connect import Row as Fields
from remanence.stores.postgres.journal import NO_END
from remanence.stores.postgres.reads import load_in, read_in
from remanence.stores.postgres.rows import SESSION
from remanence.stores.postgres.sums import counted_tags, overview, search_in, version_uses
from remanence.stores.postgres.usage import usage_rows
from remanence.stores.postgres.views import BEHIND, rows_in
from remanence.stores.rows import spec_in

__all__ = ["answer"]

_VERSIONS = "SELECT project, agent, number, version, at, spec FROM versions WHERE project = $1 "
_BUDGETS = "SELECT scope, unit, ceiling, spent, reserved FROM budgets WHERE {} ORDER BY scope, unit"
_ROWS = (
    f"SELECT {SESSION} FROM sessions s LEFT JOIN sessions source ON source.sid = s.fork_sid "
    "WHERE s.id = ANY ($1::text[])"
)


async def answer(connection: Connection, question: Question, *, cached: bool) -> Any:
    """As the question says. Not `cached`: without looking at any snapshot."""
    match question:
        case Sums(project, since):
            return await overview(connection, project, since)
        case Sessions(query):
            return await rows_in(connection, query)
        case Waiting(query):
            return await _waiting(connection, query, cached=cached)
        case Found(search):
            return await _found(connection, search)
        case Versions(project, agent):
            return await _versions(connection, "AND ($2::text IS NULL OR agent = $2)", project, agent)
        case Uses(project, agent):
            return await version_uses(connection, project, agent)
        case Tags(project, limit):
            return await counted_tags(connection, project, limit)
        case Budgets(scope):
            return await _budgets(connection, scope)
        case Spent(query):
            return await usage_rows(connection, query)
        case Behind(projections):
            return await _is_behind(connection, projections)
        case Opened():
            return await _opened(connection, question, cached=cached)
        case _:
            assert_never(question)


async def _waiting(connection: Connection, query: SessionQuery, *, cached: bool) -> list[tuple[SessionRow, Loaded]]:
    rows = await rows_in(connection, query)
    return [(row, (await load_in(connection, row.session, NO_END, cached=cached))[1]) for row in rows]


async def _found(connection: Connection, search: Search) -> list[tuple[Hit, *tuple[Recorded, ...]]]:
    hits = await search_in(connection, search)
    rows = {row["id"]: row for row in await connection.fetch(_ROWS, [hit.row.session for hit in hits])}
    return [
        (hit, *await read_in(connection, rows[hit.row.session], after=hit.position - 1, upto=NO_END, limit=1))
        for hit in hits
    ]


async def _versions(connection: Connection, condition: str, project: str, which: str | None) -> list[Version]:
    rows = await connection.fetch(f"{_VERSIONS}{condition} ORDER BY at, agent, number", project, which)
    return [Version(row[0], row[1], row[2], row[3], row[4], spec_in(row[5])) for row in rows]


async def _budgets(connection: Connection, scope: str | None) -> list[Budget]:
    if scope is None:
        rows = await connection.fetch(_BUDGETS.format("scope NOT LIKE 'session:%'"))
    else:
        rows = await connection.fetch(_BUDGETS.format("scope = $1"), scope)
    return [Budget(*row) for row in rows]


async def _is_behind(connection: Connection, projections: Sequence[str]) -> bool:
    known = {row["name"] for row in await connection.fetch("SELECT name FROM projections")}
    if not known.issuperset(projections):
        return True
    return any([await connection.fetch(BEHIND, projection, 1, "") for projection in projections])


async def _stretch(connection: Connection, found: Fields, question: Opened, first: int, last: int) -> list[Recorded]:
    records: list[Recorded] = []
    room = STRETCH_BYTES
    for low, high in question.pieces(first, last):
        if room <= 0:
            break
        piece = await read_in(connection, found, after=low, upto=high, limit=high - low)
        room -= bytes_of(piece)
        records = [*records, *piece] if question.place == "after" else [*piece, *records]
    return records


async def _opened(connection: Connection, question: Opened, *, cached: bool) -> Shown:
    found, loaded = await load_in(connection, question.session, NO_END, cached=cached)
    first, last = question.bounds(found["head"])
    records: Sequence[Recorded] = [record for record in loaded.records if first < record.position <= last]
    if first < loaded.snapshot_position and last > first:
        records = await _stretch(connection, found, question, first, last)
    summary = loaded.summary
    versions = await _versions(connection, "AND version = $2", summary.project, summary.version)
    own = await _budgets(connection, f"session:{question.session}")
    return Shown(loaded, tuple(records), versions[0] if versions else None, tuple(own))
