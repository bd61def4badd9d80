"""What a page asks of SQLite, answered together: see `ports.Screens.ask`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, assert_never

from remanence.events import Recorded
from remanence.ports import Budget, Version
from remanence.screens import (
    STRETCH_BYTES,
    Behind,
    Budgets,
    Found,
    Opened,
    Question,
    Sessions,
    Shown,
    Spent,
    Sums,
    Tags,
    Uses,
    Versions,
    VersionUse,
    Waiting,
    bytes_of,
)
from remanence.stores.sqlite.changes import version_of_row
from remanence.stores.sqlite.reads import behind, load, read
from remanence.stores.sqlite.sums import counted_tags, overview, search_in
from remanence.stores.sqlite.usage import usage_rows
from remanence.stores.sqlite.views import budgets, session_rows, versions

__all__ = ["answers"]

_USES = (
    "SELECT m.version, count(*), sum(m.turns), sum(m.usd_micros), max(h.updated_at) FROM summaries m "
    "CROSS JOIN heads h ON h.id = m.id WHERE m.project = ?1 AND (?2 IS NULL OR m.agent = ?2) AND m.status <> 'deleted' "
    "GROUP BY m.version ORDER BY m.version"
)
_VERSION = "SELECT project, agent, number, version, at, spec FROM versions WHERE project = ? AND version = ?"
_SHARED_BUDGETS = (
    "SELECT scope, unit, ceiling, spent, reserved FROM budgets WHERE scope < 'session:' OR scope >= 'session;' "
    "ORDER BY scope, unit"
)


def answers(connection: sqlite3.Connection, questions: Sequence[Question]) -> list[Any]:
    """Each answer, as its question says."""
    return [_answer(connection, question) for question in questions]


def _answer(connection: sqlite3.Connection, question: Question) -> Any:
    match question:
        case Sums(project, since):
            return overview(connection, project, since)
        case Sessions(query):
            return session_rows(connection, query)
        case Waiting(query):
            return [(row, load(connection, row.session, None)) for row in session_rows(connection, query)]
        case Found(search):
            hits = search_in(connection, search)
            return [(hit, *read(connection, hit.row.session, hit.position - 1, 1)) for hit in hits]
        case Versions(project, agent):
            return versions(connection, project, agent)
        case Uses(project, agent):
            return [VersionUse(*row) for row in connection.execute(_USES, (project, agent))]
        case Tags(project, limit):
            return counted_tags(connection, project, limit)
        case Budgets(scope):
            return _shared(connection) if scope is None else budgets(connection, scope)
        case Spent(query):
            return usage_rows(connection, query)
        case Behind(projections):
            return _is_behind(connection, projections)
        case Opened():
            return _opened(connection, question)
        case _:
            assert_never(question)


def _shared(connection: sqlite3.Connection) -> list[Budget]:
    return [Budget(*row) for row in connection.execute(_SHARED_BUDGETS)]


def _is_behind(connection: sqlite3.Connection, projections: Sequence[str]) -> bool:
    return any(behind(connection, projection, 1) != [] for projection in projections)  # None: nobody has followed yet


def _stretch(connection: sqlite3.Connection, question: Opened, first: int, last: int) -> list[Recorded]:
    records: list[Recorded] = []
    room = STRETCH_BYTES
    for low, high in question.pieces(first, last):
        if room <= 0:
            break
        piece = read(connection, question.session, low, high - low, high)
        room -= bytes_of(piece)
        records = [*records, *piece] if question.place == "after" else [*piece, *records]
    return records


def _opened(connection: sqlite3.Connection, question: Opened) -> Shown:
    loaded = load(connection, question.session, None)
    head = loaded.records[-1].position if loaded.records else loaded.snapshot_position
    first, last = question.bounds(head)
    if first >= loaded.snapshot_position:
        records = [record for record in loaded.records if first < record.position <= last]
    else:
        records = _stretch(connection, question, first, last)
    row = connection.execute(_VERSION, (loaded.summary.project, loaded.summary.version)).fetchone()
    version: Version | None = None if row is None else version_of_row(row)
    own = budgets(connection, f"session:{question.session}")
    return Shown(loaded, tuple(records), version, tuple(own))
