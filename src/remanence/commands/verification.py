"""Whether a session's journal is what was written, inherited records included, and what is wrong when it is not.

Detection is `stores/verify.py`: every digest is computed again. A first fault is then looked at closer, with the
records around it, to say what kind of damage it is: a person who has to repair something needs to know where to look.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from remanence.commands.bundle import Origin
from remanence.commands.caller import Caller
from remanence.commands.lineage import Journal, erased_elsewhere, journal_of, own_pages
from remanence.commands.snapshots import SnapshotCheck, WrongSnapshot, drop
from remanence.errors import NotFound, StoreCorrupt
from remanence.events import GENESIS, chain_digest, payload_digest
from remanence.ports import Database, RawRecord, SessionQuery
from remanence.stores.rows import blobs_named
from remanence.stores.verify import Flaw, Verifier

__all__ = ["Fault", "Verification", "mend_session", "sessions_all", "verify_session"]

_AROUND = 200
_TRIES = 5
_PAGE = 200


class Fault(msgspec.Struct, frozen=True):
    """The first thing that is wrong: at which position of whose journal, and what, in words."""

    session: str
    position: int
    what: str


class Verification(msgspec.Struct, frozen=True):
    """What became of verifying a session. `head_digest` (hexadecimal) stands for the whole journal: note it elsewhere,
    and nobody can rewrite the journal unseen. `faults` counts what is wrong, `fault` is the first.

    `snapshots` were compared with what the records say (when these are whole); `wrong_snapshots` are those to drop, or
    that were `dropped`: the journal holds all that they should say. `unread` says what of an intact journal this
    release cannot read, because a newer one wrote it."""

    session: str
    records: int
    inherited: int
    redacted: int
    blobs: int
    head: int
    head_digest: str
    faults: int = 0
    fault: Fault | None = None
    snapshots: int = 0
    wrong_snapshots: tuple[WrongSnapshot, ...] = ()
    dropped: bool = False
    unread: str = ""

    @property
    def intact(self) -> bool:
        """Whether the journal is what was written."""
        return self.fault is None

    @property
    def sound(self) -> bool:
        """Whether that is so, and nothing that is derived from it beside it is wrong."""
        return self.intact and (self.dropped or not self.wrong_snapshots)


async def verify_session(caller: Caller, session: str, *, inherited: bool = True) -> Verification:
    """Check every record of a session, every blob it names, its row, and its snapshots.

    `inherited=False` leaves out the records of the sessions it was forked from (when those are verified as well), not
    the link to them; they are read for what its own snapshots should say. Raises NotFound; damage is an answer, not an
    error.
    """
    database = caller.database
    tries = _TRIES
    while True:
        try:
            journal = await journal_of(database, session)
        except StoreCorrupt as error:
            return await _orphan(database, session, error.message)
        found = await _Reading(database, journal, inherited).run()
        tries -= 1
        # What was written while we read can look like a fault, and does not the next time.
        if found.sound or not tries or (await database.views.session(session)).head == journal.row.head:
            return found


async def mend_session(caller: Caller, session: str, *, inherited: bool = True) -> Verification:
    """Verify a session, and drop what is wrong among its snapshots. Of a damaged journal nothing is dropped."""
    found = await verify_session(caller, session, inherited=inherited)
    if not found.intact or not found.wrong_snapshots:
        return found
    try:
        await drop(caller, found.wrong_snapshots)
    except StoreCorrupt:
        return found  # a page was damaged since
    return msgspec.structs.replace(found, dropped=True)


async def sessions_all(caller: Caller) -> AsyncIterator[str]:
    """Every session of the caller's project, those changed last first."""
    query = SessionQuery(project=caller.project, limit=_PAGE)
    while rows := await caller.database.views.sessions(query):
        for row in rows:
            yield row.session
        query = msgspec.structs.replace(query, before=(rows[-1].updated_at, rows[-1].session))


async def _orphan(database: Database, session: str, what: str) -> Verification:
    row = await database.views.session(session)
    return Verification(session, 0, 0, 0, 0, row.head, "", 1, Fault(session, 1, what))


class _Reading:
    """One pass over one journal."""

    def __init__(self, database: Database, journal: Journal, inherited: bool) -> None:
        self.database = database
        self.journal = journal
        own = tuple(origin for origin in journal.origins if origin.session == journal.row.session)
        self.origins = journal.origins if inherited else own
        self.verifier = Verifier()
        self.snapshots = SnapshotCheck(database)
        self.flaws: list[Flaw] = []
        self.blobs: dict[str, bool] = {}
        self.digest = GENESIS
        self.position = 0

    async def run(self) -> Verification:
        first = self.origins[0].first if self.origins else 1
        if first > 1:
            self.digest = await self._digest_at(first - 1)
            self.verifier = Verifier(previous=self.digest, after=first - 1)
            await self._fold_inherited()
        self.position = first - 1
        try:
            await self._read()
        except StoreCorrupt as error:
            # The database itself cannot read on.
            self.flaws.append(Flaw(self.position + 1, error.message))
        return await self._verification()

    async def _read(self) -> None:
        for origin in self.origins:
            async for rows in own_pages(self.database, origin):
                await self.snapshots.feed(origin.session, rows)
                self.flaws += self.verifier.feed(rows)
                await self._check_blobs(rows)
                self.position, self.digest = rows[-1].position, rows[-1].digest
        unannounced = self.verifier.unannounced
        if unannounced:
            self.verifier.announce(await erased_elsewhere(self.database, self.journal, unannounced))
        self.flaws += self.verifier.finish(self.journal.row.head)
        self.flaws += await self._after_the_head()
        await self.snapshots.finish(self.journal.row.session, self.journal.row.head)

    async def _fold_inherited(self) -> None:
        """What its own snapshots go on from. From damaged records nothing follows for them."""
        verifier = Verifier()
        for origin in self.journal.origins[: -len(self.origins)]:
            async for rows in own_pages(self.database, origin):
                if [flaw for flaw in verifier.feed(rows) if flaw]:
                    self.snapshots.give_up()
                await self.snapshots.feed(origin.session, rows, compared=False)

    async def _verification(self) -> Verification:
        row = self.journal.row
        return Verification(
            session=row.session,
            records=self.verifier.count,
            inherited=self.journal.inherited,
            redacted=self.verifier.redacted,
            blobs=len(self.blobs),
            head=row.head,
            head_digest=self.digest.hex(),
            faults=len(self.flaws),
            snapshots=0 if self.flaws else self.snapshots.count,
            wrong_snapshots=() if self.flaws else tuple(self.snapshots.wrong),
            unread="" if self.flaws else self.snapshots.unread,
            fault=await self._fault(min(self.flaws, key=lambda flaw: flaw.position)) if self.flaws else None,
        )

    async def _after_the_head(self) -> list[Flaw]:
        row = self.journal.row
        rest = await self.database.raw(row.session, after=row.head, limit=1)
        return [Flaw(rest[0].position, f"the session's row knows records up to {row.head} only")] if rest else []

    async def _check_blobs(self, rows: Sequence[RawRecord]) -> None:
        for row in rows:
            for digest in blobs_named(row.payload):
                if digest not in self.blobs:
                    self.blobs[digest] = await self._is_whole(digest)
                if not self.blobs[digest]:
                    self.flaws.append(Flaw(row.position, f"the blob {digest} that it names is missing or damaged"))

    async def _is_whole(self, digest: str) -> bool:
        try:
            return hashlib.sha256(await self.database.blobs.get(digest)).hexdigest() == digest
        except (NotFound, StoreCorrupt):
            return False

    # --- what kind of damage ------------------------------------------------------------------------------------------

    async def _fault(self, flaw: Flaw) -> Fault:
        """The first flaw, and what the records around it tell about it."""
        position = flaw.position
        if position > self.journal.row.head:
            return Fault(self.journal.row.session, position, flaw.what)
        origin, what = self.journal.owner(position), flaw.what
        try:
            rows = [row async for rows in own_pages(self.database, _around(origin, position)) for row in rows]
        except StoreCorrupt:
            return Fault(origin.session, position, what)  # the database cannot read there: that is what is wrong
        if rows and rows[0].position == position and "digest does not fit" in what:
            what = self._diagnosis(origin, await self._digest_at(position - 1), rows)
        return Fault(origin.session, position, what)

    def _diagnosis(self, origin: Origin, previous: bytes, rows: Sequence[RawRecord]) -> str:
        row = rows[0]
        if not row.payload:
            return "its content is missing: it was large and lay beside the journal"
        for other in rows[1:]:
            if _fits(previous, other, row.position) == other.digest:
                return f"the record that belongs here stands at {other.position}: records were put in another order"
        if row.position == origin.first and origin != self.journal.origins[0]:
            before = f"record {row.position - 1} of {self.journal.owner(row.position - 1).session}"
            return f"it does not follow from {before}, which it was forked from: that one or this one was changed"
        after = rows[1] if len(rows) > 1 else None
        if after is not None and _fits(row.digest, after, after.position) == after.digest:
            return "its content, its time, its epoch or its actor was changed after it was written"
        if after is not None and _fits(_fits(previous, row, row.position), after, after.position) == after.digest:
            return "its digest was changed; its content is as it was written"
        return f"it does not follow from record {row.position - 1}: one of them was changed, replaced or dropped"

    async def _digest_at(self, position: int) -> bytes:
        if position < 1:
            return GENESIS
        owner = self.journal.owner(position)
        found = await self.database.raw(owner.session, after=position - 1, limit=1)
        return found[0].digest if found and found[0].position == position else b""


def _around(origin: Origin, position: int) -> Origin:
    return Origin(origin.session, position, min(origin.last, position + _AROUND))


def _fits(previous: bytes, row: RawRecord, position: int) -> bytes:
    """The digest this record would have at `position`, after a record with the digest `previous`; none when its header
    is not even of the right types."""
    own = row.payload_digest if row.payload_digest is not None else payload_digest(row.payload)
    try:
        return chain_digest(previous, own, position=position, at=row.at, epoch=row.epoch, actor=row.actor)
    except (TypeError, AttributeError):
        return b"none"  # as long as no digest is; an empty one stands in damaged rows
