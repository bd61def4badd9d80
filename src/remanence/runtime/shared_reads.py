"""One reading of a stretch of a journal for several projections that come for it one after the other.

Reading and decoding is most of what a projection costs, and each of them wants the same records. What was read is kept
for the length of one batch, so it may be a moment old: what a projection adds it adds with its cursor, and whatever was
erased meanwhile says so in a record that comes later.
"""

from __future__ import annotations

from collections.abc import Sequence

from remanence.events import Recorded
from remanence.ports import Store

__all__ = ["SharedReads"]

RECORDS = 1_000
"""How many are read at a time, and so how many a caller may ask for."""


class SharedReads:
    """What the projections of one batch have read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[tuple[str, int], Sequence[Recorded]] = {}

    async def read(self, session: str, *, after: int = 0, limit: int = RECORDS) -> Sequence[Recorded]:
        """As `Store.read`, of a moment ago. Raises what that raises."""
        records = self._read.get((session, after))
        if records is None:
            records = self._read[session, after] = await self._store.read(session, after=after, limit=RECORDS)
        return records[:limit]

    def forget(self) -> None:
        """The batch is over."""
        self._read.clear()
