"""Vectors compared within PostgreSQL, when the server has the extension `vector` (pgvector).

Without it every vector of the places in view travels here to be compared, 4 bytes a dimension; with it only how near
each is. The bytes that are kept are the truth in both cases: the extension's own column is a copy of them, made when a
vector is kept. A row without the copy (kept before the extension was there) comes as bytes, so there is no time at
which an index is half one thing. The comparison is exact; there is no approximate index.
"""

from __future__ import annotations

import asyncpg

from remanence.core.memory.recall import Key, key_of
from remanence.stores.postgres.connect import Connection
from remanence.stores.vectors import DIGITS, cosines, unit

__all__ = ["has_copies", "make_room", "nearest_within"]

DIMENSIONS_MAX = 16_000
"""What the extension can hold."""

_REFUSALS = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedObjectError,
    asyncpg.UniqueViolationError,
)
"""No right to add it, no file of it, added where we do not look, being added by somebody else."""
_HAS = """
SELECT EXISTS (SELECT FROM pg_attribute
    WHERE attrelid = 'memory_vectors'::regclass AND attname = 'embedding' AND NOT attisdropped)
"""
_CAN = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"
_NEAREST = """
SELECT place, document, CASE WHEN embedding IS NULL THEN vector END, -(embedding <#> $3::real[]::vector)
FROM memory_vectors WHERE model = $1 AND place = ANY ($2::bigint[]) AND length(vector) = $4
"""


async def has_copies(connection: Connection) -> bool:
    """Whether this database keeps vectors for the extension as well."""
    return bool(await connection.fetchval(_HAS))


async def make_room(connection: Connection, dimensions: int) -> bool:
    """Add the extension and its column when the server has it and lets us; returns whether vectors can be copied.

    Within a transaction. With a server that refuses, vectors are compared here, as without the extension.
    """
    if dimensions > DIMENSIONS_MAX:
        return False
    if await has_copies(connection):
        return True
    if not await connection.fetchval(_CAN):
        return False
    try:
        async with connection.transaction():
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            await connection.execute("ALTER TABLE memory_vectors ADD COLUMN IF NOT EXISTS embedding vector")
            await connection.execute("ALTER TABLE memory_vectors ALTER COLUMN embedding SET STATISTICS 0")
    except _REFUSALS:
        return False
    return True


async def nearest_within(
    connection: Connection, model: str, asked: tuple[float, ...], places: list[int]
) -> dict[Key, float]:
    """How near the memories of some places are to a question, compared by the server."""
    question = unit(asked)
    rows = await connection.fetch(_NEAREST, model, places, question, 4 * len(question))
    near = {key_of(row[0], row[1]): round(row[3], DIGITS) for row in rows if row[2] is None}
    return near | cosines(asked, [(row[0], row[1], row[2]) for row in rows if row[2] is not None])
