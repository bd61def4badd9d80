"""Whether a journal is what was written: every digest is computed again, from the first record to the last.

A record's digest covers the one before, the payload's digest and the header, so a flipped byte, a dropped record and
two that changed places each break the chain where it happened. What was redacted keeps the digest of what it was; then
the journal itself must say that it was redacted, and what is left must be a skeleton. Where it says so with a seal, the
seal stands for the record: its header may hold a pseudonym that its digest was not made from (`events/sealing.py`).
Records missing at the end are noticed because the session's row knows the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from remanence.errors import StoreCorrupt, UnknownEvent
from remanence.events import (
    GENESIS,
    Redacted,
    chain_digest,
    decode_event,
    encode_event,
    payload_digest,
    seal_of,
    skeleton,
)
from remanence.ports import Database, RawRecord
from remanence.stores.rows import kind_in

__all__ = ["Flaw", "Verified", "Verifier", "digest_at", "verify_session"]

PAGE = 1_000
TRIES = 5


class Flaw(msgspec.Struct, frozen=True):
    """Something that is not as it was written. `position` is where it shows."""

    position: int
    what: str


class Verified(msgspec.Struct, frozen=True):
    """What became of verifying a session: how many of its own records were read, and what is wrong with them."""

    session: str
    records: int
    flaws: tuple[Flaw, ...]


class Verifier:
    """Reads a journal page by page. A fork begins `after` a position of its source, whose digest is `previous`."""

    def __init__(self, *, previous: bytes = GENESIS, after: int = 0) -> None:
        self.count = 0
        self._after = after
        self._position = after
        self._previous = previous
        self._redacted: dict[int, str] = {}
        self._unchained: set[int] = set()
        self._announced: dict[int, str] = {}

    def feed(self, rows: Iterable[RawRecord]) -> list[Flaw]:
        """The next records, in the order they are stored. Returns what is wrong with them."""
        return [flaw for row in rows for flaw in self._check(row)]

    @property
    def unannounced(self) -> set[int]:
        """Positions of what was redacted for which no Redacted event among the records so far stands."""
        return {position for position in self._redacted if self._doubt(position)}

    @property
    def redacted(self) -> int:
        """How many records were redacted."""
        return len(self._redacted)

    def announce(self, seals: Mapping[int, str]) -> None:
        """Redactions that are journaled out of reach, in the source of a fork, after the fork: positions and seals."""
        for position in self._redacted.keys() & seals.keys():
            self._hear(position, seals[position])

    def finish(self, head: int) -> list[Flaw]:
        """No record follows; `head` is the position the session's row says. Returns what is wrong with the whole."""
        flaws = _missing(self._position + 1, head)
        if self._position > head:
            flaws.append(Flaw(self._position, f"the session's row knows records up to {head} only"))
        for position in sorted(self._redacted):
            if doubt := self._doubt(position):
                flaws.append(Flaw(position, doubt))
        for position in sorted(self._announced.keys() - self._redacted.keys()):
            if position > self._after:
                flaws.append(Flaw(position, "a Redacted event says its content was erased, and it was not"))
        return flaws

    def _hear(self, position: int, seal: str) -> None:
        """A redaction was announced. One without a seal changes nothing about what was sealed before."""
        self._announced[position] = seal or self._announced.get(position, "")

    def _doubt(self, position: int) -> str:
        """What is wrong with a record that was redacted, as far as the records so far say; empty when nothing is."""
        seal = self._announced.get(position)
        if seal:
            return "" if seal == self._redacted[position] else "what is left of it was changed after it was erased"
        if position in self._unchained:
            return _UNCHAINED
        return "its content was replaced, and no Redacted event says so" if seal is None else ""

    def _check(self, row: RawRecord) -> list[Flaw]:
        flaws: list[Flaw] = []
        if row.position <= self._position:
            flaws.append(Flaw(row.position, f"it comes after record {self._position}"))
        else:
            flaws += _missing(self._position + 1, row.position - 1)
        self.count += 1
        own = row.payload_digest if row.payload_digest is not None else payload_digest(row.payload)
        if _chained(self._previous, own, row) != row.digest and not flaws:
            if row.payload_digest is None:
                flaws.append(Flaw(row.position, _UNCHAINED))
            else:
                self._unchained.add(row.position)
        flaws += self._check_redaction(row)
        self._position, self._previous = row.position, row.digest or b""
        return flaws

    def _check_redaction(self, row: RawRecord) -> list[Flaw]:
        if row.payload_digest is None and kind_in(row.payload) != "Redacted":
            return []
        if row.payload_digest is not None:
            self._redacted[row.position] = _sealed(self._previous, row)
        try:
            event = decode_event(row.payload)
        except UnknownEvent:
            return []
        except StoreCorrupt:
            return [Flaw(row.position, "its content cannot be read")]
        if isinstance(event, Redacted):
            self._hear(event.position, event.seal)
        if row.payload_digest is not None and encode_event(skeleton(event)) != row.payload:
            return [Flaw(row.position, "it was redacted, and what is left is not a skeleton")]
        return []


_UNCHAINED = "its digest does not fit its content, its header and the record before"


def _sealed(previous: bytes, row: RawRecord) -> str:
    """The seal of what is left of a row; none when its header is not even of the right types."""
    chained = previous + row.digest if row.digest else b""
    try:
        return seal_of(chained, row.payload, position=row.position, at=row.at, epoch=row.epoch, actor=row.actor)
    except (TypeError, AttributeError):
        return ""


def _chained(previous: bytes, own: bytes, row: RawRecord) -> bytes:
    """The digest a row should have; of nothing when its header is not even of the right types."""
    try:
        return chain_digest(previous, own, position=row.position, at=row.at, epoch=row.epoch, actor=row.actor)
    except (TypeError, AttributeError):
        return b""


def _missing(first: int, last: int) -> list[Flaw]:
    if first > last:
        return []
    return [Flaw(first, "it is missing" if first == last else f"it and the records up to {last} are missing")]


async def verify_session(database: Database, session: str) -> Verified:
    """Verify a session's own records and that they chain on what they were forked from. Raises NotFound, StoreError.

    The source of a fork is a session of its own: verify it by its own name.
    """
    row = await database.views.session(session)
    after = 0 if row.fork is None else row.fork.position
    previous = GENESIS if row.fork is None else await digest_at(database, row.fork.source, after)
    verified = await _verify(database, session, Verifier(previous=previous, after=after))
    for _ in range(TRIES):
        # What was written while we read looks like a flaw, and does not the next time.
        head = (await database.views.session(session)).head
        if not verified.flaws or head == row.head:
            break
        row = await database.views.session(session)
        verified = await _verify(database, session, Verifier(previous=previous, after=after))
    return verified


async def _verify(database: Database, session: str, verifier: Verifier) -> Verified:
    flaws: list[Flaw] = []
    position = 0
    while page := await database.raw(session, after=position, limit=PAGE):
        flaws += verifier.feed(page)
        position = page[-1].position
    head = (await database.views.session(session)).head
    return Verified(session, verifier.count, (*flaws, *verifier.finish(head)))


async def digest_at(database: Database, session: str, position: int) -> bytes:
    """The digest of a record, wherever along the forks it lies; of nothing when it is missing."""
    row = await database.views.session(session)
    while row.fork is not None and position <= row.fork.position:
        row = await database.views.session(row.fork.source)
    found = await database.raw(row.session, after=position - 1, limit=1)
    return found[0].digest if found and found[0].position == position else b""
