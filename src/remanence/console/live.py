"""What happens in a session while somebody looks: pieces of HTML over server-sent events.

The page says up to which record it was made; the stream goes on from there. Each event carries partials (`hx-partial`):
rows that are new, rows that changed, the line of facts, what waits for a person, and the words of a running model call
as they come. Its `id` is the position reached, which the browser sends back when it has to connect again, so that no
record is missing and none comes twice, whatever fell in between.

Records come from the journal; pieces of a running reply are a preview, drawn at most every `PAUSE_S`.

A stream lives longer than the reason it was opened for. So who looks is asked again before anything is sent, at most
every `ADMITTED_S`: a page that is left open shows nothing more once its reader signed out, their key was revoked, or
the session was removed. It says so, and goes on when they have come back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from remanence.commands.caller import state_of
from remanence.commands.follow import next_items
from remanence.commands.shapes import RecordShape
from remanence.console.entry import Looking, visitor_of
from remanence.console.failures import PollRoute, ended_by
from remanence.console.frame import Frame, owned
from remanence.console.reading import opened
from remanence.console.session import View, standing
from remanence.console.talk import message_of
from remanence.console.timeline import Row, Timeline
from remanence.console.ways import WAYS_OF
from remanence.core.state import Session
from remanence.errors import NotFound, Unauthenticated
from remanence.events import Recorded
from remanence.ports import Delta, Subscription
from remanence.screens import Opened

__all__ = ["live_router"]

live_router = APIRouter(route_class=PollRoute, include_in_schema=False)

BEAT_S = 15.0
PAUSE_S = 0.05
ADMITTED_S = 1.0
_PAGE = 500
_CONTEXT = 1_000
POSITION_DIGITS = 18
_MICROS = 1_000_000


class _Lookout(Protocol):
    """Watches for what other processes write: the application has one (`app.state.lookout`)."""

    closed: bool

    def following(self, session: str, seen: Callable[[], int]) -> AbstractContextManager[None]: ...


class _Made:
    """What a page was made from: the view, the positions `first` to `after`."""

    def __init__(
        self,
        view: View = "timeline",
        after: Annotated[int, Query(ge=0, lt=2**62)] = 0,
        first: Annotated[int, Query(ge=0, lt=2**62)] = 1,
    ) -> None:
        self.view: View = view
        self.after = after
        self.first = first


@live_router.get("/sessions/{session}/live")
async def live(
    request: Request,
    frame: Looking,
    session: str,
    made: Annotated[_Made, Depends()],
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """The stream of one page."""
    s = owned(frame, await state_of(frame.caller, session))
    reached = int(last_event_id[:POSITION_DIGITS]) if last_event_id.isdecimal() else made.after
    page = _Page(frame, s, made.view, min(reached, s.head), lambda: visitor_of(request))
    await page.begin(made.first)
    headers = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
    return StreamingResponse(page.stream(request.app.state.lookout), headers=headers, media_type="text/event-stream")


class _Page:
    """One open page: how far it was drawn, and what it shows of a running call."""

    def __init__(
        self, frame: Frame, s: Session, view: View, after: int, ask_again: Callable[[], Awaitable[object]]
    ) -> None:
        self.frame = frame
        self.ask_again = ask_again
        self.s = s
        self.view = view
        self.after = after
        self.timeline = Timeline()
        self.drawn: set[str] = set()
        self.shown: tuple[str, int, str] | None = None
        self.waiting = ""
        self.admitted_at = frame.now

    async def begin(self, first: int) -> None:
        """Fold what the page was made from, so that rows it has can change."""
        start = max(first - 1, self.after - _CONTEXT, 0)
        if self.view == "timeline" and start < self.after:
            records = await self.frame.caller.database.store.read(self.s.id, after=start, limit=self.after - start)
            self.timeline = Timeline(records)
            self.drawn = {row.anchor for row in self.timeline.rows}

    async def stream(self, lookout: _Lookout) -> AsyncGenerator[bytes]:
        """Frames, for as long as somebody looks and the server runs."""
        reader = self.frame.caller.live.subscribe(self.s.id, want="latest")
        try:
            with lookout.following(self.s.id, lambda: self.after):
                async with aclosing(self._happenings(reader, lookout)) as happenings:
                    yield self._event(await self._state())
                    async for records in happenings:
                        await self._admit()
                        pieces = await self._records(records) if records else []
                        pieces += self._words()
                        yield self._event(pieces) if pieces else b": still here\n\n"
        except (Unauthenticated, NotFound) as error:
            # Without an id: what was held back is sent to whoever comes back.
            yield f"event: {ended_by(error)}\n\n".encode()
        finally:
            reader.close()

    async def _admit(self) -> None:
        """Whether the reader may still look, asked anew now and then. Raises Unauthenticated when they may not."""
        if self.frame.now - self.admitted_at >= ADMITTED_S * _MICROS:
            await self.ask_again()
            self.admitted_at = self.frame.now

    async def _happenings(self, reader: Subscription, lookout: _Lookout) -> AsyncGenerator[Sequence[Recorded]]:
        """Records as they come, without a gap; none of them when only words or time have passed."""
        behind = True
        while not lookout.closed:
            while behind:
                records = await self.frame.caller.database.store.read(self.s.id, after=self.after, limit=_PAGE)
                behind = len(records) == _PAGE
                self.after = records[-1].position if records else self.after
                if records:
                    yield records
            items = await reader.take(BEAT_S)
            fresh, self.after, gap = next_items(items, self.after)
            behind = gap or not items
            yield [item for item in fresh if not isinstance(item, Delta)]
            await self.frame.caller.clock.sleep(PAUSE_S)

    # --- pieces of the page -------------------------------------------------------------------------------------------

    async def _records(self, records: Sequence[Recorded]) -> list[str]:
        pieces: list[str] = []
        self.s = owned(self.frame, await state_of(self.frame.caller, self.s.id))
        if self.view == "timeline":
            changed: dict[str, Row] = {}
            for record in records:
                changed |= {row.anchor: row for row in self.timeline.take(record)}
            pieces += [self._row(row) for row in changed.values()]
            self.drawn |= changed.keys()
        else:
            for record in records:
                html = self._one(record)
                pieces += [_partial("#rows", "beforeend", html)] if html else []
        return [*pieces, *await self._state()]

    def _row(self, row: Row) -> str:
        heads = {row.turn: self.timeline.turn} if self.timeline.turn is not None else {}
        last = self.timeline.rows[-1].at if self.timeline.rows else row.at
        html = self.frame.html("_row.html", row=row, s=self.s, heads=heads, last=max(last, row.ended_at or 0))
        if row.anchor in self.drawn:
            return _partial(f"#{row.anchor}", "outerHTML", html)
        return _partial("#rows", "beforeend", html)

    def _one(self, record: Recorded) -> str:
        if self.view == "journal":
            return self.frame.html("_record.html", record=RecordShape.of(record), s=self.s, ways_of=WAYS_OF)
        message = message_of(record)
        return self.frame.html("_message.html", message=message) if message is not None else ""

    async def _state(self) -> list[str]:
        """The line of facts, and what waits for a person when that has changed."""
        frame = self.frame
        found = await opened(frame, Opened(self.s.id))
        self.s = found.s
        number = found.version.number if found.version is not None else 0
        data = {"standing": standing(self.s, found.budgets), "agent": number}
        pieces = [_partial("#facts", "innerMorph", frame.html("_facts.html", data=data))]
        waiting = frame.html("_waiting.html", data=data, ways_of=WAYS_OF)
        if waiting != self.waiting:
            self.waiting = waiting
            pieces.append(_partial("#waiting", "innerMorph", waiting))
        return pieces

    def _words(self) -> list[str]:
        """What a running model call has said since it was last drawn."""
        running = self.frame.caller.live.running(self.s.id)
        if running is None:
            gone, self.shown = self.shown is not None, None
            return [_partial("#live", "outerHTML", self.frame.html("_live.html", words=None))] if gone else []
        words = "\n".join(text for _, text in running.parts)
        before, self.shown = self.shown, (running.call, running.attempt, words)
        if before is None or before[:2] != self.shown[:2] or not words.startswith(before[2]):
            return [_partial("#live", "outerHTML", self.frame.html("_live.html", words=words))]
        more = words[len(before[2]) :]
        return [_partial("#live-words", "beforeend", self.frame.html("_words.html", words=more))] if more else []

    def _event(self, pieces: Sequence[str]) -> bytes:
        return f"id: {self.after}\n".encode() + _data(pieces)


def _data(pieces: Sequence[str]) -> bytes:
    lines = "".join(f"data: {line}\n" for line in "".join(pieces).replace("\r", "").split("\n"))
    return f"{lines}\n".encode(errors="replace")


def _partial(target: str, swap: str, html: str) -> str:
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{html}</hx-partial>'
