"""Embeddings of memories on PostgreSQL: see `ports.MemoryVectors`. The extension pgvector is used when it is there."""

from __future__ import annotations

from collections.abc import Sequence

from remanence.core.memory.recall import Key
from remanence.recollections import Memory, MemoryQuery, MemoryVector
from remanence.stores.memory_rows import COLUMNS, memory_of
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.careful import SHARE_PROJECTIONS
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.pgvector import has_copies, make_room, nearest_within
from remanence.stores.vectors import cosines, packed, unit

__all__ = ["PostgresMemoryVectors", "nearest"]

_MISSING = (
    "FROM memories m WHERE NOT EXISTS (SELECT FROM memory_vectors v "
    "WHERE v.model = $1 AND v.place = m.place AND v.document = m.document)"
)
_KEEP = """
INSERT INTO memory_vectors (model, place, document, vector)
SELECT $1, m.place, m.document, w.vector
FROM unnest($2::text[], $3::text[], $4::integer[], $5::bytea[]) AS w (project, id, version, vector)
    JOIN memories m USING (project, id, version)
ORDER BY project COLLATE "C", id COLLATE "C", version FOR KEY SHARE OF m
ON CONFLICT (model, place, document) DO UPDATE SET vector = excluded.vector
"""
_KEEP_COPIES = """
UPDATE memory_vectors v SET embedding = w.numbers::real[]::vector
FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[]) AS w (project, id, version, numbers)
    JOIN memories m USING (project, id, version)
WHERE v.model = $1 AND v.place = m.place AND v.document = m.document
"""

# Everybody who changes vectors locks the table, then a model, then memories by name, then vectors. Who keeps some, or
# removes memories, shares the table; who forgets a model's has it alone, because they come by its vectors in no order.
_SHARE_TABLE = "LOCK TABLE memory_vectors IN ROW EXCLUSIVE MODE"
_SHUT_TABLE = "LOCK TABLE memory_vectors IN SHARE ROW EXCLUSIVE MODE"


class PostgresMemoryVectors:
    """Vectors by the model that made them."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def missing(self, model: str, *, limit: int) -> Sequence[Memory]:
        async with self._access.connection("looking for memories without a vector") as connection:
            rows = await connection.fetch(
                f"SELECT {COLUMNS} FROM (SELECT m.* {_MISSING} LIMIT $2) m JOIN memory_places p ON p.place = m.place",
                model,
                limit,
            )
        return [memory_of(tuple(row)) for row in rows]

    async def keep(self, model: str, vectors: Sequence[MemoryVector]) -> None:
        async with self._access.transaction("keeping vectors") as connection:
            await connection.execute(SHARE_PROJECTIONS)
            # First, while nothing of the table is locked: it may add a column.
            copies = bool(vectors) and await make_room(connection, len(vectors[0].vector))
            await connection.execute(_SHARE_TABLE)
            known = await connection.fetchval("SELECT dimensions FROM memory_models WHERE model = $1", model)
            dimensions: int | None = known if known or not vectors else len(vectors[0].vector)
            stored = [packed(given.vector, dimensions) for given in vectors]
            if dimensions is not None:
                await connection.execute(
                    "INSERT INTO memory_models VALUES ($1, $2, false) ON CONFLICT DO NOTHING", model, dimensions
                )
            keys = [(given.project, given.id, given.version) for given in vectors]
            columns = [list(column) for column in zip(*keys, strict=True)] or [[], [], []]
            await connection.execute(_KEEP, model, *columns, stored)
            if copies:
                numbers = ["{" + ",".join(map(repr, unit(given.vector))) + "}" for given in vectors]
                await connection.execute(_KEEP_COPIES, model, *columns, numbers)
            if await connection.fetchval(f"SELECT 1 {_MISSING} LIMIT 1", model) is None:
                await connection.execute("UPDATE memory_models SET complete = true WHERE model = $1", model)

    async def complete(self) -> Sequence[str]:
        async with self._access.connection("listing embedding models") as connection:
            return await _complete(connection)

    async def forget(self, model: str) -> int:
        async with self._access.transaction("removing vectors") as connection:
            await connection.execute(f"{SHARE_PROJECTIONS}; {_SHUT_TABLE}")
            await connection.execute("DELETE FROM memory_models WHERE model = $1", model)
            gone = await connection.execute("DELETE FROM memory_vectors WHERE model = $1", model)
        return int(gone.rpartition(" ")[2])


async def nearest(connection: Connection, query: MemoryQuery, places: Sequence[int]) -> dict[Key, float]:
    """How near the memories of some places are to a question; nothing while the question's model is not complete."""
    if query.vector is None or query.vector_model not in await _complete(connection):
        return {}
    if await has_copies(connection):
        return await nearest_within(connection, query.vector_model, query.vector, list(places))
    rows = await connection.fetch(
        "SELECT place, document, vector FROM memory_vectors WHERE model = $1 AND place = ANY ($2::bigint[])",
        query.vector_model,
        list(places),
    )
    return cosines(query.vector, [(row["place"], row["document"], row["vector"]) for row in rows])


async def _complete(connection: Connection) -> list[str]:
    rows = await connection.fetch("SELECT model FROM memory_models WHERE complete ORDER BY model")
    return [row["model"] for row in rows]
