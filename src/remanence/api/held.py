"""Streams live as long as the key that opened them opens anything.

A key is checked when a request comes, and a stream is one request that may last for days. So the keys behind the open
streams are checked again now and then, each once for all of its streams, and those of a key that was revoked, or whose
time is over, end. Their reader hears why when it asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import structlog
from starlette.types import Scope

from remanence.errors import StoreError, Unauthenticated
from remanence.ports import Clock

__all__ = ["CHECK_EVERY_S", "Held", "held_by"]

log = structlog.get_logger("remanence.http")

CHECK_EVERY_S = 5.0


class Held:
    """The open streams of a process, by the `Authorization` header they came with."""

    def __init__(self, check: Callable[[str | None], Awaitable[object]], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._streams: dict[str, set[asyncio.Future[None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def by(self, authorization: str, over: asyncio.Future[None]) -> Generator[None]:
        """A stream is open meanwhile. `over` is done when its key opens nothing any more."""
        self._streams.setdefault(authorization, set()).add(over)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="keys of streams")
        try:
            yield
        finally:
            streams = self._streams[authorization]
            streams.discard(over)
            if not streams:
                del self._streams[authorization]

    async def _watch(self) -> None:
        while self._streams:
            await self._clock.sleep(CHECK_EVERY_S)
            for authorization in [*self._streams]:
                try:
                    await self._check(authorization)
                except Unauthenticated:
                    self._end(authorization)
                except StoreError as error:
                    log.warning("the keys of open streams could not be checked; trying again", error=error.message)

    def _end(self, authorization: str) -> None:
        for over in self._streams.get(authorization, ()):
            if not over.done():
                over.set_result(None)


@contextmanager
def held_by(scope: Scope) -> Generator[asyncio.Future[None]]:
    """The stream that answers this request is open meanwhile; the future is done when it has to end."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    app = scope.get("app")
    held: Held | None = getattr(getattr(app, "state", None), "held", None)
    given = next((value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"authorization"), "")
    if held is None or not given:
        yield over
        return
    with held.by(given, over):
        yield over
