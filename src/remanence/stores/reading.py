"""What several rooms read from any store: a journal by pages, the texts that references name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence

from remanence.core.context import Place, Remembered, remembered
from remanence.errors import NotFound
from remanence.events import Recorded
from remanence.ports import Store

__all__ = ["pages_of", "texts_of"]


async def pages_of(
    store: Store, session: str, *, after: int = 0, upto: int | None = None, limit: int = 1_000
) -> AsyncGenerator[Sequence[Recorded]]:
    """The records of a session after a position, up to another (None: the last there is), `limit` at a time."""
    while upto is None or after < upto:
        wanted = limit if upto is None else min(limit, upto - after)
        records = await store.read(session, after=after, limit=wanted)
        yield records
        if len(records) < wanted:
            return
        after = records[-1].position


async def texts_of(store: Store, places: Iterable[Place]) -> dict[Place, Remembered]:
    """The texts of these records. What was erased, or is not there, is missing from the answer."""
    found: dict[Place, Remembered] = {}
    for session, position in places:
        try:
            records = await store.read(session, after=position - 1, limit=1)
        except NotFound:
            continue
        for record in records:
            what = remembered(record) if record.position == position else None
            if what is not None:
                found[(session, position)] = what
    return found
