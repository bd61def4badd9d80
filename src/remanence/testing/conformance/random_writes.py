"""A property over random histories: whatever is written in whatever order, the store holds what a dictionary would.

Hypothesis makes up short programs of writes, right and wrong, on a few sessions; each is run on the real database and
on a model of it in memory. Both must accept and refuse the same, and hold the same in the end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from remanence.errors import Conflict, InvalidInput, NotFound, RemanenceError
from remanence.events import Event, Redacted, SessionForked, SessionOpened, skeleton
from remanence.ports import Appended, Database, Fork, Write
from remanence.testing.conformance.harness import T0, said, verified

__all__ = ["check_random_writes"]


class Step(msgspec.Struct, frozen=True):
    """One line of a program. `offset` moves what the step names off the mark, so that it must be refused."""

    verb: Literal["open", "fork", "say", "redact", "snapshot", "forget"]
    session: int
    other: int
    count: int
    offset: int
    conditional: bool


class Model:
    """What the database should hold: every session's events, and how many of them are inherited."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.inherited: dict[str, int] = {}
        self.forks: dict[str, Fork] = {}
        self.redacted: set[tuple[str, int]] = set()
        self.snapshots: dict[str, dict[int, bytes]] = {}

    def refusal(self, write: Write) -> type[RemanenceError] | None:
        """What the database must say to this write, if it must refuse it."""
        if write.fork is not None and write.session not in self.events:
            if write.fork.source not in self.events:
                return NotFound
            if not 1 <= write.fork.position <= len(self.events[write.fork.source]):
                return InvalidInput
            return None
        if isinstance(write.events[0], SessionOpened | SessionForked):
            return Conflict if write.session in self.events else None
        if write.session not in self.events:
            return NotFound
        head = len(self.events[write.session])
        if write.expect is not None and write.expect != head:
            return Conflict
        redacted = [event.position for event in write.events if isinstance(event, Redacted)]
        if any(not self.inherited[write.session] < position <= head for position in redacted):
            return InvalidInput
        return None

    def take(self, write: Write) -> None:
        """Do what the database does with an accepted write."""
        events = self.events.setdefault(write.session, [])
        self.inherited.setdefault(write.session, 0)
        if write.fork is not None:
            self.inherited[write.session] = write.fork.position
            self.forks[write.session] = write.fork
            events += self.events[write.fork.source][: write.fork.position]
        for event in write.events:
            if isinstance(event, Redacted):
                self._redact(write.session, event.position)
        events += write.events
        if write.snapshot:
            self.snapshots.setdefault(write.session, {})[len(events)] = write.snapshot
        elif write.snapshot is not None:
            self.snapshots[write.session] = {}

    def snapshot(self, session: str, upto: int) -> tuple[bytes | None, int]:
        """The newest one at or before a position, of the session or of what it was forked from."""
        own = self.snapshots.get(session, {})
        position = max((p for p in own if p <= upto), default=0)
        if position:
            return own[position], position
        past = self.forks.get(session)
        return self.snapshot(past.source, min(upto, past.position)) if past else (None, 0)

    def _redact(self, session: str, position: int) -> None:
        """Erase a record here and in every fork that inherited it."""
        before = self.events[session][position - 1]
        again, self.redacted = (session, position) in self.redacted, self.redacted | {(session, position)}
        if isinstance(before, SessionOpened | SessionForked) and not again:
            own = self.snapshots.get(session, {})
            self.snapshots[session] = {p: state for p, state in own.items() if p < position}
        self.events[session][position - 1] = skeleton(before)
        for fork, past in self.forks.items():
            if past.source == session and position <= past.position:
                self._redact(fork, position)


def write_of(step: Step, model: Model, prefix: str) -> Write:
    """The write a step means, given what is there."""
    name, other = f"{prefix}{step.session}", f"{prefix}{step.other}"
    events = tuple(said(f"{step.verb} {n}") for n in range(step.count))
    head = len(model.events.get(name, ()))
    expect = max(0, head + step.offset) if step.conditional else None
    match step.verb:
        case "open":
            return Write(name, (SessionOpened("a", "v", "p"), *events), T0, "ada", expect=0)
        case "fork":
            position = max(0, len(model.events.get(other, ())) - step.count + step.offset)
            first = SessionForked(other, position)
            return Write(name, (first, *events), T0, "ada", fork=Fork(other, position))
        case "say":
            return Write(name, events, T0, "ada", expect=expect)
        case "redact":
            position = head - step.count + 1 + step.offset
            return Write(name, (Redacted(position, "ada"), *events[1:]), T0, "ada", expect=expect)
        case "snapshot":
            return Write(name, events, T0, "ada", expect=expect, snapshot=f"{step.count}".encode())
        case "forget":
            return Write(name, events, T0, "ada", expect=expect, snapshot=b"")


async def _run(databases: list[Database], steps: list[Step], prefix: str) -> None:
    model = Model()
    for step, database in zip(steps, itertools.cycle(databases), strict=False):
        attempt = write_of(step, model, prefix)
        refusal = model.refusal(attempt)
        try:
            outcome: Appended | RemanenceError = await database.store.append(attempt)
        except RemanenceError as error:
            outcome = error
        if refusal is None:
            assert isinstance(outcome, Appended), f"{attempt} should have been kept: {outcome!r}"
            model.take(attempt)
        else:
            assert isinstance(outcome, refusal), f"{attempt} should have been refused with {refusal}: {outcome!r}"
    for name, events in model.events.items():
        await _compare(databases[0], name, events, model)


async def _compare(database: Database, name: str, events: list[Event], model: Model) -> None:
    records = await database.store.read(name)
    assert [r.event for r in records] == events
    assert [r.position for r in records] == list(range(1, len(events) + 1))
    assert await verified(database, name) == len(events) - model.inherited[name]
    loaded = await database.store.load(name)
    snapshot, position = model.snapshot(name, len(events))
    assert (loaded.snapshot, loaded.snapshot_position) == (snapshot, position)
    assert list(loaded.records) == list(records[position:])
    assert loaded.fork == model.forks.get(name)
    upto = len(events) // 2
    earlier = await database.store.load(name, upto=upto)
    snapshot, position = model.snapshot(name, upto)
    assert (earlier.snapshot, earlier.snapshot_position) == (snapshot, position)
    assert list(earlier.records) == list(records[position:upto])


def check_random_writes(opener: Callable[[], Awaitable[Database]], *, examples: int = 60) -> None:
    """Run that many random programs on one storage opened twice. Needs Hypothesis; raises AssertionError."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as some

    steps = some.builds(
        Step,
        verb=some.sampled_from(["open", "fork", "say", "say", "redact", "snapshot", "snapshot", "forget"]),
        session=some.integers(0, 3),
        other=some.integers(0, 3),
        count=some.integers(1, 3),
        offset=some.sampled_from([0, 0, 0, 0, 1, -1]),
        conditional=some.booleans(),
    )
    numbers = itertools.count()

    with asyncio.Runner() as runner:
        databases = [runner.run(_open(opener)) for _ in range(2)]

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=(HealthCheck.too_slow,))
        @given(some.lists(steps, min_size=1, max_size=25))
        def holds(program: list[Step]) -> None:
            runner.run(_run(databases, program, f"p{next(numbers)}-"))

        try:
            holds()
        finally:
            for database in databases:
                runner.run(database.close())


async def _open(opener: Callable[[], Awaitable[Database]]) -> Database:
    return await opener()
