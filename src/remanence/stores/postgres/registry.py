"""Declared things on PostgreSQL: see `ports.Registry`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remanence.ports import Entry, EntryQuery
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.rows import can_name
from remanence.stores.refusals import entry_changed, no_entry

__all__ = ["PostgresRegistry", "lay_mark"]

_COLUMNS = "kind, project, id, at, updated_at, body, revision"
_REVISION = "SELECT revision FROM registry WHERE kind = $1 AND id = $2"
_MAKE = f"INSERT INTO registry AS r ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT (kind, id) DO "
_MAKE_NEW = f"{_MAKE} NOTHING RETURNING {_COLUMNS}"
_MAKE_OR_CHANGE = (
    f"{_MAKE} UPDATE SET project = excluded.project, updated_at = excluded.updated_at, body = excluded.body, "
    f"revision = r.revision + 1 RETURNING {_COLUMNS}"
)
_CHANGE = (
    "UPDATE registry SET project = $2, updated_at = $4, body = $5, revision = revision + 1 "
    f"WHERE kind = $1 AND id = $3 AND revision = $6 RETURNING {_COLUMNS}"
)


class PostgresRegistry:
    """Entries by kind and id."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def put(self, entry: Entry, *, expect: int | None = None) -> Entry:
        # One statement, so that nobody else's change, removal or write beside a journal comes in between.
        async with self._access.connection("keeping an entry") as connection:
            return await _put(connection, entry, expect)

    async def get(self, kind: str, name: str) -> Entry:
        async with self._access.connection("reading an entry") as connection:
            found = f"SELECT {_COLUMNS} FROM registry WHERE kind = $1 AND id = $2"
            row = await connection.fetchrow(found, kind, name) if can_name(name) else None
        if row is None:
            raise no_entry(kind, name)
        return Entry(*row)

    async def list(self, query: EntryQuery) -> Sequence[Entry]:
        terms, values = ["kind = $1"], list[Any]([query.kind])
        if query.project is not None:
            values.append(query.project)
            terms.append(f"project = ${len(values)}")
        if query.holding:
            values.append(query.holding)
            terms.append(
                f"EXISTS (SELECT FROM unnest(${len(values)}::bytea[]) AS h(piece) WHERE position(piece IN body) > 0)"
            )
        async with self._access.connection("listing entries") as connection:
            if query.after is not None:
                place = "SELECT seq FROM registry WHERE kind = $1 AND id = $2"
                seq = await connection.fetchval(place, query.kind, query.after) if can_name(query.after) else None
                if seq is None:
                    raise no_entry(query.kind, query.after)
                values.append(seq)
                terms.append(f"seq {'<' if query.newest_first else '>'} ${len(values)}")
            values.append(query.limit)
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM registry WHERE {' AND '.join(terms)} "
                f"ORDER BY seq {'DESC' if query.newest_first else 'ASC'} LIMIT ${len(values)}",
                *values,
            )
        return [Entry(*row) for row in rows]

    async def kinds(self) -> Sequence[str]:
        async with self._access.connection("listing entries") as connection:
            return [row["kind"] for row in await connection.fetch("SELECT DISTINCT kind FROM registry ORDER BY kind")]

    async def remove(self, kind: str, name: str) -> None:
        async with self._access.connection("removing an entry") as connection:
            removing = "DELETE FROM registry WHERE kind = $1 AND id = $2 RETURNING id"
            gone = await connection.fetchval(removing, kind, name) if can_name(name) else None
        if gone is None:
            raise no_entry(kind, name)


async def lay_mark(connection: Connection, mark: Entry | None) -> None:
    """Keep a new entry in the transaction at hand, if there is one to keep. Raises Conflict when it is there."""
    if mark is not None:
        await _put(connection, mark, 0)


async def _put(connection: Connection, entry: Entry, expect: int | None) -> Entry:
    row = await connection.fetchrow(*_putting(entry, expect))
    if row is None:
        found = await connection.fetchval(_REVISION, entry.kind, entry.id)
        raise entry_changed(entry.kind, entry.id, expect or 0, found or 0)
    return Entry(*row)


def _putting(entry: Entry, expect: int | None) -> tuple[Any, ...]:
    """The statement that keeps an entry, with its values; it returns no row when the entry is not as expected."""
    if expect:
        return _CHANGE, entry.kind, entry.project, entry.id, entry.updated_at, entry.body, expect
    values = (entry.kind, entry.project, entry.id, entry.at, entry.updated_at, entry.body)
    return (_MAKE_NEW if expect == 0 else _MAKE_OR_CHANGE, *values)
