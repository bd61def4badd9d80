"""Declared things on PostgreSQL: see `ports.Registry`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remanence.ports import Entry, EntryQuery
from remanence.stores.postgres_access import Access
from remanence.stores.refusals import entry_changed, no_entry

__all__ = ["PostgresRegistry"]

_COLUMNS = "kind, project, id, at, updated_at, body, revision"


class PostgresRegistry:
    """Entries by kind and id."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def put(self, entry: Entry, *, expect: int | None = None) -> Entry:
        async with self._access.transaction("keeping an entry") as connection:
            # One change of an entry at a time, also of one that is not there yet.
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", f"{entry.kind}\n{entry.id}"
            )
            found = await connection.fetchval(
                "SELECT revision FROM registry WHERE kind = $1 AND id = $2", entry.kind, entry.id
            )
            revision = found or 0
            if expect is not None and expect != revision:
                raise entry_changed(entry.kind, entry.id, expect, revision)
            row = await connection.fetchrow(
                f"INSERT INTO registry AS r ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, 1) "
                "ON CONFLICT (kind, id) DO UPDATE SET project = excluded.project, updated_at = excluded.updated_at, "
                f"body = excluded.body, revision = r.revision + 1 RETURNING {_COLUMNS}",
                entry.kind,
                entry.project,
                entry.id,
                entry.at,
                entry.updated_at,
                entry.body,
            )
        return Entry(*row) if row is not None else entry

    async def get(self, kind: str, name: str) -> Entry:
        async with self._access.connection("reading an entry") as connection:
            row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM registry WHERE kind = $1 AND id = $2", kind, name)
        if row is None:
            raise no_entry(kind, name)
        return Entry(*row)

    async def list(self, query: EntryQuery) -> Sequence[Entry]:
        terms, values = ["kind = $1"], list[Any]([query.kind])
        if query.project is not None:
            values.append(query.project)
            terms.append(f"project = ${len(values)}")
        async with self._access.connection("listing entries") as connection:
            if query.after is not None:
                place = "SELECT seq FROM registry WHERE kind = $1 AND id = $2"
                seq = await connection.fetchval(place, query.kind, query.after)
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
            gone = await connection.fetchval(
                "DELETE FROM registry WHERE kind = $1 AND id = $2 RETURNING id", kind, name
            )
        if gone is None:
            raise no_entry(kind, name)
