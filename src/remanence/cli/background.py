"""An event loop in a thread of its own, so that the main thread can sit at a prompt while sessions go on.

The prompt stays in the main thread because line editing and Ctrl-C belong to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Self, TypeVar

import click
from click.globals import push_context

from remanence.cli.leaving import leave_behind

__all__ = ["Background"]

T = TypeVar("T")


class Background:
    """A running event loop. Use it as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._context = click.get_current_context()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is KeyboardInterrupt:
            leave_behind("the loop")  # Ctrl-C while it was closing: at once
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        # What was asked for on the command line is known by thread.
        push_context(self._context)
        self._loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop and wait. Ctrl-C cancels it, waits until it is over, and is raised then."""
        answer: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = self._loop.create_task(work)
            tasks.append(task)
            task.add_done_callback(lambda done: _settle(answer, done))

        self._loop.call_soon_threadsafe(begin)
        try:
            return answer.result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            with suppress(CancelledError):
                answer.result()
            raise


def _settle(answer: Future[T], done: asyncio.Task[T]) -> None:
    if done.cancelled():
        answer.set_exception(CancelledError())
    elif (error := done.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())
