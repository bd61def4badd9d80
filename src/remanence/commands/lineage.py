"""The journal of a session as it lies in the database, whole: its own records and those it inherited by forks.

Inherited records stay where they were written. A session's journal is therefore a row of stretches, each from another
session, and together they are one chain of digests from the first record on: a digest does not cover whose record it
is.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

import msgspec

from remanence.commands.bundle import Origin
from remanence.commands.caller import state_in
from remanence.core.summary import summary_of
from remanence.errors import NotFound, StoreCorrupt, UnknownEvent
from remanence.events import Redacted, decode_event
from remanence.ports import Database, RawRecord, SessionRow, Summary
from remanence.stores.rows import RESTED

__all__ = ["Journal", "erased_elsewhere", "journal_of", "own_pages", "pages", "summary_now"]

FIRST_PAGE_RECORDS = 64
PAGE_RECORDS = 500
PAGE_BYTES = 4 << 20


class Journal(msgspec.Struct, frozen=True):
    """A session's row and the stretches its journal is made of, oldest first, up to the row's head."""

    row: SessionRow
    origins: tuple[Origin, ...]

    @property
    def inherited(self) -> int:
        """How many of its records other sessions wrote."""
        return sum(origin.last - origin.first + 1 for origin in self.origins if origin.session != self.row.session)

    def owner(self, position: int) -> Origin:
        """The stretch a position lies in."""
        return next(origin for origin in self.origins if origin.first <= position <= origin.last)


async def journal_of(database: Database, session: str) -> Journal:
    """Where the records of a session lie. Raises NotFound, StoreCorrupt when a source of a fork is gone."""
    row = await database.views.session(session)
    origins: list[Origin] = []
    here, upto = row, row.head
    while True:
        first = 1 if here.fork is None else here.fork.position + 1
        # A fork of a fork may begin before its source's own first record: then nothing of that source is inherited.
        if first <= upto:
            origins.append(Origin(here.session, first, upto))
        if here.fork is None:
            return Journal(row, tuple(reversed(origins)))
        upto = min(upto, here.fork.position)
        try:
            here = await database.views.session(here.fork.source)
        except NotFound:
            raise StoreCorrupt(
                f"Session {session} inherits records 1 to {upto} from {here.fork.source}, which is not in this "
                "database. What is here was left as it is; restore a backup that holds both."
            ) from None


async def own_pages(database: Database, origin: Origin) -> AsyncIterator[Sequence[RawRecord]]:
    """The records of one stretch, a few at a time: the larger they are, the fewer."""
    after, limit = origin.first - 1, FIRST_PAGE_RECORDS
    while after < origin.last:
        try:
            rows = await database.raw(origin.session, after=after, limit=min(limit, origin.last - after))
        except StoreCorrupt:
            if limit == 1:
                raise
            limit = 1  # up to the very record that cannot be read
            continue
        rows = [row for row in rows if row.position <= origin.last]
        if not rows:
            return
        yield rows
        after = rows[-1].position
        size = sum(len(row.payload) for row in rows)
        limit = max(1, min(PAGE_RECORDS, PAGE_BYTES * len(rows) // max(size, 1)))


async def pages(database: Database, journal: Journal) -> AsyncIterator[Sequence[RawRecord]]:
    """Every record of a journal, in order."""
    for origin in journal.origins:
        async for rows in own_pages(database, origin):
            yield rows


async def erased_elsewhere(database: Database, journal: Journal, positions: Iterable[int]) -> dict[int, str]:
    """Those of `positions` whose erasure is journaled after the stretch they lie in, with its seal: in the source of a
    fork, or by somebody just now."""
    wanted: dict[str, set[int]] = {}
    for position in positions:
        wanted.setdefault(journal.owner(position).session, set()).add(position)
    found: dict[int, str] = {}
    for origin in journal.origins:
        if origin.session in wanted:
            head = (await database.views.session(origin.session)).head
            async for rows in own_pages(database, Origin(origin.session, origin.last + 1, head)):
                for position, seal in _erased_by(rows):
                    if position in wanted[origin.session]:
                        found[position] = seal or found.get(position, "")
    return found


async def summary_now(database: Database, row: SessionRow) -> Summary:
    """What a session's row should say. An input that no worker has looked at is in the journal, not in the row."""
    if row.wake_at is None or row.summary.status in RESTED:
        return row.summary
    try:
        state = await state_in(database.store, row.session)
    except UnknownEvent:
        # Whoever knows the event shall look at it.
        return msgspec.structs.replace(row.summary, status="queued")
    return summary_of(state, await database.specs.get(state.version))


def _erased_by(rows: Sequence[RawRecord]) -> Iterator[tuple[int, str]]:
    for row in rows:
        if row.kind == Redacted.__name__:
            with contextlib.suppress(StoreCorrupt):  # an announcement that cannot be read announces nothing
                event = decode_event(row.payload)
                if isinstance(event, Redacted):
                    yield event.position, event.seal
