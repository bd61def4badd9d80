"""Embeddings of memories on SQLite: see `ports.MemoryVectors`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

from remanence.core.memory.recall import Key
from remanence.recollections import Memory, MemoryQuery, MemoryVector
from remanence.stores.memory_rows import COLUMNS, memory_of
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.readers import Readers
from remanence.stores.sqlite.writer import Writer
from remanence.stores.vectors import cosines, packed

__all__ = ["SqliteMemoryVectors", "nearest"]

_MISSING = (
    "FROM memories m WHERE NOT EXISTS (SELECT 1 FROM memory_vectors v "
    "WHERE v.model = ? AND v.place = m.place AND v.document = m.document)"
)


class SqliteMemoryVectors:
    """Vectors by the model that made them."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def missing(self, model: str, *, limit: int) -> Sequence[Memory]:
        return await self._readers.run(partial(_missing, model=model, limit=limit))

    async def keep(self, model: str, vectors: Sequence[MemoryVector]) -> None:
        await self._writer.do(partial(_keep, model=model, vectors=vectors))

    async def complete(self) -> Sequence[str]:
        return await self._readers.run(_complete)

    async def forget(self, model: str) -> int:
        return await self._writer.do(partial(_forget, model=model))


def nearest(connection: sqlite3.Connection, query: MemoryQuery, places: Sequence[int]) -> dict[Key, float]:
    """How near the memories of some places are to a question; nothing while the question's model is not complete."""
    if query.vector is None or query.vector_model not in _complete(connection):
        return {}
    marks = ", ".join("?" * len(places))
    rows = connection.execute(
        f"SELECT place, document, vector FROM memory_vectors WHERE model = ? AND place IN ({marks})",
        (query.vector_model, *places),
    )
    return cosines(query.vector, rows.fetchall())


def _missing(connection: sqlite3.Connection, model: str, limit: int) -> list[Memory]:
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM (SELECT m.* {_MISSING} LIMIT ?) m JOIN memory_places p ON p.place = m.place",
        (model, limit),
    )
    return [memory_of(row) for row in rows.fetchall()]


def _complete(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT model FROM memory_models WHERE complete ORDER BY model")
    return [model for (model,) in rows]


def _keep(ledger: Ledger, model: str, vectors: Sequence[MemoryVector]) -> None:
    execute = ledger.connection.execute
    known = execute("SELECT dimensions FROM memory_models WHERE model = ?", (model,)).fetchone()
    dimensions = known[0] if known else None
    for given in vectors:
        stored = packed(given.vector, dimensions)
        if dimensions is None:
            dimensions = len(given.vector)
            execute("INSERT INTO memory_models VALUES (?, ?, 0)", (model, dimensions))
        execute(
            "INSERT OR REPLACE INTO memory_vectors SELECT ?, place, document, ? FROM memories "
            "WHERE project = ? AND id = ? AND version = ?",
            (model, stored, given.project, given.id, given.version),
        )
    if execute(f"SELECT 1 {_MISSING} LIMIT 1", (model,)).fetchone() is None:
        execute("UPDATE memory_models SET complete = 1 WHERE model = ?", (model,))


def _forget(ledger: Ledger, model: str) -> int:
    ledger.connection.execute("DELETE FROM memory_models WHERE model = ?", (model,))
    ledger.erased = True
    return ledger.connection.execute("DELETE FROM memory_vectors WHERE model = ?", (model,)).rowcount
