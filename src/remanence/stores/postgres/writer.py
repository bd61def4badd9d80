"""How appends reach PostgreSQL: in groups, over a few connections, one round trip each.

**Lanes.** A lane is a connection that runs one group at a time, and a group is whatever was queued while the last one
ran: the oldest write of each session (at most one under an idempotency key), and behind it the one that follows from it
(`Write.follows`), which is sent in the same statement and made when the whole group was. A session is on one lane at a
time, so its writes keep their order. One large group costs much less than two small ones; a further lane is sent only
when those under way are late (`LATE_S`), which they are when commits are slow.

**Plain appends** are sent as the process believes the session to be: it remembers the head and the digest of sessions
it wrote or loaded, chains the digests itself, and `append_group` (or `append_one`) moves the row only if it still is
like that. A belief is a cache: when the row did not match, or nothing is known, or the write does more than append (it
opens or forks a session, carries a key, moves a budget, redacts, is large, changes what the session is called), it goes
the **careful** way, on the same lane: lock the rows, look, decide, write (`careful.py`).

**When the answer to a commit is lost** nobody knows whether it landed. The write is then *in doubt*, and stays on
its lane until a connection is had again (for `PATIENCE_S`). The careful way locks its session's row, which
also waits for whatever the server still does with the lost statement, and compares the digest at the position where
the write would have landed. Is it there, then the write is acknowledged; is it not, it is made now, which moves the
head, so that a lost statement that should still arrive finds another head and does nothing. A write is thus never
doubled. When no connection is had in time, its caller is told that the outcome is unknown. Writes that were not sent
when the server went away fail at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from remanence.errors import InvalidInput, RemanenceError, StoreUnavailable
from remanence.ports import Appended, Write
from remanence.stores.postgres.careful import Outcome, Raced, append_carefully
from remanence.stores.postgres.connect import Connection, Statement, connect, hang_up
from remanence.stores.postgres.errors import DRIVER_ERRORS, explain, is_lost, is_passing
from remanence.stores.postgres.group import STATEMENTS, arguments, entry_arguments, is_plain, makes_due
from remanence.stores.postgres.known import Group, Known, KnownSessions, Pending, Queue, check_texts
from remanence.stores.rows import draft

__all__ = ["Writers"]

LATE_S = 0.005
PATIENCE_S = 2.0
RETRY_S = 0.05
ATTEMPTS = 5


class Writers:
    """The queue and the lanes of one process. `on_due` is called when a committed write has made a session due."""

    def __init__(self, url: str, *, lanes: int, known: KnownSessions, on_due: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue = Queue()
        self._idle = [_Lane(url, known, on_due) for _ in range(lanes)]
        self._busy: dict[_Lane, float] = {}
        """When each running lane took its group."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def append(self, write: Write) -> asyncio.Future[Appended]:
        """Queue a write. Raises InvalidInput at once; everything else comes through the future."""
        if self._closed:
            raise StoreUnavailable("This database was closed. What was acknowledged is kept; open it again.")
        pending = Pending(draft(write), self._loop.create_future())
        self._queue.put(pending)
        if not self._busy:
            self._start()
        return pending.future

    async def close(self) -> None:
        """Finish what is queued, then hang up."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        for lane in self._idle:
            await lane.close()

    def _start(self) -> None:
        """Send a lane to the queue, when there is one to send and something to take."""
        if self._queue and self._idle and self._none_is_early():
            lane = self._idle.pop()
            self._busy[lane] = self._loop.time()
            task = self._loop.create_task(self._run(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _none_is_early(self) -> bool:
        """Whether every running lane is late, so that waiting for it costs more than a group of one's own."""
        late = self._loop.time() - 0.9 * LATE_S  # a timer may come a little early
        return all(began <= late for began in self._busy.values())

    async def _run(self, lane: _Lane) -> None:
        """Take group after group, until the queue is empty or another lane is about to come for it."""
        try:
            while self._queue:
                group = self._queue.take()
                self._busy[lane] = self._loop.time()
                timer = self._loop.call_later(LATE_S, self._start)
                try:
                    await lane.settle(group)
                except BaseException:
                    # Ours to report: a caller must never wait for an answer that nobody will give.
                    _fail([*group.leading, *group.trailing], _stopped())
                    raise
                finally:
                    timer.cancel()
                    self._queue.done(group)
                del self._busy[lane]
                if not self._none_is_early():
                    break
        finally:
            self._busy.pop(lane, None)
            self._idle.append(lane)
            if not self._busy:
                self._start()


class _Lane:
    """One connection, one group at a time."""

    def __init__(self, url: str, known: KnownSessions, on_due: Callable[[], None]) -> None:
        self._url = url
        self._known = known
        self._on_due = on_due
        self._connection: Connection | None = None
        self._statements: dict[str, Statement] = {}

    async def close(self) -> None:
        if self._connection is not None:
            await hang_up(self._connection)
        self._connection = None
        self._statements.clear()

    async def settle(self, group: Group) -> None:
        """Resolve every write of a group."""
        plain = self._plain(group.leading)
        taken = {id(pending) for pending, _ in plain}
        careful = [pending for pending in group.leading if id(pending) not in taken]
        trailing = group.trailing
        if plain:
            closer, trailing = await self._append_plainly(plain, trailing)
            careful += closer
        if careful:
            await self._append_carefully(careful)
        if trailing:
            await self.settle(Group(trailing, []))

    def _plain(self, writes: Sequence[Pending]) -> list[tuple[Pending, Known]]:
        """Those that are plain appends, in the order in which rows are locked: so does everybody else, and nobody waits
        in a circle."""
        found = ((pending, self._known.get(pending.write.session)) for pending in writes)
        plain = [(pending, known) for pending, known in found if known is not None and is_plain(pending, known)]
        plain.sort(key=_sid)
        return plain

    async def _append_plainly(
        self, batch: list[tuple[Pending, Known]], trailing: list[Pending]
    ) -> tuple[Sequence[Pending], list[Pending]]:
        """Append a batch, and of what trails behind it as much as is plain once the batch is down. Answers the writes
        of the batch that need a closer look, and those behind that are still to be made."""
        behind: list[tuple[Pending, Known]] = []
        try:
            one = len(batch) == 1
            entries, given = entry_arguments(batch), arguments(batch, one=one)
            behind = self._plain(trailing)[: 1 if one else None]
            statement = await self._prepared(STATEMENTS[one, entries is not None, bool(behind)])
            trails = arguments(behind, one=one) if behind else ()
            found: Any = await statement.fetchrow(*given, *(entries or ()), *trails)
        except DRIVER_ERRORS as error:
            group = [pending for pending, _ in batch]
            sent = [pending for pending, _ in behind]
            if is_lost(error):
                self._hang_up()
                _doubt([*group, *sent])
            for pending in group:
                self._known.forget(pending.write.session)
            return group, trailing
        except RemanenceError as error:
            for pending, _ in batch:
                self._known.forget(pending.write.session)  # its head was moved past what was not written
                pending.resolve(error)
            return [], trailing
        closer = self._finish(batch, found[0])
        if not behind:
            return closer, trailing
        made = {id(pending) for pending, _ in behind}
        left = self._finish(behind, found[2] if found[1] else [])
        return closer, [*left, *(pending for pending in trailing if id(pending) not in made)]

    def _finish(self, batch: list[tuple[Pending, Known]], done: Sequence[int] | None) -> Sequence[Pending]:
        moved = None if done is None else set(done)
        left: list[Pending] = []
        due = False
        for pending, known in batch:
            if moved is not None and known.head.id not in moved:
                self._known.forget(known.head.session)
                left.append(pending)
                continue
            if pending.write.summary is not None:
                known.summary = pending.write.summary
            due = due or makes_due(pending.write)
            pending.resolve(pending.appended())
        if due:
            self._on_due()
        return left

    async def _append_carefully(self, group: Sequence[Pending]) -> None:
        """Resolve every write of the group, whatever happens to the server meanwhile."""
        clock = asyncio.get_running_loop()
        until, attempts = clock.time() + PATIENCE_S, 0
        while group:
            late = clock.time() > until
            try:
                outcomes = await append_carefully(await self._connected(), group)
            except RemanenceError as error:
                group = _give_up(group, error, late=late)
            except Raced:
                attempts += 1
            except DRIVER_ERRORS as error:
                if is_lost(error):
                    self._hang_up()
                    _doubt(group)
                elif not is_passing(error) or late or attempts == ATTEMPTS:
                    await self._isolate(group, error)
                    return
                attempts += 1
            else:
                self._acknowledge(group, outcomes)
                return
            if attempts > ATTEMPTS:
                _fail(group, _unsettled())
                return
            await asyncio.sleep(RETRY_S if group else 0)

    async def _isolate(self, group: Sequence[Pending], error: Exception) -> None:
        """The server refused the group: find out whose fault it was, and journal the others."""
        if len(group) > 1:
            for pending in group:
                await self._append_carefully([pending])
            return
        if group[0].doubts:
            _fail(group, _unsettled())
            return
        try:
            check_texts(group[0].write)
        except InvalidInput as better:
            _fail(group, better)
        else:
            _fail(group, explain(error, "appending", at_work=True))

    def _acknowledge(self, group: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
        due = False
        for pending, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Known):
                self._known.learn(outcome)
                due = due or makes_due(pending.write)
                pending.resolve(pending.appended())
            else:
                self._known.forget(pending.write.session)
                pending.resolve(outcome)
        if due:
            self._on_due()

    async def _prepared(self, text: str) -> Statement:
        if text not in self._statements:
            self._statements[text] = await (await self._connected()).prepare(text)
        return self._statements[text]

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._hang_up()
            self._connection = await connect(self._url, writer=True)
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None
        self._statements.clear()


def _sid(pair: tuple[Pending, Known]) -> int:
    return pair[1].head.id


def _doubt(group: Sequence[Pending]) -> None:
    """The connection was lost: what was worked out may have been committed."""
    for pending in group:
        if pending.rows and (not pending.doubts or pending.doubts[-1] is not pending.rows):
            pending.doubts.append(pending.rows)


def _fail(group: Sequence[Pending], error: RemanenceError) -> None:
    for pending in group:
        pending.resolve(error)


def _give_up(group: Sequence[Pending], error: RemanenceError, *, late: bool) -> list[Pending]:
    """No connection is had: refuse what was never sent, and what is in doubt when it is `late`. Answers the rest."""
    left: list[Pending] = []
    for pending in group:
        if not pending.doubts:
            pending.resolve(error)
        elif late:
            pending.resolve(_unsettled())
        else:
            left.append(pending)
    return left


def _stopped() -> StoreUnavailable:
    return StoreUnavailable(
        "The database was closed while this write was under way. What was acknowledged is kept; read the session again "
        "to see whether this was too."
    )


def _unsettled() -> StoreUnavailable:
    return StoreUnavailable(
        "PostgreSQL went away while this write was being committed, and did not come back in time to tell whether it "
        "was kept. What was acknowledged before is. Read the session again before you repeat the write, or repeat it "
        "under the idempotency key it had."
    )
