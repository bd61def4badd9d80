"""Memories are searched on PostgreSQL while others are kept: what is summed and what is counted is of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

from remanence import Remanence
from remanence.ports import Memories
from remanence.recollections import Keep, Memory, MemoryQuery, MemorySelector, Place
from remanence.stores.postgres.connect import SCHEMA
from remanence.stores.postgres.memory_reads import search

ADAS = Place("default", "user:ada")


class Interrupted:
    """A connection after each of whose questions somebody keeps more."""

    def __init__(self, connection: asyncpg.Connection, memories: Memories) -> None:
        self._connection = connection
        self._memories = memories
        self._kept = 1

    async def fetch(self, query: str, *given: Any) -> Sequence[Any]:
        rows = await self._connection.fetch(query, *given)
        await keep(self._memories, self._kept, self._kept + 5)
        self._kept += 5
        return rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def keep(memories: Memories, first: int, end: int) -> None:
    said = {"kind": "note", "project": "default", "place": ADAS, "text": "Ada keeps bees.", "session": "s"}
    kept = [Memory(id=f"mem_{n}", position=n, recorded_at=n, **said) for n in range(first, end)]
    await memories.apply([Keep(one) for one in kept])


async def test_what_is_kept_meanwhile_is_no_error(postgres_database: str) -> None:
    async with Remanence(postgres_database, worker=False) as rt:
        memories = rt.database.memories
        await keep(memories, 0, 1)
        connection = await asyncpg.connect(postgres_database, server_settings={"search_path": SCHEMA})
        query = MemoryQuery(project="default", readable=(ADAS,), text="bees", now=100)
        hits = await search(Interrupted(connection, memories), query)  # pyright: ignore[reportArgumentType]
        assert [hit.memory.id for hit in hits] == ["mem_0"]
        await connection.close()


async def test_what_two_remove_at_once_is_counted_once(postgres_database: str) -> None:
    """Else fewer memories are counted than words have, and no search of that place is answered any more."""
    async with Remanence(postgres_database, worker=False) as rt:
        memories = rt.database.memories
        for first in range(0, 100, 10):
            await keep(memories, first, first + 10)
            gone = MemorySelector(project="default", ids=tuple(f"mem_{n}" for n in range(first + 1, first + 10)))
            await asyncio.gather(*(memories.remove(gone) for _ in range(4)))
        connection = await asyncpg.connect(postgres_database)
        assert await connection.fetchval("SELECT memories FROM remanence.memory_places") == 10
        await connection.close()
