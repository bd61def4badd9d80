"""What this process believes about sessions it wrote or loaded, and the writes on their way. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from remanence.errors import InvalidInput, RemanenceError
from remanence.events import Recorded
from remanence.ports import Appended, Summary, Write
from remanence.stores.rows import SPILL_BYTES, Draft, Head, Row

__all__ = ["Known", "KnownSessions", "Pending", "check_texts", "same_identity"]

KNOWN_MAX = 20_000


class Known:
    """A session's row as last seen: its `head`, its summary, and whether budgets count it."""

    __slots__ = ("counted", "head", "summary")

    def __init__(self, head: Head, summary: Summary, *, counted: bool = False) -> None:
        self.head = head
        self.summary = summary
        self.counted = counted


class KnownSessions:
    """Beliefs by session, the latest used at the end; the oldest are forgotten beyond `KNOWN_MAX`."""

    def __init__(self) -> None:
        self._by_session: dict[str, Known] = {}

    def get(self, session: str) -> Known | None:
        return self._by_session.get(session)

    def learn(self, known: Known) -> None:
        """Believe this, unless something newer is known already: heads only grow."""
        session = known.head.session
        before = self._by_session.pop(session, None)
        if before is not None and before.head.head > known.head.head:
            known = before
        self._by_session[session] = known
        if len(self._by_session) > KNOWN_MAX:
            del self._by_session[next(iter(self._by_session))]

    def forget(self, session: str) -> None:
        self._by_session.pop(session, None)


class Pending:
    """A write on its way. `rows` is what was sent last: set while nobody knows whether it landed.

    `blobs` says whether any of its records needs a blob; `size` is that of the payloads, in bytes.
    """

    __slots__ = ("blobs", "drafted", "future", "rows", "size", "write")

    def __init__(self, drafted: Draft, future: asyncio.Future[Appended]) -> None:
        self.drafted = drafted
        self.write = drafted.write
        self.future = future
        self.rows: list[Row] | None = None
        self.size = sum([len(payload) for payload in drafted.payloads])
        self.blobs = any(map(_needs_blob, drafted.payloads))

    def appended(self) -> Appended:
        """What the write became, once its rows are durable."""
        write, rows = self.write, self.rows or ()
        return Appended(
            tuple(
                [
                    Recorded(write.session, row.position, row.at, row.epoch, row.actor, event, row.digest)
                    for event, row in zip(write.events, rows, strict=True)
                ]
            )
        )

    def resolve(self, outcome: Appended | RemanenceError) -> None:
        """Tell the caller, unless it stopped waiting."""
        if self.future.done():
            return
        if isinstance(outcome, Appended):
            self.future.set_result(outcome)
        else:
            self.future.set_exception(outcome)


def _needs_blob(payload: bytes) -> bool:
    return len(payload) > SPILL_BYTES or b'"blob":"' in payload


def same_identity(one: Summary, other: Summary) -> bool:
    """Whether two summaries agree in what a plain append does not write: what the session is, not how it goes."""
    return one is other or (
        one.agent == other.agent
        and one.version == other.version
        and one.project == other.project
        and one.user == other.user
        and one.title == other.title
        and one.needs == other.needs
    )


def check_texts(write: Write) -> None:
    """Refuse what PostgreSQL's text cannot hold, before it spoils the group it would travel in. Raises InvalidInput."""
    for name, text in _texts(write):
        if "\x00" in text:
            raise InvalidInput(f"The {name} holds a NUL character. Nothing was written; leave it out.", param=name)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InvalidInput(
                    f"The {name} holds half of a surrogate pair, which is not a character. Nothing was written.",
                    param=name,
                ) from None


def _texts(write: Write) -> Iterator[tuple[str, str]]:
    yield "session", write.session
    yield "actor", write.actor
    if write.lease is not None:
        yield "worker", write.lease.worker
    if write.key is not None:
        yield "key", write.key
        yield "key_digest", write.key_digest
    if write.summary is not None:
        for name in Summary.__struct_fields__:
            value = getattr(write.summary, name)
            if isinstance(value, str):
                yield name, value
    for charge in write.charges:
        yield "key", charge.key
        for scope in charge.scopes:
            yield "scope", scope
