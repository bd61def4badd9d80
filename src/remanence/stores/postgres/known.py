"""What this process believes about sessions it wrote or loaded, and the writes on their way. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from remanence.errors import InvalidInput, RemanenceError
from remanence.events import Recorded
from remanence.ports import Appended, Summary, Write
from remanence.stores.rows import SPILL_BYTES, Draft, Head, Row

__all__ = ["Group", "Known", "KnownSessions", "Pending", "Queue", "check_texts", "same_identity"]

KNOWN_MAX = 20_000
GROUP_MAX = 256
GROUP_BYTES = 4 * 1024 * 1024
FEW = 8
"""In a larger group nothing trails: a second step costs all of it more than another group costs the few."""


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
    """A write on its way. `rows` is what it becomes, as last worked out.

    `doubts` are the rows of every attempt whose answer was lost: while there are any, nobody knows whether one landed.

    `blobs` says whether any of its records needs a blob; `size` is that of the payloads, in bytes.
    """

    __slots__ = ("blobs", "doubts", "drafted", "future", "rows", "size", "write")

    def __init__(self, drafted: Draft, future: asyncio.Future[Appended]) -> None:
        self.drafted = drafted
        self.write = drafted.write
        self.future = future
        self.rows: list[Row] = []
        self.doubts: list[list[Row]] = []
        self.size = sum([len(payload) for payload in drafted.payloads])
        self.blobs = any(map(_needs_blob, drafted.payloads))

    def appended(self) -> Appended:
        """What the write became, once its rows are durable."""
        write, rows = self.write, self.rows
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


class Group(NamedTuple):
    """What a lane takes at a time: one write of each session, and behind it one that names the record it becomes."""

    leading: list[Pending]
    trailing: list[Pending]


class Queue:
    """Writes that wait for a lane. A session is on one lane at a time; its other writes wait behind, in order."""

    def __init__(self) -> None:
        self._ready: dict[str, deque[Pending]] = {}
        self._held: dict[str, deque[Pending]] = {}

    def __bool__(self) -> bool:
        """Whether a group could be taken now."""
        return bool(self._ready)

    def put(self, pending: Pending) -> None:
        session = pending.write.session
        held = self._held.get(session)
        if held is not None:
            held.append(pending)
        elif session in self._ready:
            self._ready[session].append(pending)
        else:
            self._ready[session] = deque((pending,))

    def take(self) -> Group:
        """The next group: the oldest write of each session, without a second one under the same idempotency key; and
        in a small group the one behind it, when it follows from that."""
        group = Group([], [])
        keys: set[str] = set()
        size = 0
        for waiting in islice(self._ready.values(), GROUP_MAX):
            pending = waiting[0]
            if size > 0 and size + pending.size > GROUP_BYTES:
                break
            if pending.write.key is not None:
                if pending.write.key in keys:
                    continue
                keys.add(pending.write.key)
            size += pending.size
            group.leading.append(pending)
        few = len(group.leading) <= FEW
        for pending in group.leading:
            session = pending.write.session
            self._held[session] = waiting = self._ready.pop(session)
            waiting.popleft()
            if few and waiting and waiting[0].write.follows is not None and waiting[0].write.key is None:
                group.trailing.append(waiting.popleft())
        return group

    def done(self, group: Group) -> None:
        """A group is off its lane: what waited behind it may go, after those that wait already."""
        for pending in group.leading:
            waiting = self._held.pop(pending.write.session)
            if waiting:
                self._ready[pending.write.session] = waiting


def _needs_blob(payload: bytes) -> bool:
    return len(payload) > SPILL_BYTES or b'"blob":"' in payload


def same_identity(one: Summary, other: Summary) -> bool:
    """Whether two summaries agree in what a plain append does not write: what the session is, not how it goes."""
    return one is other or (
        one.agent == other.agent
        and one.version == other.version
        and one.project == other.project
        and one.title == other.title
        and one.needs == other.needs
    )


def check_texts(write: Write) -> None:
    """Say which text PostgreSQL could not hold. Raises InvalidInput."""
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
    yield "key_digest", write.key_digest
    yield "worker", write.wake_unless if write.lease is None else write.lease.worker
    if write.summary is not None:
        for name in Summary.__struct_fields__:
            value = getattr(write.summary, name)
            if isinstance(value, str):
                yield name, value
    for charge in write.charges:
        yield "key", charge.key
        for scope in charge.scopes:
            yield "scope", scope
