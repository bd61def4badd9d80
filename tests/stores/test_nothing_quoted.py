"""The planner's statistics quote no column that holds what was said, who said it, or what either was made into."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from remanence import Remanence
from remanence.ports import Memories
from remanence.recollections import Keep, Memory, MemoryVector, Place

MANY = 40
# Of the columns of text and bytes those that may be quoted: names of kinds, of agents and projects, made ids, digests.
QUOTED = {
    "blob_uses.digest blobs.digest budgets.unit cursors.projection holds.effect_session holds.reason holds.scope",
    "idempotency_keys.body_digest memories.kind memories.label memories.project memories.session",
    "memory_closings.project memory_models.model memory_places.project memory_places.store memory_sessions.session",
    "memory_subjects.project memory_vectors.model migrations.digest migrations.name projections.name records.digests",
    "records.originals records.sizes registry.kind registry.project reservations.key reservations.unit",
    "search_doubts.call sessions.agent sessions.digest sessions.id sessions.needs sessions.project",
    "sessions.status sessions.version sessions.waiting_on sessions.worker turn_minutes.project usage_days.field",
    "usage_days.project usage_hours.agent usage_hours.model usage_hours.project versions.agent versions.project",
    "versions.spec versions.version",
}
COLUMNS = """
SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'remanence'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    AND coalesce(a.attstattarget, -1) <> 0 AND a.atttypid::regtype::text = ANY ($1)
"""
TYPES = ["text", "text[]", "bytea", "tsvector", "vector"]
QUOTES = "SELECT attname FROM pg_stats WHERE tablename = 'memory_vectors' AND attname IN ('vector', 'embedding')"


@pytest.fixture
async def server(postgres_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_database)
    yield connection
    await connection.close()


async def embed(rt: Remanence) -> None:
    """Keep memories, each with a vector."""
    memories: Memories = rt.database.memories
    said: dict[str, Any] = {"kind": "note", "project": "default", "place": Place("default", "project"), "session": "s"}
    kept = [Memory(id=f"mem_{n}", text="A shed.", position=n, recorded_at=n, **said) for n in range(MANY)]
    await memories.apply([Keep(one) for one in kept])
    vectors = [MemoryVector("default", one.id, 1, (1.0, float(one.position % 4))) for one in kept]
    await rt.database.memory_vectors.keep("m", vectors)


async def test_of_every_column_it_is_known_whether_it_may_be(
    postgres_database: str, server: asyncpg.Connection
) -> None:
    async with Remanence(postgres_database, worker=False) as rt:
        await embed(rt)
        quoted = {row[0] for row in await server.fetch(COLUMNS, TYPES)}
        assert quoted == set(" ".join(QUOTED).split())


async def test_vectors_are_not(postgres_database: str, server: asyncpg.Connection) -> None:
    async with Remanence(postgres_database, worker=False) as rt:
        await embed(rt)
        await server.execute("ANALYZE remanence.memory_vectors")
        assert await server.fetch(QUOTES) == []


async def test_what_was_quoted_of_them_before_goes(postgres_database: str, server: asyncpg.Connection) -> None:
    async with Remanence(postgres_database, worker=False) as rt:
        await embed(rt)
    columns = [
        row[0]
        for row in await server.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'remanence.memory_vectors'::regclass "
            "AND attname IN ('vector', 'embedding')"
        )
    ]
    for column in columns:
        await server.execute(f"ALTER TABLE remanence.memory_vectors ALTER COLUMN {column} SET STATISTICS -1")
    await server.execute("ANALYZE remanence.memory_vectors")
    assert len(await server.fetch(QUOTES)) == len(columns)
    await server.execute("DELETE FROM remanence.migrations WHERE name = 'no_vector_quoted'")
    async with Remanence(postgres_database, worker=False):
        await server.execute("ANALYZE remanence.memory_vectors")
        assert await server.fetch(QUOTES) == []
