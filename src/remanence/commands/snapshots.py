"""Whether the snapshots of a session say what its journal says, and how those go that do not.

A snapshot is a cache: the state as it was at a position, so that nobody has to fold the journal from its first record.
What is read through a wrong one is wrong, though the journal is whole. So the journal is folded here from its first
record, whatever snapshots there are, and each of them is compared with the state at its position. One that cannot be
read harms nobody, since whoever meets it folds from the first record too; it is named, because something wrote there.

Dropping a snapshot loses nothing. The next turn's end leaves a new one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remanence.commands.caller import Caller
from remanence.core.session import evolve
from remanence.core.snapshots import decode_snapshot
from remanence.core.state import Session
from remanence.errors import StoreCorrupt, UnknownEvent
from remanence.events import Recorded, decode_event
from remanence.ports import Database, RawRecord, SessionQuery

__all__ = ["SnapshotCheck", "WrongSnapshot", "drop", "drop_unreadable"]

_PAGE = 50
_ROWS = 200


class WrongSnapshot(msgspec.Struct, frozen=True):
    """A snapshot that is not what the journal says: whose, at which position, and what is wrong, in words.

    `unread`: the database cannot read it, nor those after it.
    """

    session: str
    position: int
    what: str
    unread: bool = False


class SnapshotCheck:
    """Goes along with whoever reads a journal from its first record on."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        self.wrong: list[WrongSnapshot] = []
        self._database = database
        self._state: Session | None = None
        self.unread = ""
        """What a newer release wrote, in words: it is whole, and nothing can be said of what follows from it."""
        self._readable = True
        self._coming: list[tuple[int, bytes]] = []
        self._asked: tuple[str, int] = ("", 0)
        self._unread: set[str] = set()

    def give_up(self) -> None:
        """The records themselves are damaged: nothing follows from them."""
        self._readable = False

    async def feed(self, session: str, rows: Sequence[RawRecord], *, compared: bool = True) -> None:
        """The next records, and whose they are."""
        if not self._readable:
            return
        for row in rows:
            s = self._state or Session(session)
            s = s if s.id == session else msgspec.structs.replace(s, id=session)
            try:
                event = decode_event(row.payload)
            except (StoreCorrupt, UnknownEvent) as error:
                if isinstance(error, UnknownEvent):
                    self.unread = f"record {row.position}: {error.message}"
                self.give_up()  # of what follows nothing can be said here
                return
            redacted = row.payload_digest is not None
            record = Recorded(session, row.position, row.at, row.epoch, row.actor, event, row.digest, redacted)
            self._state = evolve(s, record)
            stored = await self._stored(session, row.position) if compared else None
            if stored is not None:
                self._compare(self._state, stored)

    async def finish(self, session: str, head: int) -> None:
        """No record follows the head of the session itself."""
        for position, _ in await self._read(session, head, _PAGE):
            self.wrong.append(WrongSnapshot(session, position, "it is of a position that the journal has not come to"))

    async def _read(self, session: str, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """The next snapshots. Where the database cannot read them they are as if they were not there, and named."""
        if session in self._unread:
            return []
        try:
            return await self._database.snapshots(session, after=after, limit=limit)
        except StoreCorrupt as error:
            self._unread.add(session)
            what = f"from here on they cannot be read, and nobody uses them. {error.message}"
            self.wrong.append(WrongSnapshot(session, after + 1, what, unread=True))
            return []

    async def _stored(self, session: str, position: int) -> bytes | None:
        """The snapshot that was taken at a position, if one was. Positions are asked for in order."""
        if self._asked[0] != session:
            self._asked, self._coming = (session, position - 1), []
        if not self._coming and self._asked[1] < position:
            found = await self._read(session, position - 1, _PAGE)
            self._coming = list(found)
            # With fewer than were asked for there is none left to come.
            self._asked = session, found[-1][0] if len(found) == _PAGE else _NO_END
        while self._coming and self._coming[0][0] < position:
            self._coming.pop(0)
        return self._coming.pop(0)[1] if self._coming and self._coming[0][0] == position else None

    def _compare(self, s: Session, stored: bytes) -> None:
        self.count += 1
        kept = decode_snapshot(stored, s.id)
        if kept is None:
            what = "it cannot be read; nobody uses it, and what goes through it is folded from the records"
            self.wrong.append(WrongSnapshot(s.id, s.head, what))
        elif kept != s:
            fields = [name for name in s.__struct_fields__ if getattr(kept, name) != getattr(s, name)]
            what = f"it differs from what the records say, in: {', '.join(fields)}"
            self.wrong.append(WrongSnapshot(s.id, s.head, what))


_NO_END = 2**62


async def drop(caller: Caller, wrong: Sequence[WrongSnapshot]) -> None:
    """Drop snapshots, and what this process folded from them. Where some cannot be read, all of every session go.

    Raises StoreCorrupt when they lie under a damaged page that has to be looked at for that.
    """
    if any(one.unread for one in wrong):
        await caller.database.clear_snapshots()
    for session in {one.session for one in wrong}:
        positions = [one.position for one in wrong if one.session == session]
        await caller.database.drop_snapshots(session, positions)
        if caller.states is not None:
            caller.states.forget(session)


async def drop_unreadable(database: Database) -> bool:
    """Drop every session's snapshots if the database cannot read some of them. Whether that was so; reads them all."""
    query = SessionQuery(opened="oldest_first", limit=_ROWS)
    while rows := await database.views.sessions(query):
        for row in rows:
            if not await _can_be_read(database, row.session):
                await database.clear_snapshots()
                return True
        query = msgspec.structs.replace(query, after=rows[-1].session)
    return False


async def _can_be_read(database: Database, session: str) -> bool:
    after = 0
    try:
        while found := await database.snapshots(session, after=after, limit=_PAGE):
            after = found[-1][0]
    except StoreCorrupt:
        return False
    return True
