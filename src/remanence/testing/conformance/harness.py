"""What the laws are written with: databases over one storage, and writes in a few words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from remanence.content import Text, text_of
from remanence.errors import RemanenceError
from remanence.events import Event, InputReceived, SessionForked, SessionOpened
from remanence.ports import Database, Fork, Lease, Write
from remanence.stores.verify import verify_session

__all__ = [
    "LAWS",
    "SECOND",
    "T0",
    "Harness",
    "Law",
    "forked",
    "law",
    "leased",
    "name_of",
    "opened",
    "said",
    "texts",
    "verified",
    "write",
]

T0 = 1_790_000_000_000_000
"""When the laws begin, in microseconds since 1970. No law looks at a real clock."""
SECOND = 1_000_000

E = TypeVar("E", bound=RemanenceError)
Law = Callable[["Harness"], Awaitable[None]]

LAWS: list[Law] = []
"""Every law, in the order they are read."""


def law(function: Law) -> Law:
    """Collect a law."""
    LAWS.append(function)
    return function


def name_of(function: Law) -> str:
    """The law as a test's name: what it says."""
    return getattr(function, "__name__", str(function))


class Harness:
    """Opens one storage as often as a law asks for, and closes what it opened."""

    def __init__(self, opener: Callable[[], Awaitable[Database]]) -> None:
        self._opener = opener
        self._opened: list[Database] = []

    async def open(self) -> Database:
        """The storage, opened once more: nothing in memory is shared with the databases opened before."""
        database = await self._opener()
        self._opened.append(database)
        return database

    async def __aenter__(self) -> Harness:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for database in reversed(self._opened):
            await database.close()

    async def refused(self, kind: type[E], attempt: Awaitable[object]) -> E:
        """The error an attempt ends in. It must be of this kind and say something to a person."""
        try:
            outcome = await attempt
        except kind as error:
            refusal = error
        else:
            raise AssertionError(f"it should have been refused with {kind.__name__}, and came to {outcome!r}")
        assert len(refusal.message) > 20, f"{kind.__name__} says too little: {refusal.message!r}"
        return refusal


def opened(session: str = "s", *events: Event, **more: Any) -> Write:
    """The first write of a session of agent `scribe`, project `lab`."""
    first = SessionOpened("scribe", "v1", "p1", "lab", "ada", "A title")
    return Write(session, (first, *events), more.pop("at", T0), more.pop("actor", "ada"), **more)


def forked(session: str, source: str, position: int, *events: Event, **more: Any) -> Write:
    """The first write of a fork."""
    first = SessionForked(source, position)
    fork = Fork(source, position)
    return Write(session, (first, *events), more.pop("at", T0), more.pop("actor", "ada"), fork=fork, **more)


def said(text: str, input_: str = "") -> InputReceived:
    """Somebody said this."""
    return InputReceived(input_ or f"in-{text[:20]}", (Text(text),))


def write(session: str, *events: Event, **more: Any) -> Write:
    """Another write on a session."""
    return Write(session, events, more.pop("at", T0), more.pop("actor", "ada"), **more)


async def leased(database: Database, session: str, worker: str = "w1", *, now: int = T0, ttl_s: float = 30.0) -> Lease:
    """A lease on a new session, which was spoken to."""
    await database.store.append(opened(session, said("hello"), wake=True, at=now))
    leases = await database.store.claim(worker, now=now, ttl_s=ttl_s, limit=100)
    return next(lease for lease in leases if lease.session == session)


async def texts(database: Database, session: str) -> Sequence[str]:
    """What was said in a session, in order."""
    records = await database.store.read(session)
    inputs = [r.event for r in records if isinstance(r.event, InputReceived)]
    return [text_of(event.parts) for event in inputs]


async def verified(database: Database, session: str) -> int:
    """The chain of digests holds; returns how many records of its own the session has."""
    outcome = await verify_session(database, session)
    assert outcome.flaws == (), outcome.flaws
    return outcome.records
