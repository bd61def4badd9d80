"""Declared things on SQLite: see `ports.Registry`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from remanence.ports import Entry, EntryQuery
from remanence.stores.refusals import entry_changed, no_entry
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.readers import Readers
from remanence.stores.sqlite.writer import Writer

__all__ = ["SqliteRegistry", "marked"]

T = TypeVar("T")
_COLUMNS = "kind, project, id, at, updated_at, body, revision"


class SqliteRegistry:
    """Entries by kind and id."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def put(self, entry: Entry, *, expect: int | None = None) -> Entry:
        return await self._writer.do(partial(_put, entry=entry, expect=expect))

    async def get(self, kind: str, name: str) -> Entry:
        return await self._readers.at_once(partial(_get, kind=kind, name=name))

    async def list(self, query: EntryQuery) -> Sequence[Entry]:
        return await self._readers.run(partial(_list, query=query))

    async def kinds(self) -> Sequence[str]:
        return await self._readers.run(_kinds)

    async def remove(self, kind: str, name: str) -> None:
        await self._writer.do(partial(_remove, kind=kind, name=name))


def _put(ledger: Ledger, entry: Entry, expect: int | None) -> Entry:
    execute = ledger.connection.execute
    found = execute("SELECT revision FROM registry WHERE kind = ? AND id = ?", (entry.kind, entry.id)).fetchone()
    revision = found[0] if found else 0
    if expect is not None and expect != revision:
        raise entry_changed(entry.kind, entry.id, expect, revision)
    execute(
        f"INSERT INTO registry ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (kind, id) DO UPDATE SET "
        "project = excluded.project, updated_at = excluded.updated_at, body = excluded.body, revision = revision + 1",
        (entry.kind, entry.project, entry.id, entry.at, entry.updated_at, entry.body),
    )
    return _get(ledger.connection, entry.kind, entry.id)


def marked(mark: Entry | None, change: Callable[[Ledger], T]) -> Callable[[Ledger], T]:
    """A change that keeps a new entry with it, and is not made when that is there (Conflict)."""
    if mark is None:
        return change

    def both(ledger: Ledger) -> T:
        _put(ledger, mark, 0)
        return change(ledger)

    return both


def _get(connection: sqlite3.Connection, kind: str, name: str) -> Entry:
    row = connection.execute(f"SELECT {_COLUMNS} FROM registry WHERE kind = ? AND id = ?", (kind, name)).fetchone()
    if row is None:
        raise no_entry(kind, name)
    return Entry(*row)


def _list(connection: sqlite3.Connection, query: EntryQuery) -> list[Entry]:
    terms, values = ["kind = ?"], list[Any]([query.kind])
    if query.project is not None:
        terms.append("project = ?")
        values.append(query.project)
    if query.holding:
        terms.append(f"({' OR '.join(['instr(body, ?)'] * len(query.holding))})")
        values += query.holding
    if query.after is not None:
        place = connection.execute("SELECT seq FROM registry WHERE kind = ? AND id = ?", (query.kind, query.after))
        found = place.fetchone()
        if found is None:
            raise no_entry(query.kind, query.after)
        terms.append("seq < ?" if query.newest_first else "seq > ?")
        values.append(found[0])
    order = "DESC" if query.newest_first else "ASC"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM registry WHERE {' AND '.join(terms)} ORDER BY seq {order} LIMIT ?",
        (*values, query.limit),
    )
    return [Entry(*row) for row in rows]


def _kinds(connection: sqlite3.Connection) -> list[str]:
    return [kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM registry ORDER BY kind")]


def _remove(ledger: Ledger, kind: str, name: str) -> None:
    if not ledger.connection.execute("DELETE FROM registry WHERE kind = ? AND id = ?", (kind, name)).rowcount:
        raise no_entry(kind, name)
