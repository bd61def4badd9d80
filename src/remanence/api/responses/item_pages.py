"""Items of a session, a page at a time, read from where they were said and from nowhere else.

What a turn said is shown by the records of that turn: a call is settled by its outcome, a reply is named by its
attempt, and which tools were the client's is what the version said at that moment. So a journal is read in stretches
that begin where a turn begins, from its end or from its beginning, or from the item that a page goes on after: its id
says where that is. A page costs what it shows, however long the session is; at the most it costs the turn it lies in.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from typing import NamedTuple

from remanence.api.lists import Page
from remanence.api.responses.items import Item, Shown, items_of_session, label_of
from remanence.api.responses.mcp import remotes_of
from remanence.api.responses.shown_only import answer_in, items_in, question_in
from remanence.api.turn_starts import start_of
from remanence.commands.caller import Caller, state_in
from remanence.content import ToolCall
from remanence.core.state import Session
from remanence.errors import NotFound
from remanence.events import (
    ModelCalled,
    ModelReplied,
    Recorded,
    SessionOpened,
    SessionUpgraded,
    ToolReturned,
    TurnStarted,
)

__all__ = [
    "Placed",
    "calls_at",
    "find_said",
    "items_said",
    "questions_kept",
    "said_beside",
    "said_page",
    "with_outcomes",
]

Placed = tuple[Item, int]
"""An item, and the position of the record it comes from."""


class Question(NamedTuple):
    """A question that a session keeps: the position of its record, and whether it has an answer."""

    position: int
    answered: bool


_LOOK = 64
_LOOK_MAX = 1_024
"""So many records are read at once: few for a page, more for whoever wants all."""
_TAIL = re.compile(r"[a-z]+_(?:(?P<position>\d{1,15})|(?:given_)?(?P<turn>\d{1,15})_\d+(?:r\d+)?_\d+)")


async def items_said(caller: Caller, s: Session, *, encrypted: bool = False, after: int = 0) -> list[Placed]:
    """Every item of a session after a position, at which no turn is open, oldest first."""
    found: list[Placed] = []
    async with aclosing(_forth(caller, s, after)) as stretches:
        async for records in stretches:
            found += await _shown(caller, s, records, encrypted=encrypted)
    return found


async def find_said(caller: Caller, s: Session, name: str) -> Placed | None:
    """The item of this id, with its position; None when the session has none, or it was erased."""
    return next((one for one in await said_beside(caller, s, name) if one[0]["id"] == name), None)


async def said_beside(caller: Caller, s: Session, name: str, *, encrypted: bool = False) -> list[Placed]:
    """The items of the turn that an item of this id lies in, itself among them if there is one; none where no turn is.

    They cost that turn, whatever else the session says.
    """
    position = await _position(caller, s, name)
    if position is None:
        return []
    records = await anext(_back(caller, s, await _end_of_turn(caller, s, position)))
    return await _shown(caller, s, records, encrypted=encrypted)


async def said_page(caller: Caller, s: Session, page: Page) -> tuple[list[Item], bool] | None:
    """Up to `limit` items, and whether there are more; None when the session has no item `after`."""
    position = None if page.after is None else await _position(caller, s, page.after)
    if page.after is not None and position is None:
        return None
    if page.forward:
        stretches = _forth(caller, s, 0 if position is None else await _start_before(caller, s, position))
    else:
        stretches = _back(caller, s, s.head if position is None else await _end_of_turn(caller, s, position))
    found: list[Item] = []
    passed = page.after is None
    async with aclosing(stretches):
        async for records in stretches:
            said = await _shown(caller, s, records)
            if not passed:
                left = _past(said, page)
                if left is None and (left := _past_erased(s, records, said, page)) is None:
                    return None
                said, passed = left, True
            found += [item for item, _ in (said if page.forward else reversed(said))]
            if len(found) > page.limit:
                break
    return page.cut(found)


def _past(said: list[Placed], page: Page) -> list[Placed] | None:
    """What lies past the item that a page goes on after; None when that is not among what was said."""
    place = next((index for index, (item, _) in enumerate(said) if item["id"] == page.after), None)
    if place is None:
        return None
    return said[place + 1 :] if page.forward else said[:place]


def _past_erased(s: Session, records: Sequence[Recorded], said: list[Placed], page: Page) -> list[Placed] | None:
    """The same for an item that was erased, as by whoever deletes what a page shows and asks for the next one."""
    tail = str(page.after).partition("_")[2].removeprefix(f"{s.id}_")
    labels: dict[str, str] = {}
    for record in records:
        event, names = record.event, str(record.position)
        if isinstance(event, ModelCalled):
            labels[event.call] = label_of(event.call, event.attempt)
        if isinstance(event, ModelReplied):
            names = rf"{re.escape(labels.get(event.call, event.call).removeprefix('model_'))}_\d+"
        if record.redacted and re.fullmatch(names, tail):
            return [one for one in said if (one[1] > record.position if page.forward else one[1] < record.position)]
    return None


async def with_outcomes(caller: Caller, s: Session, position: int) -> list[int]:
    """A record, and what the calls of a reply came to: no output stays behind without its call."""
    end = await _end_of_turn(caller, s, position)
    records = await caller.database.store.read(s.id, after=position - 1, limit=end - position + 1)
    found = [position]
    left = _calls_in(records[0])
    for record in records[1:]:
        if isinstance(record.event, ToolReturned) and record.event.call in left:
            left.remove(record.event.call)
            found.append(record.position)
    return found


async def calls_at(caller: Caller, s: Session, position: int) -> set[str]:
    """The calls that the record at a position asks for."""
    records = await caller.database.store.read(s.id, after=position - 1, limit=1)
    return _calls_in(records[0]) if records else set()


def _calls_in(record: Recorded) -> set[str]:
    """The calls that a record asks for, if it is a reply."""
    parts = record.event.parts if isinstance(record.event, ModelReplied) else ()
    return {part.call for part in parts if isinstance(part, ToolCall)}


# --- where ------------------------------------------------------------------------------------------------------------


async def _position(caller: Caller, s: Session, name: str) -> int | None:
    """A position in the stretch of an item, by its id: its own, or that of the beginning of its turn."""
    kind, _, rest = name.partition("_")
    found = _TAIL.fullmatch(f"{kind}_{rest.removeprefix(f'{s.id}_')}") if rest.startswith(f"{s.id}_") else None
    if found is None:
        kept = await questions_kept(caller, s, [name]) if kind == "mcpr" else {}
        return kept[name].position if kept else None
    if found["position"] is not None:
        position = int(found["position"])
        return position if 0 < position <= s.head else None
    try:
        return await start_of(caller, s, int(found["turn"]))
    except NotFound:
        return None


async def questions_kept(caller: Caller, s: Session, names: Collection[str]) -> dict[str, Question]:
    """Where a session keeps these questions whether a call may run, those of them that it keeps. Costs the journal back
    to the oldest of them: their ids are those of whoever asked, and say nothing of where they are."""
    found: dict[str, Question] = {}
    answered: set[str] = set()
    async with aclosing(_back(caller, s, s.head)) as stretches:
        async for records in stretches:
            for record in reversed(records):
                for item in _kept_in(record):
                    answered.add(answer_in(item))
                    if (name := question_in(item)) in names:
                        found.setdefault(name, Question(record.position, name in answered))
            if len(found) == len(names):
                break
    return found


def _kept_in(record: Recorded) -> list[Item]:
    """The items of a record that say nothing to a model, the last first."""
    if record.redacted or not isinstance(record.event, ModelReplied):
        return []
    return [*items_in(record.event.parts).values()][::-1]


async def _end_of_turn(caller: Caller, s: Session, position: int) -> int:
    """The last position before the next turn that begins after this one, or the head."""
    after, limit = position, _LOOK
    while after < s.head:
        records = await caller.database.store.read(s.id, after=after, limit=limit)
        for record in records:
            if isinstance(record.event, TurnStarted):
                return min(record.position - 1, s.head)
        if not records:
            break
        after, limit = records[-1].position, min(2 * limit, _LOOK_MAX)
    return s.head


async def _start_before(caller: Caller, s: Session, position: int) -> int:
    """The position before the last turn that begins at or before this one; 0 when none does."""
    upto, limit = position, _LOOK
    while upto > 0:
        low = max(0, upto - limit)
        for record in reversed(await caller.database.store.read(s.id, after=low, limit=upto - low)):
            if isinstance(record.event, TurnStarted):
                return record.position - 1
        upto, limit = low, min(2 * limit, _LOOK_MAX)
    return 0


# --- stretches --------------------------------------------------------------------------------------------------------


async def _back(caller: Caller, s: Session, upto: int) -> AsyncGenerator[Sequence[Recorded]]:
    """The journal up to the end of a turn in stretches that begin with a turn, the newest first."""
    limit = _LOOK
    while upto > 0:
        low = max(0, upto - limit)
        records = await caller.database.store.read(s.id, after=low, limit=upto - low)
        begins = (index for index, record in enumerate(records) if isinstance(record.event, TurnStarted))
        first = next(begins, None) if low else 0
        limit *= 2
        if first is not None:
            yield records[first:]
            upto, limit = low + first, min(limit, _LOOK_MAX)


async def _forth(caller: Caller, s: Session, after: int) -> AsyncGenerator[Sequence[Recorded]]:
    """The journal after the end of a turn in stretches that end before a turn, the oldest first."""
    left: list[Recorded] = []
    limit = _LOOK
    while after < s.head:
        records = await caller.database.store.read(s.id, after=after, limit=min(limit, s.head - after))
        left += records
        after, limit = records[-1].position if records else s.head, min(2 * limit, _LOOK_MAX)
        begins = (index for index in range(len(left) - 1, 0, -1) if isinstance(left[index].event, TurnStarted))
        cut = next(begins, 0) if after < s.head else len(left)
        if cut:
            yield left[:cut]
            left = left[cut:]


async def _shown(caller: Caller, s: Session, records: Sequence[Recorded], *, encrypted: bool = False) -> list[Placed]:
    """The items of a stretch, oldest first."""
    return items_of_session(await _how(caller, s, records, encrypted=encrypted), records)


async def _how(caller: Caller, s: Session, records: Sequence[Recorded], *, encrypted: bool) -> Callable[[int], Shown]:
    """How the record at a position is shown. A call stays what it was when a later request names other tools."""
    called = _called(records)
    changes = [one for one in records if isinstance(one.event, SessionOpened | SessionUpgraded)]
    first = ""
    if called and records[0] not in changes[:1]:
        first = (await state_in(caller.database.store, s.id, upto=records[0].position)).version
    places, ways = [0], [await _way(caller, s, first, called, encrypted=encrypted)]
    for record in changes if called else ():
        assert isinstance(record.event, SessionOpened | SessionUpgraded)
        places.append(record.position)
        ways.append(await _way(caller, s, record.event.version, called, encrypted=encrypted))
    return lambda position: ways[bisect_right(places, position) - 1]


async def _way(caller: Caller, s: Session, version: str, called: set[str], *, encrypted: bool) -> Shown:
    tools = (await caller.database.specs.get(version)).tools if version else ()
    ours = {tool.name for tool in tools if tool.kind != "client"}
    return Shown(s.id, s.agent, frozenset(called - ours), encrypted, remotes=remotes_of(tools))


def _called(records: Sequence[Recorded]) -> set[str]:
    """The tools that were called: those the agent does not have are the client's."""
    return {
        part.name
        for record in records
        if isinstance(record.event, ModelReplied)
        for part in record.event.parts
        if isinstance(part, ToolCall)
    }
