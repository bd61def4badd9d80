"""One session: its timeline, its conversation, its raw journal, and what can be done about it.

A journal is never read whole for a page. Each view shows a window of it; what lies before and after is loaded as the
reader comes near. A window of the timeline begins where a turn does when one begins in it, so that steps stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from remanence.commands import approvals, transfer
from remanence.commands.caller import state_of
from remanence.commands.shapes import ApprovalShape, BudgetShape, DoubtShape, RecordShape, SessionShape
from remanence.console.entry import Looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import owned
from remanence.console.reading import Reading, opened
from remanence.console.talk import Message, messages_of
from remanence.console.timeline import Row, Timeline
from remanence.console.ways import WAYS_OF, of_session, ways
from remanence.core.state import Pause, Session
from remanence.events import Recorded, TurnStarted
from remanence.ports import Budget
from remanence.screens import Opened

__all__ = ["SessionData", "session_router", "Places", "standing", "window"]

session_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

WINDOW = 200
TWIN_BYTES = 1_000_000
"""About how much of a journal one answer of the twin holds; a larger record comes alone."""
_Place = Annotated[int | None, Query(ge=0, lt=2**62)]
View = Literal["timeline", "conversation", "journal"]
VIEWS: tuple[View, ...] = ("timeline", "conversation", "journal")


class Places:
    """Which stretch of a journal is asked for: around, before or after a position; by default the newest."""

    def __init__(self, at: _Place = None, before: _Place = None, after: _Place = None) -> None:
        self.at, self.before, self.after = at, before, after

    def question(self, session: str) -> Opened:
        """What is asked of the store for it."""
        if self.after is not None:
            return Opened(session, "after", self.after, WINDOW)
        if self.before is not None:
            return Opened(session, "before", self.before, WINDOW)
        return Opened(session, "newest" if self.at is None else "around", self.at or 0, WINDOW)


class Standing(msgspec.Struct, frozen=True):
    """What a session waits for, for a person to answer."""

    session: SessionShape
    approvals: list[ApprovalShape]
    doubts: list[DoubtShape]
    pause: Pause | None
    budgets: list[BudgetShape]


class Window(msgspec.Struct, frozen=True):
    """A stretch of a journal: the positions `first` to `last`. `earlier`: there are records before it."""

    first: int
    last: int
    earlier: bool
    later: bool


class SessionData(msgspec.Struct, frozen=True):
    """A session and a window of its journal. The twin always has the records, a megabyte or one of them at a time:
    `before=FIRST` asks for those before, `after=LAST` for those after."""

    standing: Standing
    agent: int
    window: Window
    records: list[RecordShape]


@session_router.get("/sessions/{session}")
@session_router.get("/sessions/{session}.json")
async def one_session(
    frame: Looking, session: str, places: Annotated[Places, Depends()], view: View = "timeline"
) -> Response:
    """The page. `at` opens the window around a position; `before` and `after` page through the twin."""
    found = await opened(frame, places.question(session))
    s, (records, shown) = found.s, window(found, places)
    if frame.as_json:
        records, shown = _within(records, shown, newest=places.after is None)
    number, if_busy = (found.version.number, found.version.spec.if_busy) if found.version else (0, "queue")
    data = SessionData(
        standing(s, found.budgets),
        number,
        shown,
        [RecordShape.of(record) for record in records] if frame.as_json or view == "journal" else [],
    )
    return frame.show(
        "session.html", "sessions", data, ways=of_session(frame, session), if_busy=if_busy, **_shown(view, s, records)
    )


@session_router.get("/sessions/{session}/window")
async def more(frame: Looking, session: str, view: View = "timeline", before: int = 0, after: int = 0) -> Response:
    """The window before a position, or after one, as rows to put beside those that are there."""
    places = Places(before=before or None, after=after or None)
    found = await opened(frame, places.question(session))
    s, (records, shown) = found.s, window(found, places)
    data = {"window": shown, "records": [RecordShape.of(record) for record in records] if view == "journal" else []}
    side = "later" if after else "earlier"
    return frame.page("_window.html", data=data, side=side, **_shown(view, s, records))


@session_router.get("/sessions/{session}/verify")
@session_router.get("/sessions/{session}/verify.json")
async def verify(frame: Looking, session: str) -> Response:
    """Every record and link checked, and what the chain of digests says."""
    owned(frame, await state_of(frame.caller, session))
    data = await transfer.verify_session(frame.caller, session)
    lines = ways(
        frame,
        ["sessions", "verify", session],
        f"/admin/v1/sessions/{session}/verify",
        f"await verify_session(rt.caller, {session!r})",
    )
    return frame.show("verify.html", "sessions", data, ways=lines)


def _within(records: Sequence[Recorded], shown: Window, *, newest: bool) -> tuple[Sequence[Recorded], Window]:
    """As many of the records as an answer holds, from the newest back or from the oldest on, and what is left."""
    kept: list[Recorded] = []
    room = TWIN_BYTES
    for record in reversed(records) if newest else records:
        room -= len(msgspec.json.encode(record.event))
        if kept and room < 0:
            break
        kept.append(record)
    kept.sort(key=lambda record: record.position)
    if len(kept) == len(records):
        return records, shown
    first, last = kept[0].position, kept[-1].position
    return kept, Window(first, last, shown.earlier or first > shown.first, shown.later or last < shown.last)


def _shown(view: View, s: Session, records: Sequence[Recorded]) -> dict[str, Any]:
    """What the template of a view needs beside the data."""
    rows: list[Row] = Timeline(records).rows if view == "timeline" else []
    talk: list[Message] = messages_of(records) if view == "conversation" else []
    return {
        "view": view,
        "views": VIEWS,
        "s": s,
        "ways_of": WAYS_OF,
        "rows": rows,
        "heads": {row.turn: row for row in rows if row.kind == "turn"},
        "talk": talk,
        "last": records[-1].at if records else 0,
    }


def standing(s: Session, budgets: Sequence[Budget]) -> Standing:
    """What waits in a session."""
    return Standing(
        SessionShape.of(s, []),
        [ApprovalShape.of(one) for one in approvals.waiting_in(s)],
        [DoubtShape.of(s.id, doubt) for doubt in s.doubts],
        s.pause,
        [BudgetShape.of(budget) for budget in budgets],
    )


def window(found: Reading, places: Places) -> tuple[Sequence[Recorded], Window]:
    """The stretch of the journal that was read, cut to whole turns where it begins anywhere."""
    records: Sequence[Recorded] = found.records
    if found.first and places.after is None:
        records = _whole_turns(records)
    if not records:
        return [], Window(found.first + 1, found.first, found.first > 0, False)
    low, high = records[0].position, records[-1].position
    return records, Window(low, high, low > 1, high < found.s.head)


def _whole_turns(records: Sequence[Recorded]) -> Sequence[Recorded]:
    """The records from the first turn that begins among them, unless that would leave too few."""
    for number, record in enumerate(records):
        if isinstance(record.event, TurnStarted) and number <= len(records) // 2:
            return records[number:]
    return records
