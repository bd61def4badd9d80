"""Keeps projections close to the journals in idle time: what was spent, what screens ask, what is remembered.

A projection has one cursor per session, which moves in the same transaction as what it adds: several processes may run
the same projections at once, and whoever is late adds nothing. The projector looks for sessions whose head is past a
cursor, reads a batch of them, and then rests for a multiple of the time that took: while sessions run in this process
it takes a small share of it, otherwise half. Its batches are small then, so that nobody's turn waits for a long one.

A journal that cannot be read is left alone until it grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from remanence.errors import RemanenceError, StoreCorrupt, StoreError
from remanence.ports import Clock, Cursor, Database, Reading
from remanence.runtime.bell import Bell
from remanence.runtime.shared_reads import SharedReads

__all__ = ["Projection", "Projector"]

log = structlog.get_logger("remanence.projector")

Project = Callable[[Cursor, Reading], Awaitable[None]]
Projection = tuple[str, Project]
"""The name under which its cursors are kept, and what adds one session from a cursor to its head, by the reading it is
given."""

BATCH_SESSIONS, BATCH_BUSY = 20, 4
"""Sessions read at a time, when none runs in this process and while some do."""
REST_S = 1.0
"""How long it rests when there is nothing to read."""
REST_MIN_S = 0.01
FIRST_S = 0.25
"""A process that starts has something to do first: whoever asks a projection brings it up to date anyway."""
SHARE_BUSY, SHARE_IDLE = 0.05, 0.5
"""How much of the time it reads, while sessions run here and while none does."""
_MICROS = 1_000_000


class Projector:
    """Runs projections in the background. `busy` says whether sessions run in this process right now."""

    def __init__(
        self, database: Database, clock: Clock, projections: Sequence[Projection], busy: Callable[[], bool]
    ) -> None:
        self._database = database
        self._clock = clock
        self._projections = projections
        self._busy = busy
        self._unreadable: dict[tuple[str, str], int] = {}
        self._after = ""
        self._stopping = Bell()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run(), name="project")

    async def stop(self) -> None:
        """Finish the session that is being read, and end."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def catch_up(self) -> int:
        """Read one batch for every projection. Returns how many sessions were read.

        Batches go round: sessions that are written to all the while must not keep the others waiting.
        """
        began_after, self._after = self._after, ""
        reads = SharedReads(self._database.store)
        read = 0
        for name, project in self._projections:
            if self._stopping.is_set():
                return read
            due = await self._due(name, began_after)
            # Together, because what is written at the same time shares a commit.
            outcomes = [self._read(name, cursor, project, reads) for cursor in due]
            for failure in await asyncio.gather(*outcomes, return_exceptions=True):
                if failure is not None:
                    raise failure
            read += len(due)
        return read if read or not began_after else await self.catch_up()

    async def _due(self, name: str, after: str) -> list[Cursor]:
        """Sessions opened after that one of which this projection has not read everything it can."""
        left_alone = sum(1 for projection, _ in self._unreadable if projection == name)
        limit = (BATCH_BUSY if self._busy() else BATCH_SESSIONS) + left_alone
        cursors = await self._database.store.behind(name, limit=limit, after=after)
        if len(cursors) == limit:
            self._after = cursors[-1].session
        return [cursor for cursor in cursors if self._unreadable.get((name, cursor.session)) != cursor.head]

    async def _read(self, name: str, cursor: Cursor, project: Project, reads: SharedReads) -> None:
        key = (name, cursor.session)
        try:
            await project(cursor, reads.read)
            self._unreadable.pop(key, None)
        except StoreCorrupt as error:
            self._leave(key, cursor, error)
        except StoreError:
            raise
        except RemanenceError as error:
            self._leave(key, cursor, error)
        except Exception:
            log.exception("this session cannot be read; it is left alone until it grows", session=cursor.session)
            self._unreadable[key] = cursor.head

    def _leave(self, key: tuple[str, str], cursor: Cursor, error: RemanenceError) -> None:
        log.warning(
            "this session cannot be read; it is left alone until it grows",
            projection=key[0],
            session=cursor.session,
            why=error.message,
        )
        self._unreadable[key] = cursor.head

    async def _run(self) -> None:
        await self._clock.wait(self._stopping, FIRST_S)
        while not self._stopping.is_set():
            began = self._clock.now()
            try:
                read = await self.catch_up()
            except StoreError as error:
                log.info("projections are brought up to date later", error=error.message)
                read = 0
            took_s = max(0, self._clock.now() - began) / _MICROS
            share = SHARE_BUSY if self._busy() else SHARE_IDLE
            rest_s = max(took_s * (1 / share - 1), REST_MIN_S)
            await self._clock.wait(self._stopping, rest_s if read else max(rest_s, REST_S))
