"""Waiting for code of others no longer than agreed, also when it does not let itself be cancelled.

A coroutine is cancelled by an exception that is raised in it. Code that catches everything catches that too, and goes
on; whoever awaits it then waits as long as it likes, and the time-out, the cancel and the stop of the worker with it.
Here such a coroutine runs in a task of its own. It is asked to stop, is given some time to, and is left to itself
after that, as a thread is that nobody can stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

__all__ = ["STOP_GRACE_S", "StillRunning", "within"]

log = structlog.get_logger("remanence.patience")

T = TypeVar("T")

STOP_GRACE_S = 3.0
"""How long a model or a tool may take to stop once it was cancelled; a stop of the worker waits for it."""

_left: set[asyncio.Task[Any]] = set()
"""Kept, because a loop only knows its tasks weakly."""


class StillRunning(TimeoutError):
    """It ran out of time, and did not stop when it was asked to."""


async def within(work: Coroutine[Any, Any, T], timeout_s: float, grace_s: float, name: str = "") -> T:
    """What `work` returns or raises, when it does so in time. Cancelled or out of time it has `grace_s` seconds to
    stop; what it returns then counts. `name` is for the log.

    Raises TimeoutError when it stopped, StillRunning when it did not; CancelledError when the caller was cancelled;
    RuntimeError for what `work` raises that is no `Exception`.
    """
    task = asyncio.get_running_loop().create_task(work, name=name or None)
    waiter, timer = _watch(task, timeout_s)
    try:
        await waiter
    except asyncio.CancelledError:
        if not await _stops(task, grace_s) or task.cancelled():
            raise
        return _result(task)
    finally:
        timer.cancel()
    if not task.done():
        if not await _stops(task, grace_s):
            raise StillRunning
        if task.cancelled():
            raise TimeoutError
    return _result(task)


def _result(task: asyncio.Task[T]) -> T:
    """What came of it. An error that passes for no `Exception` (a library in Rust that panicked, a generator that was
    closed) is one like any other to whoever waits here, and would be none to those who catch errors further on."""
    error = None if task.cancelled() else task.exception()
    if error is None or isinstance(error, Exception | KeyboardInterrupt | asyncio.CancelledError):
        return task.result()
    raise RuntimeError(f"{type(error).__name__}: {error}") from error


async def _stops(task: asyncio.Task[Any], grace_s: float) -> bool:
    """Ask it to stop; whether it did. One that did not is left to itself."""
    task.cancel()
    waiter, timer = _watch(task, grace_s)
    try:
        await waiter
    finally:
        timer.cancel()
        if not task.done():
            _leave(task)
    return task.done()


def _watch(task: asyncio.Task[Any], timeout_s: float) -> tuple[asyncio.Future[None], asyncio.TimerHandle]:
    """What is done when the task ends, or so many seconds have passed. Unlike the task itself, it may be cancelled."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    return waiter, loop.call_later(timeout_s, wake)


def _leave(task: asyncio.Task[Any]) -> None:
    log.warning("what does not stop when it is cancelled is left to itself; it still runs", what=task.get_name())
    _left.add(task)
    task.add_done_callback(_forget)
    # The end of the loop would wait for it, too. This is the documented way for it not to.
    asyncio._unregister_task(task)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _forget(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.info("what was left to itself has ended", error=repr(task.exception()))
