"""Following a session: what is journaled from a position on, and what is streaming now.

Records come from the journal, or from the live hub when they are the very next ones; a gap is always filled from the
journal. Deltas are a preview: they may be lost, and the record that settles them is what counts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from remanence.commands.caller import Caller
from remanence.events import ModelCalled, ModelFailed, ModelReplied, Recorded
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
    behind, settled = reader is None, _Settled()
    reader = reader or caller.live.subscribe(session)
    try:
        later: Sequence[Recorded | Delta] = ()
        while True:
            while behind:
                records = await caller.database.store.read(session, after=after, limit=_PAGE)
                behind = len(records) == _PAGE
                if records:
                    after = records[-1].position
                    yield settled.without_old(records)
            # What came behind a gap goes on after what the journal had to say: pieces that were told once, say.
            items = later or await reader.take(None if caller.live.driver_of(session) else poll_s)
            fresh, after, gap = next_items(items, after)
            later = _behind_gap(items, after) if gap and items is not later else ()
            behind = gap or not items
            if fresh := settled.without_old(fresh):
                yield fresh
    finally:
        reader.close()


class _Settled:
    """Knows which attempt of which model call runs by what was read: no piece of another one says anything new. The
    journal may have been read before the last pieces were taken of an attempt that is over in it."""

    def __init__(self) -> None:
        self._runs: tuple[str, int] | None = None
        """None: nothing of any was read. Of none, when the last one has its outcome."""

    def without_old(self, items: Sequence[Recorded | Delta]) -> Sequence[Recorded | Delta]:
        """The items without pieces of an attempt whose end stands before them. Most of the time there are none."""
        runs, old = self._runs, False
        for item in items:
            old = self._is_old(item) or old
        if not old:
            return items
        self._runs = runs
        return [item for item in items if not self._is_old(item)]

    def _is_old(self, item: Recorded | Delta) -> bool:
        if isinstance(item, Delta):
            return item.kind != "progress" and self._runs is not None and (item.call, item.attempt) != self._runs
        if isinstance(item.event, ModelReplied | ModelFailed):
            self._runs = "", 0
        elif isinstance(item.event, ModelCalled):
            self._runs = item.event.call, item.event.attempt
        return False


def _behind_gap(items: Sequence[Recorded | Delta], after: int) -> Sequence[Recorded | Delta]:
    """The items from the first record on that does not follow."""
    place = next(i for i, item in enumerate(items) if isinstance(item, Recorded) and item.position > after + 1)
    return items[place:]


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
