"""One look for many streams: which of the sessions somebody follows here were written to by another process.

What this process writes reaches its streams by itself. For the rest, one query asks for the heads of every followed
session four times a second, whatever their number, and stirs those of which a follower has not seen the head, each time
until it has: a stir that went unheard costs a look and never a turn. It runs only while somebody follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import structlog

from remanence.commands.caller import Caller
from remanence.errors import StoreError

__all__ = ["CLOSE_S", "Lookout"]

log = structlog.get_logger("remanence.http")

LOOK_EVERY_S = 0.25
CLOSE_S = 4.0
"""How long an answer without a session may go on once the server stops; a little less than the server waits."""


class Lookout:
    """Watches the heads of followed sessions, for one event loop."""

    def __init__(self, caller: Caller, *, every_s: float = LOOK_EVERY_S) -> None:
        self._caller = caller
        self._every_s = every_s
        self._followers: dict[str, list[Callable[[], int]]] = {}
        self._task: asyncio.Task[None] | None = None
        self.closed = False
        self._closing = asyncio.Event()
        self._saying = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def closing(self) -> None:
        """Return when the server is about to stop, for streams that look at no session here."""
        await self._closing.wait()

    async def stopped(self) -> None:
        """Return when what belongs to no session may go on no longer: some seconds after the server is to stop."""
        await self._closing.wait()
        await self._caller.clock.sleep(CLOSE_S)

    @contextmanager
    def saying(self) -> Generator[None]:
        """Something is being said over a connection that the server cuts without a word when it stops."""
        self._saying += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._saying -= 1
            if not self._saying:
                self._quiet.set()

    async def quiet(self, timeout_s: float) -> None:
        """Return when nothing is being said so any more, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()

    def close(self) -> None:
        """The server is about to stop: let every stream see what was written last, and end."""
        self.closed = True
        self._closing.set()
        for session in self._followers:
            self._caller.live.stir(session)

    @contextmanager
    def following(self, session: str, seen: Callable[[], int]) -> Generator[None]:
        """Watch a session meanwhile. `seen` tells the position up to which whoever follows has seen it."""
        self._followers.setdefault(session, []).append(seen)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="lookout")
        try:
            yield
        finally:
            followers = self._followers[session]
            followers.remove(seen)
            if not followers:
                del self._followers[session]

    async def _watch(self) -> None:
        away = False
        while self._followers:
            try:
                await self._look()
                away = False
            except StoreError as error:
                if not away:  # once for each time that the database goes away
                    log.warning("followed sessions could not be looked at; trying again", error=error.message)
                away = True
            await self._caller.clock.sleep(self._every_s)

    async def _look(self) -> None:
        heads = await self._caller.database.views.heads([*self._followers])
        for session, head in heads.items():
            if any(seen() < head for seen in self._followers.get(session, ())):
                self._caller.live.stir(session)
