"""What other processes wish to be told of the sessions that are driven here, and what there is to tell them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import cast

from msgspec.structs import replace

from remanence.events import Recorded
from remanence.ports import Clock, Delta
from remanence.runtime.live import Hub, Running
from remanence.runtime.notes import Called, News, Note, Piece, Progress, Wish, runs_of

__all__ = ["Wishes"]


class _Wisher:
    """One process that follows one session: what of the running call it was sent."""

    def __init__(self) -> None:
        self.until = 0
        self.pieces = False
        self.sent = Called()
        self._at = 0
        """Which of the call's pieces is the first that was not sent whole."""
        self._into = 0
        """How many characters of that one were sent."""

    def go_to(self, running: Running, known: Called) -> None:
        """It says what it has: go on from there."""
        ours = (known.call, known.attempt) == (running.call, running.attempt)
        said = min(known.said, running.said) if ours else 0
        self.sent = Called(running.call, running.attempt, said)
        self._at = 0
        for delta in running.log:
            if len(delta.text) > said:
                break
            self._at, said = self._at + 1, said - len(delta.text)
        self._into = said

    def next_of(self, session: str, running: Running) -> Iterator[Piece]:
        """What it was not sent yet."""
        if (self.sent.call, self.sent.attempt) != (running.call, running.attempt):
            self.go_to(running, Called())
        deltas = running.log[self._at :]
        if deltas and self._into:
            first = deltas[0]
            deltas = [replace(first, text=first.text[self._into :]), *deltas[1:]]
        self._at, self._into = len(running.log), 0
        said = self.sent.said
        for runs in runs_of(deltas):
            yield Piece(session, running.position, Called(running.call, running.attempt, said), runs)
            said += sum(len(text) for _, _, text in runs)
        self.sent = Called(running.call, running.attempt, said)


class Wishes:
    """Who wishes for what, and what they are to be told next."""

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock
        self._of: dict[str, dict[str, _Wisher]] = {}
        self._news: dict[str, tuple[int, int]] = {}
        self._progress: dict[str, list[Progress]] = {}
        self._spoken: set[str] = set()
        self._looks: set[tuple[str, str]] = set()
        self._swept_until = 0

    @property
    def sessions(self) -> Container[str]:
        """Those that somebody wishes for, always as it stands."""
        return self._of

    @property
    def due(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._news or self._spoken or self._looks or self._progress)

    def add(self, process: str, wish: Wish, *, until: int) -> bool:
        """A process wishes, for the first time or again. Whether there is something to tell it."""
        self._sweep(until)
        wishers = self._of.setdefault(wish.session, {})
        if process not in wishers:
            wishers[process] = _Wisher()
            if self._hub.driver_of(wish.session):
                self._looks.add((process, wish.session))
        wisher = wishers[process]
        wisher.until, wisher.pieces = until, wish.pieces
        running = self._running(wish.session)
        if running is not None and wish.pieces:
            wisher.go_to(running, wish.known)
            if wisher.sent.said < running.said:
                self._spoken.add(wish.session)
        return self.due

    def drop(self, process: str, session: str) -> None:
        """A process wishes no more."""
        wishers = self._of.get(session, {})
        wishers.pop(process, None)
        if not wishers:
            self._of.pop(session, None)

    def _sweep(self, until: int) -> None:
        """Forget wishes that were not made again, once in the time for which one holds."""
        now = self._clock.now()
        if now < self._swept_until <= until:
            return
        self._swept_until = until
        for session, wishers in [*self._of.items()]:
            for process in [process for process, wisher in wishers.items() if wisher.until < now]:
                self.drop(process, session)

    def take(self, session: str, items: Sequence[Recorded | Delta]) -> bool:
        """This happened here. Whether anybody wishes to hear of it."""
        if session not in self._of:
            return False
        if isinstance(items[0], Recorded):
            records = cast("Sequence[Recorded]", items)
            first, last = self._news.get(session, (records[0].position, 0))
            self._news[session] = min(first, records[0].position), max(last, records[-1].position)
            return True
        for item in items:
            if isinstance(item, Delta) and item.kind == "progress":
                self._progress.setdefault(session, []).append(Progress(session, item.call, item.text[:1_000]))
        self._spoken.add(session)
        return True

    def notes(self) -> Iterator[tuple[str, list[Note]]]:
        """What there is to tell, by process. It counts as told."""
        now = self._clock.now()
        looks, self._looks = self._looks, set()
        news, self._news = self._news, {}
        spoken, self._spoken = self._spoken, set()
        progress, self._progress = self._progress, {}
        for process, session in looks:
            yield process, [News(session, 0, 0)]
        for session in {*news, *spoken, *progress}:
            running = self._running(session)
            for process, wisher in [*self._of.get(session, {}).items()]:
                if wisher.until < now:
                    self.drop(process, session)
                    continue
                notes: list[Note] = [News(session, *news[session])] if session in news else []
                if wisher.pieces:
                    notes += progress.get(session, ())
                    notes += wisher.next_of(session, running) if running is not None else ()
                yield process, notes

    def _running(self, session: str) -> Running | None:
        """The call that runs here: not one of which another process told."""
        return self._hub.running(session) if self._hub.driver_of(session) else None
