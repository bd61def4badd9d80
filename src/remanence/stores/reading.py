"""What several rooms read from any store: the texts that references name."""

from __future__ import annotations

from collections.abc import Iterable

from remanence.core.context import Place, Remembered, remembered
from remanence.errors import NotFound
from remanence.ports import Store

__all__ = ["texts_of"]


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
