"""What is happening now, inside this process: records as they commit, deltas as they stream.

Nothing here is truth. A reader that is too slow loses deltas (they are only a preview of what will be journaled) and is
told so by a missing record position, upon which it reads the journal; a writer never waits for a reader.

Whoever comes late, or lost deltas, can see what a running model call has said so far (`running`): it is kept for as
long as the call runs.

What happens in another process is heard through `Peers` (`runtime/relay.py`), in the same order as if it happened here:
a call's record before its first piece, and no piece after its reply.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Protocol, cast

from remanence.events import ModelCalled, ModelFailed, ModelReplied, Recorded, TurnEnded
from remanence.ports import Clock, Delta, DeltaKind, Want, Write
from remanence.runtime.bell import Bell

__all__ = ["Hub", "Peers", "Running"]

_ANSWERS = (ModelReplied, ModelFailed)
QUEUE_ITEMS_MAX = 4_096
"""What one reader may lag behind before its oldest items are dropped."""


class Running:
    """A model call that streams: what it has said so far, by the index of the part in its reply.

    `position` is that of its record, `said` how many characters it has said in all.
    """

    __slots__ = ("_fresh", "_log", "_named", "_whole", "answered", "attempt", "call", "position", "said")

    def __init__(self, call: str, attempt: int, position: int = 0) -> None:
        self.call = call
        self.attempt = attempt
        self.position = position
        self.answered = False
        self.said = 0
        self._log: list[Delta] | None = None
        self._fresh: dict[int, tuple[DeltaKind, list[str]]] = {}
        self._whole: dict[int, str] = {}
        self._named: dict[int, tuple[str, str]] = {}

    def says(self, delta: Delta) -> bool:
        """Whether this is a piece of it. A model that did not stop when it was told to may still speak of an earlier
        attempt."""
        return delta.call == self.call and delta.attempt == self.attempt

    def add(self, delta: Delta) -> None:
        """Take one more piece."""
        self.said += len(delta.text)
        if self._log is not None:
            self._log.append(delta)
        if delta.kind == "text" or delta.kind == "thinking":
            self._fresh.setdefault(delta.index, (delta.kind, []))[1].append(delta.text)
        elif delta.kind == "tool_name" or delta.kind == "tool_arguments":
            name, arguments = self._named.get(delta.index, ("", ""))
            named = delta.kind == "tool_name"
            self._named[delta.index] = (name + delta.text, arguments) if named else (name, arguments + delta.text)

    @property
    def parts(self) -> Sequence[tuple[DeltaKind, str]]:
        """The texts and thoughts so far, in the order of the reply."""
        for index, (_, pieces) in self._fresh.items():
            if pieces:
                self._whole[index] = self._whole.get(index, "") + "".join(pieces)
                pieces.clear()
        return [(self._fresh[index][0], self._whole[index]) for index in sorted(self._whole)]

    @property
    def log(self) -> Sequence[Delta]:
        """All it has said, in an order in which it can be told again. It is kept from the first time it is asked for,
        and only grows; what was said before that stands in it part by part."""
        if self._log is None:
            told = {index: self._told(index) for index in sorted({*self._fresh, *self._named})}
            self._log = [delta for deltas in told.values() for delta in deltas if delta.text]
        return self._log

    def _told(self, index: int) -> Sequence[Delta]:
        if index in self._fresh:
            kind, pieces = self._fresh[index]
            return [Delta(self.call, index, kind, self._whole.get(index, "") + "".join(pieces), self.attempt)]
        name, arguments = self._named[index]
        said: tuple[tuple[DeltaKind, str], ...] = (("tool_name", name), ("tool_arguments", arguments))
        return [Delta(self.call, index, kind, text, self.attempt) for kind, text in said]

    @property
    def calls(self) -> Sequence[tuple[int, str, str]]:
        """The calls so far: how many texts and thoughts stand before it, its tool, its arguments."""
        return [
            (sum(said < index for said in self._fresh), name, arguments)
            for index, (name, arguments) in sorted(self._named.items())
        ]


class Peers(Protocol):
    """The other processes over the same database. Nothing of this waits."""

    @property
    def wished(self) -> Container[str]:
        """The sessions of which they wish to be told, always as it stands: whoever tells pieces looks here first."""
        ...

    def follow(self, session: str, *, pieces: bool) -> None:
        """Somebody here follows a session from now on; without `pieces`, only what is journaled of it."""
        ...

    def leave(self, session: str) -> None:
        """Nobody here follows it any more."""
        ...

    def tell(self, session: str, items: Sequence[Recorded | Delta]) -> None:
        """This happened here."""
        ...

    def look(self, session: str) -> None:
        """Something about a followed session may have changed elsewhere."""
        ...


class Hub:
    """Publishes to the readers of a session, and to the worker that runs it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readers: dict[str, list[Reader]] = {}
        self._listeners: list[Callable[[Recorded], None]] = []
        self._strangers: list[Callable[[Recorded], None]] = []
        self._running: dict[str, Running] = {}
        self._peers: Peers | None = None
        self._wished: Container[str] = ()
        self._driver_of: Callable[[str], str] = lambda session: ""
        self._foresee: Callable[[Write], None] = lambda write: None

    def listen(self, listener: Callable[[Recorded], None], *, to_others: bool = False) -> None:
        """Call `listener` with every record of every session, at once. It must not wait.

        With `to_others` it hears only what the drivers of this process did not write themselves.
        """
        (self._strangers if to_others else self._listeners).append(listener)

    def unlisten(self, listener: Callable[[Recorded], None]) -> None:
        """Stop calling it, if it is called at all."""
        for listeners in (self._listeners, self._strangers):
            if listener in listeners:
                listeners.remove(listener)

    def join(self, peers: Peers) -> None:
        """From now on tell these of what happens here, and let them tell of what happens elsewhere."""
        self._peers, self._wished = peers, peers.wished

    def driven_by(self, driver_of: Callable[[str], str], foresee: Callable[[Write], None]) -> None:
        """Tell the hub how to know which worker of this process holds a session, and how to tell it what is coming."""
        self._driver_of = driver_of
        self._foresee = foresee

    def foresee(self, write: Write) -> None:
        """A write is about to be queued: whoever drives its session here may plan on it already."""
        self._foresee(write)

    def driver_of(self, session: str) -> str:
        """The worker of this process that holds the session, so that publishing wakes it; empty when none does."""
        return self._driver_of(session)

    def publish(self, session: str, *items: Recorded | Delta) -> None:
        """Tell everybody who follows this session, and its driver. The items are all records or all deltas."""
        if isinstance(items[0], Recorded):
            for listener in self._strangers:
                for record in cast("Sequence[Recorded]", items):
                    listener(record)
        self.show(session, items)

    def show(self, session: str, items: Sequence[Recorded | Delta]) -> None:
        """Tell everybody who follows this session; its driver is the one who tells."""
        is_record = isinstance(items[0], Recorded)
        if is_record:
            for listener in self._listeners:
                for record in cast("Sequence[Recorded]", items):
                    listener(record)
        self.hear(session, items)
        if self._peers is not None and (is_record or session in self._wished):
            self._peers.tell(session, items)

    def hear(self, session: str, items: Sequence[Recorded | Delta]) -> None:
        """Tell everybody who follows this session here of what happened, wherever it did."""
        readers = self._readers.get(session, ())
        if isinstance(items[0], Recorded):
            self._follow_calls(session, cast("Sequence[Recorded]", items))
            for reader in readers:
                reader.put(items)
        else:
            running = self._running.get(session)
            if running is not None:
                for item in items:
                    if isinstance(item, Delta) and running.says(item):
                        running.add(item)
            for reader in readers:
                if reader.want in ("all", "latest"):
                    reader.put(items)

    def _follow_calls(self, session: str, records: Sequence[Recorded]) -> None:
        for record in records:
            event = record.event
            if isinstance(event, ModelCalled):
                self._running[session] = Running(event.call, event.attempt, record.position)
            elif isinstance(event, _ANSWERS):
                self._running.pop(session, None)

    def running(self, session: str) -> Running | None:
        """The model call of this session that runs here, or of which another process told, if one does."""
        return self._running.get(session)

    def answered(self, session: str) -> None:
        """The running model call of this session has said everything, and that is about to be journaled."""
        running = self._running.get(session)
        if running is not None:
            running.answered = True

    def left(self, session: str) -> None:
        """Who drove it here has left: what it said of a running call is void, and the journal knows the rest."""
        self.void(session)
        self.stir(session)

    def void(self, session: str) -> None:
        """Forget what its running call has said."""
        self._running.pop(session, None)

    def stir(self, session: str) -> None:
        """Let everybody who follows this session look at the journal: another process wrote."""
        if self._peers is not None:
            self._peers.look(session)
        self.rouse(session)

    def rouse(self, session: str) -> None:
        """Let everybody who follows this session here look at the journal."""
        for reader in self._readers.get(session, ()):
            reader.stir()

    def subscribe(self, session: str, *, want: Want = "all") -> Reader:
        """A new reader; it sees what is published from now on, and must be closed."""
        reader = Reader(self, session, self._clock, want)
        self._readers.setdefault(session, []).append(reader)
        if self._peers is not None and not self._driver_of(session):
            self._peers.follow(session, pieces=want in ("all", "latest"))
        return reader

    def is_read(self, session: str, *, pieces: bool = False) -> bool:
        """Whether somebody follows it here; with `pieces`, also the pieces of its calls."""
        return any(not pieces or reader.want in ("all", "latest") for reader in self._readers.get(session, ()))

    def drop(self, reader: Reader) -> None:
        """Forget a reader."""
        readers = self._readers.get(reader.session, [])
        if reader in readers:
            readers.remove(reader)
        if not readers and self._readers.pop(reader.session, None) is not None and self._peers is not None:
            self._peers.leave(reader.session)


class Reader:
    """One reader of one session's live items, with a bounded queue."""

    def __init__(self, hub: Hub, session: str, clock: Clock, want: Want) -> None:
        self.session = session
        self.want = want
        self._hub = hub
        self._clock = clock
        self._items: deque[Recorded | Delta] = deque(maxlen=QUEUE_ITEMS_MAX)
        self._filled = Bell()

    def put(self, items: Sequence[Recorded | Delta]) -> None:
        """Take what was published; never waits."""
        if self.want == "latest" and self._items and isinstance(items[0], Delta):
            if isinstance(self._items[-1], Delta):
                self._items.pop()
            items = items[-1:]
        self._items.extend(items)
        if self.want != "turns" or any(_ends_turn(item) for item in items):
            self._filled.set()

    def stir(self) -> None:
        """End the wait with nothing."""
        self._filled.set()

    async def take(self, timeout_s: float | None) -> Sequence[Recorded | Delta]:
        """What was published since the last call; waits up to `timeout_s` (None: for ever).

        A stir that came while nobody waited ends the next wait: a reader is often busy writing when it is stirred.
        """
        if not self._items:
            await self._clock.wait(self._filled, timeout_s)
        self._filled.clear()
        items = list(self._items)
        self._items.clear()
        return items

    @property
    def waits(self) -> bool:
        """Whether something was published that was not taken yet."""
        return bool(self._items)

    def close(self) -> None:
        self._hub.drop(self)


def _ends_turn(item: Recorded | Delta) -> bool:
    """Whether a turn ends with this item."""
    return isinstance(item, Recorded) and isinstance(item.event, TurnEnded)
