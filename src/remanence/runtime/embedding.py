"""Recall with vectors: questions are embedded as they are asked, memories in idle time.

The words answer alone until the model is complete, and whenever the embedder does not answer. When another model is
configured, the old one's vectors are removed once the new one is complete.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from msgspec.structs import replace

from remanence.errors import InvalidInput, ModelError, RemanenceError
from remanence.ports import Clock, Cursor, Database, Embedder, Memories
from remanence.recollections import (
    Memory,
    MemoryChange,
    MemoryHit,
    MemoryListing,
    MemoryQuery,
    MemoryRemoval,
    MemorySelector,
    MemoryStats,
    MemoryVector,
    Place,
)
from remanence.runtime.around import DatabaseAround

__all__ = ["EmbeddedMemories", "EmbeddingDatabase", "embed_missing", "keep_embedding"]

log = structlog.get_logger("remanence.embedding")

BATCH = 64
CHARACTERS_MAX = 4_000
"""What of a long text is embedded: models read some hundred words and leave out the rest without a sign."""
REST_S = 2.0
REST_AFTER_ERROR_S = 30.0
SHARE = 0.02
"""How much of the time it may take to look for memories without a vector."""


class EmbeddedMemories:
    """The memories, asked with the question's vector."""

    def __init__(self, memories: Memories, database: Database, embedder: Embedder) -> None:
        self._memories = memories
        self._vectors = database.memory_vectors
        self._embedder = embedder

    async def search(self, query: MemoryQuery) -> Sequence[MemoryHit]:
        model = self._embedder.model
        if query.vector is None and model in await self._vectors.complete():
            try:
                (vector,) = await self._embedder.embed([query.text[:CHARACTERS_MAX]])
                query = replace(query, vector=tuple(vector), vector_model=model)
            except ModelError as error:
                log.warning("memories are searched by their words only", error=error.message)
        return await self._memories.search(query)

    async def apply(self, changes: Sequence[MemoryChange], cursor: Cursor | None = None) -> bool:
        return await self._memories.apply(changes, cursor)

    async def get(self, project: str, memory: str, version: int | None = None) -> Memory:
        return await self._memories.get(project, memory, version)

    async def history(self, project: str, memory: str) -> Sequence[Memory]:
        return await self._memories.history(project, memory)

    async def list(self, listing: MemoryListing) -> Sequence[Memory]:
        return await self._memories.list(listing)

    async def places(self, project: str) -> Sequence[Place]:
        return await self._memories.places(project)

    async def remove(self, selector: MemorySelector) -> MemoryRemoval:
        return await self._memories.remove(selector)

    async def clear(self) -> None:
        await self._memories.clear()

    async def begun(self) -> int:
        return await self._memories.begun()

    async def stats(self) -> MemoryStats:
        return await self._memories.stats()


class EmbeddingDatabase(DatabaseAround):
    """A database whose memories are asked with vectors."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        super().__init__(database)
        self.memories = EmbeddedMemories(database.memories, database, embedder)


async def embed_missing(database: Database, embedder: Embedder) -> int:
    """Embed the next memories that have no vector yet. Returns how many. Raises ModelError, StoreError."""
    vectors = database.memory_vectors
    missing = await vectors.missing(embedder.model, limit=BATCH)
    if missing:
        made = await embedder.embed([memory.text[:CHARACTERS_MAX] or " " for memory in missing])
        kept = zip(missing, made, strict=True)
        await vectors.keep(embedder.model, [MemoryVector(m.project, m.id, m.version, tuple(v)) for m, v in kept])
    else:
        complete = await vectors.complete()
        if embedder.model in complete:
            for model in complete:
                if model != embedder.model:
                    log.info("vectors of another model were removed", model=model, count=await vectors.forget(model))
    return len(missing)


async def keep_embedding(database: Database, embedder: Embedder, clock: Clock) -> None:
    """Embed what is missing for as long as this process lives."""
    while True:
        started = clock.now()
        try:
            made = await embed_missing(database, embedder)
        except InvalidInput as error:
            # The same name stands for another model now; its old vectors compare with nothing it makes.
            log.warning("vectors of the embedding model are made again", error=error.message)
            await database.memory_vectors.forget(embedder.model)
            await clock.sleep(REST_AFTER_ERROR_S)
            continue
        except RemanenceError as error:
            log.warning("memories are embedded later", error=error.message)
            await clock.sleep(REST_AFTER_ERROR_S)
            continue
        if not made:
            await clock.sleep(max(REST_S, (clock.now() - started) / 1_000_000 / SHARE))
