"""The records that announce an erasure, each with the seal of what will be left (see `events/sealing.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from remanence.commands.caller import Caller
from remanence.commands.receipts import Order
from remanence.errors import NotFound
from remanence.events import GENESIS, Redacted, Renames, decode_event, encode_event, renamed, seal_of, skeleton
from remanence.ports import RawRecord
from remanence.stores.verify import digest_at

__all__ = ["sealed"]


async def sealed(
    caller: Caller, session: str, positions: Sequence[int], order: Order, renames: Renames
) -> tuple[int, tuple[Redacted, ...]]:
    """What to append for erasing these positions (in order, of the session's own), and at which head it is true."""
    database = caller.database
    row = await database.views.session(session)
    before = positions[0] - 1
    digest = GENESIS if before < 1 else await digest_at(database, session, before)
    wanted, events, after = set(positions), list[Redacted](), before
    while after < positions[-1]:
        rows = await database.raw(session, after=after, limit=min(500, positions[-1] - after))
        if not rows:
            raise NotFound(f"Session {session} has no records after {after}. What was reached before stays erased.")
        for one in rows:
            if one.position in wanted:
                events.append(Redacted(one.position, order.by, order.reason, _seal(digest, one, renames)))
            digest, after = one.digest, one.position
    return row.head, tuple(events)


def _seal(previous: bytes, row: RawRecord, renames: Renames) -> str:
    left = encode_event(renamed(skeleton(decode_event(row.payload)), renames))
    header = {"position": row.position, "at": row.at, "epoch": row.epoch}
    return seal_of(previous + row.digest, left, actor=renames.user(row.actor), **header)
