"""Following a session: what is journaled from a position on, and what is streaming now.

Records come from the journal, or from the live hub when they are the very next ones; a gap is always filled from the
journal. Deltas are a preview: they may be lost, and the record that settles them is what counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from remanence.commands.caller import Caller
from remanence.events import Recorded
from remanence.ports import Delta, Subscription

__all__ = ["follow"]

_PAGE = 500


async def follow(
    caller: Caller, session: str, *, after: int = 0, poll_s: float = 0.25, reader: Subscription | None = None
) -> AsyncIterator[Recorded | Delta]:
    """Everything after a position, for ever; the reader stops by leaving. Works across processes, by polling.

    A `reader` that was subscribed before the record after `after` was written spares the first look at the journal.
    """
    behind = reader is None
    reader = reader or caller.live.subscribe(session)
    try:
        while True:
            while behind:
                records = await caller.database.store.read(session, after=after, limit=_PAGE)
                for record in records:
                    after = record.position
                    yield record
                behind = len(records) == _PAGE
            items = await reader.take(poll_s)
            behind = not items
            for item in items:
                if isinstance(item, Delta):
                    yield item
                elif item.position == after + 1:
                    after = item.position
                    yield item
                elif item.position > after:
                    behind = True
                    break
    finally:
        reader.close()
