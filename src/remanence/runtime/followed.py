"""A session that somebody follows here and another process drives: how far its journal was read, and what was heard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

from remanence.events import Recorded
from remanence.ports import Delta
from remanence.runtime.live import Hub, Running
from remanence.runtime.notes import Called, News, Piece

__all__ = ["Followed"]

HELD_MAX = 256
"""How many pieces wait for the record of their call to be read."""


class Followed:
    """One session. The readers here were told every record after `start` up to `head`; 0: it is not known yet."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.pieces = False
        self.wished = False
        self.start = 0
        self.head = 0
        self.again = False
        self.reading: asyncio.Task[None] | None = None
        self.held: deque[Piece] = deque(maxlen=HELD_MAX)

    def begin(self, position: int) -> None:
        """Begin to read with the record at a position."""
        self.start = self.head = position - 1

    def saw(self, records: Sequence[Recorded], *, driven: bool) -> bool:
        """These were written here, and told. False: there are some before them that were not.

        While the session is driven here, nobody else writes what its readers could not find by themselves.
        """
        first, last = records[0].position, records[-1].position
        if driven or not self.head:
            self.start = self.start if self.head else first - 1
            self.head = max(self.head, last)
        elif first > self.head + 1:
            return False
        self.head = max(self.head, last)
        return True

    def is_behind(self, news: News) -> bool:
        """Whether the news are any."""
        if not self.head and news.first:
            self.begin(news.first)
        return news.last == 0 or news.last > self.head

    def known_of(self, hub: Hub) -> Called:
        """What is known of the call that runs."""
        running = hub.running(self.session)
        return Called() if running is None else Called(running.call, running.attempt, running.said)

    def deltas_of(self, piece: Piece, hub: Hub) -> Sequence[Delta] | None:
        """What is new of a piece: nothing when it is old, or early, and then it is held; None after a gap."""
        running = hub.running(self.session)
        if running is None or not _is_of(piece, running):
            if running is not None and running.position >= piece.position:
                return ()
            if not self.head or piece.position <= self.start:
                self.begin(piece.position)
            elif piece.position <= self.head:
                return ()  # its reply was read
            self.held.append(piece)
            return ()
        missing = piece.known.said - running.said
        return None if missing > 0 else tuple(_after(piece, -missing))

    def take_held(self) -> Sequence[Piece]:
        """The pieces that waited and whose call was read meanwhile; the others are forgotten."""
        ready = [piece for piece in self.held if piece.position <= self.head]
        self.held.clear()
        return ready

    def news_in(self, records: Sequence[Recorded]) -> Sequence[Recorded]:
        """Those that nobody here was told yet; from now on they were."""
        fresh = [record for record in records if record.position > self.head]
        if fresh:
            self.head = fresh[-1].position
        return fresh


def _is_of(piece: Piece, running: Running) -> bool:
    return (running.call, running.attempt) == (piece.known.call, piece.known.attempt)


def _after(piece: Piece, known: int) -> Iterator[Delta]:
    """The piece without its first characters."""
    for index, kind, text in piece.runs:
        if len(text) > known:
            yield Delta(piece.known.call, index, kind, text[known:], piece.known.attempt)
        known = max(0, known - len(text))
