"""Following a session: what is journaled from a position on, and what is streaming now.

Records come from the journal, or from the live hub when they are the very next ones; a gap is always filled from the
journal. Deltas are a preview: they may be lost, and the record that settles them is what counts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from remanence.commands.caller import Caller
from remanence.events import Recorded
from remanence.ports import Delta, Subscription

__all__ = ["follow", "follow_batches", "next_items"]

_PAGE = 500


async def follow(
    caller: Caller, session: str, *, after: int = 0, poll_s: float = 0.25, reader: Subscription | None = None
) -> AsyncGenerator[Recorded | Delta]:
    """Everything after a position, for ever; the reader stops by leaving. Works across processes, by polling.

    A `reader` that was subscribed before the record after `after` was written spares the first look at the journal.
    """
    async for batch in follow_batches(caller, session, after=after, poll_s=poll_s, reader=reader):
        for item in batch:
            yield item


async def follow_batches(
    caller: Caller, session: str, *, after: int = 0, poll_s: float = 0.25, reader: Subscription | None = None
) -> AsyncGenerator[Sequence[Recorded | Delta]]:
    """As `follow`, in the pieces in which things happen."""
    behind = reader is None
    reader = reader or caller.live.subscribe(session)
    try:
        while True:
            while behind:
                records = await caller.database.store.read(session, after=after, limit=_PAGE)
                behind = len(records) == _PAGE
                if records:
                    after = records[-1].position
                    yield records
            items = await reader.take(None if caller.live.driver_of(session) else poll_s)
            fresh, after, behind = next_items(items, after)
            behind = behind or not items
            if fresh:
                yield fresh
    finally:
        reader.close()


def next_items(items: Sequence[Recorded | Delta], after: int) -> tuple[list[Recorded | Delta], int, bool]:
    """The items that follow without a gap, the position reached, and whether a gap was met: then the journal knows."""
    fresh: list[Recorded | Delta] = []
    for item in items:
        if isinstance(item, Delta):
            fresh.append(item)
        elif item.position == after + 1:
            after = item.position
            fresh.append(item)
        elif item.position > after:
            return fresh, after, True
    return fresh, after, False
