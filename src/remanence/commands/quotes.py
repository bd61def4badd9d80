"""Quotations: what agents and tools say again of what is erased, known by its words or by what it names.

* Words in a row, in the same person's sessions: a search, a reply. What was noted for everybody is looked for in
  everybody's.
* Identifiers (an order number, an address), in forks of what is erased: a fork's agent may have read them in a summary,
  and one is a quotation without a second word. What the people of the fork said themselves is theirs.

A person's own words elsewhere are no quotation, and quotations of a quotation are no reason to go on.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from remanence.commands.pseudonyms import Pseudonyms
from remanence.commands.receipts import Order
from remanence.commands.traces import Tracer, texts_of
from remanence.core.context.stubs import identifiers
from remanence.events import (
    ContextCompacted,
    Event,
    InputReceived,
    MemoryKept,
    ModelReplied,
    QuestionAsked,
    Recorded,
    ToolReturned,
)
from remanence.ports import SessionQuery, SessionRow
from remanence.recollections import Memory

__all__ = ["Trail", "take_quotes", "user_of"]

_SAID: Final = (InputReceived, ToolReturned, MemoryKept)
_QUOTES: Final = (ModelReplied, ToolReturned)
_REPEATS: Final = (ModelReplied, ToolReturned, ContextCompacted, QuestionAsked)
_YEAR: Final = re.compile(r"(?:19|20)\d\d")

Prints = tuple[tuple[str, ...], ...]
"""The prints of each of some texts."""


class Trail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What earlier looks of an order found to look for, which nobody could find again once it is erased.

    `quoted` are the prints of each text that may be quoted in the sessions of these `users`, `shared` those that may be
    in anybody's.
    """

    quoted: tuple[tuple[str, ...], ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    users: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


class Reached(Protocol):
    """What this needs of `Reach`."""

    names: Pseudonyms
    records: dict[str, dict[int, Recorded]]
    memories: dict[str, Memory]
    trail: Trail

    @property
    def touched(self) -> set[str]: ...
    async def row(self, session: str) -> SessionRow: ...
    def sessions(self, query: SessionQuery) -> AsyncIterator[SessionRow]: ...
    async def own_records(self, row: SessionRow) -> list[Recorded]: ...
    async def with_forks(self, session: str) -> list[SessionRow]: ...
    def take(self, record: Recorded) -> None: ...


async def take_quotes(reach: Reached, order: Order, tracer: Tracer) -> Trail:
    """Reach the quotations of what is reached. Returns what to look for from now on."""
    return await _Quotes(reach, order, tracer).take()


class _Quotes:
    def __init__(self, reach: Reached, order: Order, tracer: Tracer) -> None:
        self._reach = reach
        self._project = order.project
        self._tracer = tracer

    async def take(self) -> Trail:
        reach, before = self._reach, self._reach.trail
        said = {
            session: [text for r in records.values() if isinstance(r.event, _SAID) for text in texts_of(r.event)]
            for session, records in reach.records.items()
        }
        trail = Trail(
            self._prints(before.quoted, (text for texts in said.values() for text in texts)),
            self._prints(before.shared, (m.text for m in reach.memories.values() if _is_for_all(m))),
            tuple(sorted({*before.users, *await self._users(said)})),
            tuple(sorted({*before.named, *self._identifiers()})),
        )
        for user in trail.users if trail.quoted else ():
            async for row in reach.sessions(SessionQuery(project=self._project, user=user)):
                await self._take_quoting(row, trail.quoted)
        if trail.shared:
            async for row in reach.sessions(SessionQuery(project=self._project)):
                await self._take_quoting(row, trail.shared)
        for session, texts in said.items():
            row = await reach.row(session)
            if texts and row.summary.user not in trail.users and row.summary.project == self._project:
                await self._take_quoting(row, self._prints((), texts))
        await self._take_naming(trail)
        return trail

    async def _users(self, said: Mapping[str, list[str]]) -> set[str]:
        """In whose sessions to look. Whoever is erased may have acted in other people's, and those are not theirs."""
        user = self._reach.names.user
        if user:
            return {user, self._reach.names.of(user)}
        users = {(await self._reach.row(session)).summary.user for session, texts in said.items() if texts}
        return (users | {user_of(memory) for memory in self._reach.memories.values()}) - {""}

    def _prints(self, before: Prints, texts: Iterable[str]) -> Prints:
        made = (self._tracer.prints_of(text) for text in texts)
        return tuple(dict.fromkeys((*before, *(prints for prints in made if prints))))

    async def _take_quoting(self, row: SessionRow, quoted: Prints) -> None:
        """Replies and results of a session that hold at least half of the prints of a text."""
        every = frozenset[str]().union(*quoted)
        for record in await self._reach.own_records(row):
            if isinstance(record.event, _QUOTES) and not self._is_taken(record):
                found = self._tracer.find(every, (text.encode() for text in texts_of(record.event)))
                if any(2 * len(found.intersection(prints)) >= len(prints) for prints in quoted):
                    self._reach.take(record)

    def _is_taken(self, record: Recorded) -> bool:
        return record.redacted or record.position in self._reach.records.get(record.session, {})

    # --- identifiers --------------------------------------------------------------------------------------------------

    def _identifiers(self) -> set[str]:
        """Keyed digests of what the reached records name, those that nobody would say by chance."""
        events = (record.event for records in self._reach.records.values() for record in records.values())
        return {self._tracer.pseudonym("", name) for event in events for name in _named_in(event)}

    async def _take_naming(self, trail: Trail) -> None:
        """In forks of what is reached: whatever an agent or a tool says that names the same."""
        forks = dict[str, SessionRow]()
        for session in self._reach.touched if trail.named else ():
            forks |= {row.session: row for row in (await self._reach.with_forks(session))[1:]}
        named = frozenset(trail.named)
        for row in forks.values():
            records = await self._reach.own_records(row)
            theirs = {
                name
                for record in records
                if isinstance(record.event, InputReceived) and not self._is_taken(record)
                for name in _named_in(record.event)
            }
            for record in records:
                if isinstance(record.event, _REPEATS) and not self._is_taken(record):
                    said = (name for name in _named_in(record.event) if name not in theirs)
                    if any(self._tracer.pseudonym("", name) in named for name in said):
                        self._reach.take(record)


def _named_in(event: Event) -> set[str]:
    """The identifiers of what an event says. A year is none."""
    found = {name for text in texts_of(event) for name in identifiers(text)}
    return {name for name in found if not _YEAR.fullmatch(name)}


def user_of(memory: Memory) -> str:
    """The user in whose scope a memory lies, or the empty string."""
    kind, _, name = memory.place.scope.partition(":")
    return name if kind == "user" else ""


def _is_for_all(memory: Memory) -> bool:
    return memory.place.scope.partition(":")[0] in ("project", "agent")
