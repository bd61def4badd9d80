"""Where a run can die: before and after every store write and every effect.

A `Fuse` counts those points and blows at one of them. What blowing means is the caller's: in process it raises `Killed`
(and everything that generation of the worker tries afterwards raises it too); in a forked worker it is `SIGKILL`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from remanence.content import ToolCall, Usage
from remanence.ports import (
    Appended,
    Blobs,
    Database,
    Lease,
    Model,
    ModelReply,
    ModelRequest,
    OnDelta,
    Store,
    Tool,
    ToolCallContext,
    ToolOutcome,
    Write,
)
from remanence.runtime.around import DatabaseAround

__all__ = ["FaultyDatabase", "FaultyModel", "FaultyTool", "Fuse", "Killed"]


class Killed(BaseException):
    """The process is gone. Not an Exception: nothing may handle it."""


class Fuse:
    """Blows at its `at`-th point (0: never). `points` counts those that were passed."""

    def __init__(self, at: int, blow: Callable[[], None]) -> None:
        self.at = at
        self.points = 0
        self.blown = False
        self._blow = blow

    def point(self) -> None:
        """Pass one point, or die at it."""
        if self.blown:
            raise Killed
        self.points += 1
        if self.points == self.at:
            self.blown = True
            self._blow()
            raise Killed


class FaultyStore:
    """A store whose writes are points, before and after."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

        self.load = store.load
        self.read = store.read
        self.behind = store.behind
        self.wait = store.wait

    async def append(self, write: Write) -> Appended:
        self._fuse.point()
        appended = await self._store.append(write)
        self._fuse.point()
        return appended

    async def claim(
        self, worker: str, *, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None = None
    ) -> Sequence[Lease]:
        if self._fuse.blown:
            raise Killed
        leases = await self._store.claim(worker, now=now, ttl_s=ttl_s, limit=limit, agents=agents)
        if leases:
            self._fuse.point()
        return leases

    async def renew(self, leases: Sequence[Lease], *, until: int) -> Sequence[Lease]:
        self._fuse.point()
        return await self._store.renew(leases, until=until)

    async def release(self, lease: Lease, *, seen: int, wake_at: int | None) -> None:
        self._fuse.point()
        await self._store.release(lease, seen=seen, wake_at=wake_at)
        self._fuse.point()


class FaultyBlobs:
    """Blobs whose writes are points, before and after."""

    def __init__(self, blobs: Blobs, fuse: Fuse) -> None:
        self._blobs = blobs
        self._fuse = fuse

        self.get = blobs.get

    async def put(self, content: bytes) -> str:
        self._fuse.point()
        digest = await self._blobs.put(content)
        self._fuse.point()
        return digest


class FaultyDatabase(DatabaseAround):
    """A database whose store and blobs are faulty; the rest is passed through."""

    def __init__(self, database: Database, fuse: Fuse) -> None:
        super().__init__(database)
        self.store = FaultyStore(database.store, fuse)
        self.blobs = FaultyBlobs(database.blobs, fuse)


class FaultyModel:
    """A model whose calls are points, before and after."""

    def __init__(self, model: Model, fuse: Fuse) -> None:
        self._model = model
        self._fuse = fuse

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        self._fuse.point()
        reply = await self._model.reply(request, on_delta)
        self._fuse.point()
        return reply

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return self._model.price(model, usage)


class FaultyTool:
    """A tool whose runs are points: before the effect, and after it but before anybody knows."""

    def __init__(self, tool: Tool, fuse: Fuse) -> None:
        self._tool = tool
        self._fuse = fuse
        self.spec = tool.spec

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        self._fuse.point()
        outcome = await self._tool.run(call, context)
        self._fuse.point()
        return outcome

    async def reconcile(self, effect_key: str) -> Any:
        self._fuse.point()
        return await self._tool.reconcile(effect_key)
