"""One backend, opened: every door to what is kept, and what only its caretaker does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from remanence.ports.bus import Bus
from remanence.ports.memory import Memories, MemoryVectors
from remanence.ports.store import Blobs, Controls, Specs, Store
from remanence.ports.views import Registry, Screens, Views
from remanence.values import Budget, Fork, RawRecord, Summary

__all__ = ["Database"]


class Database(Protocol):
    """One backend, opened: the journal and the small tables beside it."""

    @property
    def url(self) -> str: ...
    @property
    def store(self) -> Store: ...
    @property
    def specs(self) -> Specs: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def controls(self) -> Controls: ...
    @property
    def views(self) -> Views: ...
    @property
    def screens(self) -> Screens: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def memories(self) -> Memories: ...
    @property
    def memory_vectors(self) -> MemoryVectors: ...
    @property
    def bus(self) -> Bus: ...

    async def raw(self, session: str, *, after: int = 0, limit: int = 1_000) -> Sequence[RawRecord]:
        """The session's own stored rows as they are, undecoded, without those a fork inherits. Raises NotFound."""
        ...

    async def snapshots(self, session: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, bytes]]:
        """What `load` may begin with: the snapshots a session itself took, by position. Raises NotFound."""
        ...

    async def drop_snapshots(self, session: str, positions: Sequence[int]) -> None: ...

    async def clear_snapshots(self) -> None:
        """Forget every session's, also when none can be read. StoreCorrupt where only another file is rid of them."""
        ...

    async def restore(
        self,
        session: str,
        rows: Sequence[RawRecord],
        summary: Summary,
        fork: Fork | None,
        budgets: Sequence[Budget] = (),
    ) -> None:
        """Lay down an exported journal, bytes and digests unchanged, in one transaction with the budgets that come with
        it and their use. Conflict if it exists."""
        ...

    async def prune_keys(self, *, before: int) -> int:
        """Forget idempotency keys used before a moment (microseconds). Returns how many."""
        ...

    async def naming(self, names: Sequence[str]) -> Sequence[tuple[str, int]]:
        """Session and position of each record with any of some names, in header or content. Reads every journal."""
        ...

    async def rename_user(self, project: str, old: str, new: str) -> dict[str, int]:
        """Put a pseudonym in the place of a user's name beside the journals. Returns rows changed, by table."""
        ...

    async def scrub(self) -> None:
        """Overwrite in the files what deleted and replaced rows left there. May take as long as copying them."""
        ...

    async def files(self) -> Sequence[Path]:
        """The files that hold the data, as far as this process can read them; none when they are elsewhere."""
        ...

    async def close(self) -> None: ...
