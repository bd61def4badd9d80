"""Long-term memory: its index, the vectors beside it, and what makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
from remanence.values import Cursor

__all__ = ["Embedder", "Memories", "MemoryVectors"]


class Memories(Protocol):
    """The index of long-term memory: a projection of the journals, which can be thrown away and made again.

    What is found is a function of the memories alone: the same on every backend, in whatever order they arrived.
    """

    async def apply(self, changes: Sequence[MemoryChange], cursor: Cursor | None = None) -> bool:
        """Make the changes and move the cursor of the projection `memory`, at once. Applying again changes nothing.

        A cursor that is elsewhere by now does nothing at all: False. Without one, the changes are simply made. What is
        to be kept of a record that was erased since it was read is left out.
        """
        ...

    async def search(self, query: MemoryQuery) -> Sequence[MemoryHit]:
        """The best hits, best first; none for a question without a word that is known."""
        ...

    async def get(self, project: str, memory: str, version: int | None = None) -> Memory:
        """One version, by default the newest. Raises NotFound."""
        ...

    async def history(self, project: str, memory: str) -> Sequence[Memory]:
        """Every version, oldest first. Raises NotFound."""
        ...

    async def list(self, listing: MemoryListing) -> Sequence[Memory]: ...

    async def places(self, project: str) -> Sequence[Place]:
        """Where memories of a project lie, in order."""
        ...

    async def remove(self, selector: MemorySelector) -> MemoryRemoval:
        """Remove memories for good: their rows are overwritten in the file, not only unlinked (see guarantees)."""
        ...

    async def clear(self) -> None:
        """Forget the index and its cursors: the next look at `behind` starts from the first record."""
        ...

    async def begun(self) -> int:
        """How often that was done: what was read between two equal answers was read of one index."""
        ...

    async def stats(self) -> MemoryStats: ...


class MemoryVectors(Protocol):
    """Embeddings beside the words of memories: an option. Removing a memory removes its vectors."""

    async def missing(self, model: str, *, limit: int) -> Sequence[Memory]:
        """Memories that have no vector of this model yet."""
        ...

    async def keep(self, model: str, vectors: Sequence[MemoryVector]) -> None:
        """Keep vectors; those of memories that are gone are dropped. InvalidInput for a wrong number of dimensions.

        With the one that was last missing the model becomes complete, and stays so.
        """
        ...

    async def complete(self) -> Sequence[str]:
        """The models of which every memory has had a vector. Only these count in `Memories.search`."""
        ...

    async def forget(self, model: str) -> int:
        """Remove the vectors of a model. Returns how many."""
        ...


class Embedder(Protocol):
    """What turns texts into vectors. Raises ModelError."""

    @property
    def model(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector for each text, in their order, all of the same dimensions."""
        ...

    async def close(self) -> None: ...
