"""Server-sent events over a journal: what every streaming face is built on.

**Ids.** Every event carries an `id:` that is a resume point: `Last-Event-ID` or `?starting_after=` gives exactly what
follows it, from any server over the same database. Two kinds of event, two forms of id:

* *Settled*: derived from a record and from nothing else. Its id is `POSITION.INDEX`, the record's position and the
  number of the event among those the record gives rise to. It is the same in every stream, for ever. (While the events
  of one reply are being sent to a reader who heard part of it live, what it heard stands behind the id.)
* *Live*: a piece of a model call that is still running. Its id is the last settled id, and behind a `~` the call, its
  attempt, and how many characters of each of its thoughts and texts have been sent: `12.2~model_2_1.1.r40-t7`. A letter
  without a number: the item has been named, nothing more. No two events of a stream have the same id.

An event that only says how things stand as the reader comes has `_now` behind its id; what follows is the same. Before
the place stands the mark of its session (`evt_9ab3f001_12.2`), so that an id of another one is refused; ids that older
releases gave have none, and are taken as they are.

**Resuming.** After a settled id the journal knows the rest. After a live id the reader has part of a text. If that very
attempt goes on, or has ended and is journaled, the stream goes on at the next character. If it was lost (its worker
died, its connection broke), the item that was begun is closed as incomplete, and what replaces it comes under an id of
its own. So for every item that ends as completed, its pieces put together are its text, whatever was cut and how often.

**Slow readers** never hold up a turn: pieces are not queued for anybody, each reader takes what a running call has said
beyond what it was sent (`Live.running`), and records it missed come from the journal. Pieces that come within
`COALESCE_S` are sent as one.

An event is written as one frame, lines end with LF, a line of comment every `BEAT_S` keeps the connection
alive, and belongs to no frame.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any
from zlib import crc32

import msgspec
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from remanence.api.failures import BrokenOff
from remanence.api.held import held_by
from remanence.api.lookout import Lookout
from remanence.commands.caller import Caller
from remanence.commands.follow import next_items
from remanence.errors import InvalidInput, RemanenceError
from remanence.events import ModelFailed, ModelReplied, Recorded, ToolStarted
from remanence.ports import Clock, Delta, DeltaKind, Subscription

__all__ = [
    "BEAT",
    "BEAT_S",
    "NAMED",
    "Batch",
    "EventStream",
    "Place",
    "Preview",
    "event_id",
    "frame",
    "from_header",
    "mark_of",
    "paced",
    "watch",
]

BEAT_S = 15.0
COALESCE_S = 0.02
OUTCOME_S = 0.002
BEAT = b": still here\n"
"""A line and no empty one: that would be an event without data to the vendors' client, which cannot read it."""
NAMED = -1
"""So many characters of a text were sent to a reader who heard that there is an item, and not yet of its part."""
_PAGE = 500
_MICROS = 1_000_000
_KINDS: dict[str, DeltaKind] = {"t": "text", "r": "thinking"}
_SENT = r"([A-Za-z0-9_]{1,100})\.(\d{1,9})\.([rt]\d{0,12}(?:-[rt]\d{0,12}){0,255})"
_PLACE = re.compile(rf"(?:evt_)?(?:([0-9a-f]{{8}})_)?(\d{{1,18}})\.(\d{{1,9}})(?:~{_SENT}|_now)?")


class Place(msgspec.Struct, frozen=True):
    """How far a reader has read: the last settled event, and what it was sent of a call that ran. One that was read
    from an id has the `mark` of its session, if that had one."""

    position: int
    index: int = 0
    call: str = ""
    attempt: int = 0
    sent: tuple[tuple[DeltaKind, int], ...] = ()
    mark: str = ""

    def __str__(self) -> str:
        settled = f"{self.position}.{self.index}"
        if not self.sent:
            return settled
        sent = "-".join(f"{'t' if kind == 'text' else 'r'}{'' if count < 0 else count}" for kind, count in self.sent)
        return f"{settled}~{self.call}.{self.attempt}.{sent}"

    @property
    def settled(self) -> Place:
        """The last settled event alone."""
        return Place(self.position, self.index)

    @classmethod
    def of(cls, text: str) -> Place:
        """The place an id names. Raises InvalidInput."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise InvalidInput(
                f"{text[:80]!r} is no id of an event of this server, so there is nothing to go on after. Send back the "
                "`id` of the last event you have, or none to begin with what happens now.",
                param="starting_after",
            )
        mark, position, index, call, attempt, sent = found.groups()
        told = sent.split("-") if sent else []
        pieces: list[tuple[DeltaKind, int]] = [(_KINDS[piece[0]], int(piece[1:] or NAMED)) for piece in told]
        return cls(int(position), int(index), call or "", int(attempt or 0), tuple(pieces), mark or "")


def event_id(session: str, place: Place) -> str:
    """The id of an event of a session."""
    return f"evt_{mark_of(session)}_{place}"


def mark_of(session: str) -> str:
    """What ids of a session's events have in common, and those of another hardly ever."""
    return f"{crc32(session.encode()):08x}"


@contextmanager
def from_header(last_event_id: str | None) -> Generator[None]:
    """Name the header, and not the query, in what is wrong with a place that came in it."""
    try:
        yield
    except InvalidInput as error:
        if last_event_id is not None and error.param == "starting_after":
            error.param = "last-event-id"
        raise


class Preview(msgspec.Struct, frozen=True):
    """What a running model call has said so far: its texts and thoughts, whole, in order; and what it calls, each with
    how many of them stand before it."""

    call: str
    attempt: int
    parts: tuple[tuple[DeltaKind, str], ...]
    calls: tuple[tuple[int, str, str], ...] = ()


class Batch(msgspec.Struct, frozen=True):
    """What happened: records without a gap, then what is running after them. Neither: only time has passed."""

    records: Sequence[Recorded] = ()
    preview: Preview | None = None


async def watch(
    caller: Caller, session: str, *, after: int, lookout: Lookout, reader: Subscription | None = None
) -> AsyncGenerator[Batch]:
    """Everything after a position, for ever. `reader` was subscribed before the record after it was written, if given.

    At least one batch comes every `BEAT_S`. It ends when the server is about to stop: the reader goes on elsewhere.
    """
    # What a model is saying is heard at once, not only with the next piece of it.
    behind = reader is None or (not reader.waits and caller.live.running(session) is not None)
    reader = reader or caller.live.subscribe(session, want="latest")
    sent_at = settled_at = 0
    heard_at = caller.clock.now()  # or looked, when nothing was heard for as long as a beat; a stir is neither
    try:
        with lookout.following(session, lambda: after):
            while True:
                while behind:
                    records = await caller.database.store.read(session, after=after, limit=_PAGE)
                    behind = len(records) == _PAGE
                    after = records[-1].position if records else after
                    settled_at = _settled_at(records, settled_at)
                    preview = None if behind else _preview(caller, session, settled_at)
                    if records or (preview is not None and not sent_at):
                        yield Batch(records, preview)
                if lookout.closed:
                    return
                left_s = BEAT_S - (caller.clock.now() - heard_at) / _MICROS
                items, stirred = await _heard(caller, session, reader, sent_at, min(max(0.0, left_s), BEAT_S))
                fresh, after, gap = next_items(items, after)
                behind = gap or stirred
                sent_at = caller.clock.now()
                if items or sent_at - heard_at >= BEAT_S * _MICROS * 0.9:
                    heard_at = sent_at
                records = [item for item in fresh if not isinstance(item, Delta)]
                settled_at = _settled_at(records, settled_at)
                yield Batch(records, _preview(caller, session, settled_at))
    finally:
        reader.close()


async def _heard(
    caller: Caller, session: str, reader: Subscription, sent_at: int, wait_s: float
) -> tuple[Sequence[Recorded | Delta], bool]:
    """What comes next, and whether the journal should be looked at. Pieces gather for a while; a record waits for none
    of them. The last pieces of a reply wait as long for its record, which is on its way; a tool that starts waits a
    moment for what it comes to."""
    clock = caller.clock
    items = [*await reader.take(wait_s)]
    await others_first()  # whoever made them has effects to send, or a reply to journal
    stirred = not items
    running = caller.live.running(session)
    if running is not None and running.answered:
        sent_at = clock.now()
    here = bool(caller.live.driver_of(session))  # pieces from another process have gathered there
    while here and items and all(isinstance(item, Delta) for item in items):
        left_s = COALESCE_S - (clock.now() - sent_at) / _MICROS
        if not 0 < left_s <= COALESCE_S:
            break
        more = await reader.take(left_s)
        items += more
        if not more and (clock.now() - sent_at) / _MICROS < COALESCE_S:
            return items, True
    if any(_starts(item) for item in items):
        items += await reader.take(OUTCOME_S)
        await others_first()  # the model call that its outcome led to
    return items, stirred


async def others_first() -> None:
    """Let those go first who are told of the same, and the task that they start, which takes one more round."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _starts(item: Recorded | Delta) -> bool:
    """Whether a tool of ours starts with this."""
    return isinstance(item, Recorded) and isinstance(item.event, ToolStarted) and not item.event.client


def _settled_at(records: Sequence[Recorded], before: int) -> int:
    """Where the last reply stands that was read: this reader may be ahead of those who tell what runs."""
    answers = (record.position for record in reversed(records) if isinstance(record.event, ModelReplied | ModelFailed))
    return next(answers, before)


def _preview(caller: Caller, session: str, settled_at: int) -> Preview | None:
    running = caller.live.running(session)
    if running is None or running.position < settled_at:
        return None
    return Preview(running.call, running.attempt, tuple(running.parts), tuple(running.calls))


def frame(name: str, place: str, data: Any) -> bytes:
    """One event, whole: its name, its id, its data as JSON."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), place.encode(), msgspec.json.encode(data))


async def paced(clock: Clock, frames: AsyncGenerator[Sequence[bytes]]) -> AsyncGenerator[bytes]:
    """Frames as they come, and a comment when nothing was written for `BEAT_S`."""
    wrote_at = clock.now()
    async with aclosing(frames):
        async for batch in frames:
            now = clock.now()
            if batch:
                yield b"".join(batch)
            elif now - wrote_at >= BEAT_S * _MICROS * 0.9:
                yield BEAT
            else:
                continue
            wrote_at = now


class EventStream(StreamingResponse):
    """Carries frames until they end or the reader leaves. `on_end` is called when it is over, even if
    it never began. Two plain tasks: the framework's group of tasks costs a request a twentieth of its time."""

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncGenerator[bytes], *, on_end: Callable[[], None], headers: dict[str, str] | None = None
    ) -> None:
        given = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no", **(headers or {})}
        super().__init__(frames, headers=given)
        self._frames = frames
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await others_first()  # whoever was told of the input: a call that leaves is not waited for
        telling = asyncio.create_task(self.stream_response(send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            with held_by(scope) as over:
                await asyncio.wait((telling, leaving, over), return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
            elif over.done():
                telling.cancel()
                await asyncio.wait((telling,))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except RemanenceError as error:
            raise BrokenOff(error.message) from error
        finally:
            telling.cancel()
            leaving.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
            self._on_end()
            await self._frames.aclose()
