"""What happens in one process, told to readers in another: `live.Peers` over a `ports.Bus`.

**Who tells whom.** A process in which somebody follows a session that is not driven there wishes for it, and again
every few seconds for as long as somebody does. Whoever writes to that session answers with news of what was journaled,
and whoever drives it with the pieces of its running call. A wish that is not made again ends by itself. Nobody is told
who did not wish, and nobody wishes where nobody else works: of a process alone, nothing leaves.

**Nothing is lost by losing it.** News are no truth: they say that a look at the journal is worth it, and the reader's
process looks once for all who follow there. What it reads it tells its readers as if it had happened here, so the
record of a call comes before its first piece. Pieces are counted by characters: what is known is passed over, and where
some are missing the wish is made again and says how far it has come. Pieces of a call whose reply was read, or that
another attempt replaced, are dropped. Whoever hears nothing at all reads the journal when the polls say so, as before.

**Pace.** Pieces gather for `GATHER_S`; news and wishes leave at once, and take along what has gathered. A process with
a worker of its own waits a moment with a wish: most of what is read there is driven there before long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Sequence
from typing import cast

import structlog

from remanence.errors import RemanenceError
from remanence.events import Recorded
from remanence.ports import Bus, Clock, Delta, Store
from remanence.runtime.bell import Bell
from remanence.runtime.followed import Followed
from remanence.runtime.live import Hub
from remanence.runtime.notes import Hello, Here, News, Note, Piece, Progress, Unwish, Wish, messages_of, read_message
from remanence.runtime.wishes import Wishes

__all__ = ["Relay"]

log = structlog.get_logger("remanence.relay")

GATHER_S = 0.015
AGAIN_FIRST_S, AGAIN_S = 0.1, 3.0
"""How often a wish is made again; at first it may be that nobody was there yet."""
BEGIN_S = 0.1
"""A process that starts has something to do first: what it took over is waiting for it."""
WISH_S = 10.0
"""How long a wish holds."""
PATIENCE_S = 0.03
"""How long a process with a worker waits whether a session will be driven in it."""
_MICROS = 1_000_000
_PAGE = 500


class Relay:
    """The peers of a hub. It belongs to one event loop."""

    def __init__(self, hub: Hub, bus: Bus, store: Store, clock: Clock) -> None:
        self._hub = hub
        self._bus = bus
        self._store = store
        self._clock = clock
        self._works = False
        self._listens = False
        self._workers: dict[str, int] = {}
        """Who works elsewhere, and when they were heard last."""
        self._followed: dict[str, Followed] = {}
        self._wishes = Wishes(hub, clock)
        self._wanted: set[str] = set()
        self._out: dict[str, list[Note]] = {}
        self._urgent = Bell()
        self._sent_at = 0
        self._pause_s = AGAIN_FIRST_S
        self._sending: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    def start(self, *, works: bool) -> None:
        """Join the hub. A process that `works` listens from soon on, another one once somebody follows there."""
        self._hub.join(self)
        self._works = works
        if works:
            self._beginning = asyncio.create_task(self._begin(), name="relay: begin")

    async def close(self) -> None:
        """Say nothing more, and hear nothing."""
        tasks = [task for task in (self._beginning, self._sending, self._asking, *self._reading) if task is not None]
        self._listens, self._followed = False, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what the hub says: `live.Peers` ------------------------------------------------------------------------------

    @property
    def wished(self) -> Container[str]:
        return self._wishes.sessions

    def follow(self, session: str, *, pieces: bool) -> None:
        self._listen()
        if not self._listens:
            return
        known = self._followed.get(session)
        if known is None:
            known = self._followed[session] = Followed(session)
        elif known.pieces or not pieces:
            return
        known.pieces = pieces
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_again(), name="relay: ask again")
        self._want(known)

    def leave(self, session: str) -> None:
        known = self._followed.pop(session, None)
        if known is None:
            return
        if not self._hub.driver_of(session):
            self._hub.void(session)
        if known.wished:
            self._say(Unwish(session), self._workers)

    def tell(self, session: str, items: Sequence[Recorded | Delta]) -> None:
        known = self._followed.get(session)
        if known is not None and isinstance(items[0], Recorded):
            records = cast("Sequence[Recorded]", items)
            if not known.saw(records, driven=bool(self._hub.driver_of(session))):
                self._look(known)
        if self._wishes.take(session, items):
            self._soon(urgent=isinstance(items[0], Recorded))

    def look(self, session: str) -> None:
        if self._hub.driver_of(session):
            return
        known = self._followed.get(session)
        if known is None:
            if self._hub.is_read(session):  # from the time when it was driven here
                self.follow(session, pieces=self._hub.is_read(session, pieces=True))
            return
        if not known.wished:
            self._want(known)
        if known.head:
            self._look(known)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        await self._clock.sleep(BEGIN_S)
        self._listen()

    def _listen(self) -> None:
        if not self._listens and self._bus.name:
            self._listens = True
            self._bus.listen(self._heard, self._ready)

    def _ready(self) -> None:
        """The others can be heard: say that this process is here, and ask who else is."""
        self._say(Here() if self._works else Hello())
        if self._works and self._followed:
            self._say(Hello())

    def _want(self, known: Followed) -> None:
        """Wish for a session, once it is known that somebody could grant it."""
        if self._workers and not self._hub.driver_of(known.session):
            self._wanted.add(known.session)
            self._soon(urgent=not self._works)

    async def _ask_again(self) -> None:
        """Ask who works, and make the wishes again, until nobody follows anything."""
        try:
            followed = True
            while followed:
                await self._clock.sleep(self._pause_s)
                self._pause_s = min(AGAIN_S, 2 * self._pause_s)
                followed = bool(self._followed)
                if any(not self._hub.driver_of(session) for session in self._followed):
                    self._bus.listen(self._heard, self._ready)
                    self._say(Hello())
                gone_at = self._clock.now() - int(WISH_S * _MICROS)
                self._workers = {name: at for name, at in self._workers.items() if at > gone_at}
                for known in self._followed.values():
                    self._want(known)
        finally:
            self._asking = None

    # --- telling ------------------------------------------------------------------------------------------------------

    def _say(self, note: Note, to: Iterable[str] = ("",)) -> None:
        """Send a note, to everybody if nobody is named."""
        for process in to:
            self._out.setdefault(process, []).append(note)
        self._soon(urgent=True)

    def _soon(self, *, urgent: bool) -> None:
        if urgent:
            self._urgent.set()
        if self._sending is None and self._listens:
            self._sending = asyncio.create_task(self._send(), name="relay: send")

    async def _send(self) -> None:
        try:
            while self._listens and (self._out or self._wanted or self._wishes.due):
                left_s = GATHER_S - (self._clock.now() - self._sent_at) / _MICROS
                if self._wanted and self._works and not self._wishes.due:
                    left_s = max(left_s, PATIENCE_S)
                if 0 < left_s <= PATIENCE_S and await self._clock.wait(self._urgent, left_s):
                    await asyncio.sleep(0)  # what happens in the same moment goes along
                self._urgent.clear()
                self._sent_at = self._clock.now()
                self._flush()
        finally:
            self._sending = None

    def _flush(self) -> None:
        out, self._out = self._out, {}
        wanted, self._wanted = self._wanted, set()
        for session in wanted:
            known = self._followed.get(session)
            if known is not None and not self._hub.driver_of(session):
                known.wished = True
                for worker in self._workers:
                    out.setdefault(worker, []).append(Wish(session, known.pieces, known.known_of(self._hub)))
        for process, notes in self._wishes.notes():
            out.setdefault(process, []).extend(notes)
        for process, notes in out.items():
            for message in messages_of(self._bus.name, notes, self._bus.bytes_max):
                self._bus.send(message, to=process)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def _heard(self, message: bytes) -> None:
        told = read_message(message)
        if told is None or told.sender == self._bus.name or not self._listens:
            return
        if told.sender in self._workers:
            self._workers[told.sender] = self._clock.now()
        for note in told.notes:
            match note:
                case Hello():
                    if self._works:
                        self._say(Here(), (told.sender,))
                case Here():
                    self._met(told.sender)
                case Wish():
                    if self._wishes.add(told.sender, note, until=self._clock.now() + int(WISH_S * _MICROS)):
                        self._soon(urgent=True)
                case Unwish(session=session):
                    self._wishes.drop(told.sender, session)
                case News() | Piece() | Progress():
                    self._learn(note)

    def _met(self, worker: str) -> None:
        if worker not in self._workers:
            self._workers[worker] = self._clock.now()
            for known in self._followed.values():
                self._want(known)

    def _learn(self, note: News | Piece | Progress) -> None:
        """Something of a session that another process drives, or wrote to."""
        known = self._followed.get(note.session)
        if known is None or self._hub.driver_of(note.session):
            return
        match note:
            case News():
                if known.is_behind(note):
                    self._look(known)
            case Progress(call=call, text=text):
                self._hub.hear(note.session, (Delta(call, 0, "progress", text),))
            case Piece():
                self._take(known, note)

    def _take(self, known: Followed, piece: Piece) -> None:
        deltas = known.deltas_of(piece, self._hub)
        if deltas is None:
            self._wanted.add(known.session)
            self._soon(urgent=False)
        elif deltas:
            self._hub.hear(known.session, deltas)
        elif known.held:
            self._look(known)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _look(self, known: Followed) -> None:
        """Read what was journaled since the last look, once for all who follow here."""
        known.again = True
        if not known.head:
            self._hub.rouse(known.session)  # nobody knows from where on: each reader does
        elif known.reading is None:
            known.reading = asyncio.create_task(self._read(known), name=f"relay: {known.session}")
            self._reading.add(known.reading)
            known.reading.add_done_callback(self._reading.discard)

    async def _read(self, known: Followed) -> None:
        try:
            while known.again and self._is_away(known):
                known.again = False
                records = await self._store.read(known.session, after=known.head, limit=_PAGE)
                if not self._is_away(known):
                    return
                known.again = known.again or len(records) == _PAGE
                if fresh := known.news_in(records):
                    self._hub.hear(known.session, fresh)
                for piece in known.take_held():
                    self._take(known, piece)
        except RemanenceError as error:
            log.info("a look at a followed session failed; its readers poll", why=error.message, session=known.session)
            known.held.clear()
        finally:
            known.reading = None

    def _is_away(self, known: Followed) -> bool:
        """Whether somebody follows it here, and nobody drives it here."""
        return self._followed.get(known.session) is known and not self._hub.driver_of(known.session)
