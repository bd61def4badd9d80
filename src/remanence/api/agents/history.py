"""Turns and items of a session, page by page, read from the journal and nothing else.

A turn is found by its number (`turn_starts.py`). A page costs what it shows, however long the session is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.api.agents.objects import TurnFacts, tail_of, turn_id
from remanence.api.agents.view import OpenTurn, SessionView
from remanence.api.lists import Order, Page
from remanence.api.turn_starts import start_of
from remanence.commands.caller import Caller, state_in
from remanence.core.state import Session, status_of
from remanence.errors import InvalidInput, NotFound
from remanence.events import Recorded, SessionForked, SessionOpened, TurnEnded, TurnStarted

__all__ = ["PastTurn", "item_page", "past_turn", "past_turns", "queued_turns", "turn_number"]

_PAGE = 64
_PAGE_MAX = 1_024
_CHUNK = 16


class PastTurn(msgspec.Struct, frozen=True):
    """One turn, whole or as far as it has come, with its records."""

    turn: OpenTurn
    records: tuple[Recorded, ...]
    position: int

    @property
    def items(self) -> list[dict[str, Any]]:
        """Its items, in order."""
        return list(self.turn.items.values())


async def queued_turns(caller: Caller, s: Session) -> list[TurnFacts]:
    """The turns that wait to begin, in order. An input that interrupts is heard with those before it; one that steers
    joins the turn that runs, and has one of its own only when none does."""
    found: list[TurnFacts] = []
    left = [queued for queued in s.queue if queued.if_busy != "steer" or s.turn is None]
    while left:
        last = max((i for i, queued in enumerate(left) if queued.if_busy == "interrupt"), default=0)
        for record in await caller.database.store.read(s.id, after=left[0].position - 1, limit=1):
            found.append(TurnFacts(s.turns + 1 + len(found), record.at, status="queued"))
        left = left[last + 1 :]
    return found


def turn_number(s: Session, text: str, queued: int = 0) -> int:
    """The number in a turn's id. Raises NotFound for an id that is none of this session's."""
    number = text.removeprefix(turn_id(s.id, 0)[:-1])
    known = number.isdecimal() and text == turn_id(s.id, int(number))
    if not known or not 1 <= int(number) <= s.turns + queued:
        raise NotFound(f"Session {s.id} has no turn {text[:100]!r}.")
    return int(number)


async def past_turn(caller: Caller, s: Session, number: int) -> PastTurn:
    """One turn. Raises NotFound."""
    async for turn in past_turns(caller, s, number, "asc"):
        return turn
    raise NotFound(f"Session {s.id} has no turn {number}.")


async def past_turns(caller: Caller, s: Session, number: int, order: Order) -> AsyncGenerator[PastTurn]:
    """Turns from a number on, in this order."""
    while 1 <= number <= s.turns:
        first = number if order == "asc" else max(1, number - _CHUNK + 1)
        last = min(s.turns, number + _CHUNK - 1) if order == "asc" else number
        turns = [turn async for turn in _turns(caller, s, first, last)]
        for turn in turns if order == "asc" else reversed(turns):
            yield turn
        number = last + 1 if order == "asc" else first - 1


async def _turns(caller: Caller, s: Session, first: int, last: int) -> AsyncGenerator[PastTurn]:
    """Turns by their numbers, read in one go."""
    before = replace(s, turn=None, queue=(), turns=first - 1, head=0, doubts=(), pause=None, frozen=None, version="")
    view = SessionView(before)
    records: list[Recorded] = []
    start = await start_of(caller, s, first)
    async for record in _records(caller, s, start - 1):
        if isinstance(record.event, SessionOpened | SessionForked):
            continue
        await _hear_missing(caller, s, view, record)
        view.take(record)
        if isinstance(record.event, TurnStarted):
            start, records = record.position, []
        records.append(record)
        if view.turn is not None and isinstance(record.event, TurnEnded):
            yield PastTurn(view.turn, tuple(records), start)
            if view.turn.facts.number >= last:
                return
    if view.turn is not None and s.turn is not None and view.turn.facts.number == s.turn.number:
        waits = status_of(s) not in ("in_progress", "queued")
        view.turn.facts = replace(view.turn.facts, status="waiting" if waits else "in_progress")
        yield PastTurn(view.turn, tuple(records), start)


async def _hear_missing(caller: Caller, s: Session, view: SessionView, record: Recorded) -> None:
    if view.wonders(record):
        then = await state_in(caller.database.store, s.id, upto=record.position)
        view.know(then.version, await caller.database.specs.get(then.version))
    for position in view.missing(record):
        for heard in await caller.database.store.read(s.id, after=position - 1, limit=1):
            view.hear(heard)


async def _records(caller: Caller, s: Session, after: int) -> AsyncGenerator[Recorded]:
    limit = _PAGE
    while after < s.head:
        records = await caller.database.store.read(s.id, after=after, limit=limit)
        for record in records:
            if record.position <= s.head:
                yield record
        after, limit = records[-1].position if records else s.head, min(2 * limit, _PAGE_MAX)


# --- items ------------------------------------------------------------------------------------------------------------


async def item_page(
    caller: Caller, s: Session, page: Page, *, only: int | None = None
) -> tuple[list[dict[str, Any]], bool]:
    """Items of a session, or of one turn, and whether there are more. Raises InvalidInput for an unknown `after`."""
    number = only or (1 if page.forward else s.turns)
    if page.after is not None:
        number = _turn_of_item(s, page.after)
        if only is not None and number != only:
            raise _unknown(s, page.after)
    found: list[dict[str, Any]] = []
    passed = page.after is None
    async for turn in past_turns(caller, s, number, page.order):
        if only is not None and turn.turn.facts.number != only:
            break
        for item in turn.items if page.forward else reversed(turn.items):
            if passed:
                found.append(item)
            passed = passed or item["id"] == page.after
        if not passed:
            raise _unknown(s, str(page.after))
        if len(found) > page.limit:
            break
    return page.cut(found)


def _turn_of_item(s: Session, item: str) -> int:
    _, _, rest = item.partition("_")
    tail = f"{tail_of(s.id)}_"
    number = rest.removeprefix(tail).partition("_")[0]
    if not rest.startswith(tail) or not number.isdecimal() or not 1 <= int(number) <= s.turns:
        raise _unknown(s, item)
    return int(number)


def _unknown(s: Session, item: str) -> InvalidInput:
    return InvalidInput(f"after: session {s.id} has no item {item[:100]!r} here.", param="after")
