"""The end of a command whose tools do not end.

A coroutine that swallows its cancellation, and a thread that a tool began, would hold up the end of the event loop and
that of the interpreter for ever. Once everything of ours is closed, or when Ctrl-C is pressed a second time, nothing is
left to wait for: the journal has the intents of what was cut off. The process goes then, past both.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NoReturn, TypeVar

from remanence.cli.output import note
from remanence.cli.watchdog import follows
from remanence.runtime.running import Running

__all__ = ["cut_off", "go", "leave_behind", "run"]

T = TypeVar("T")
_LATE_S = 1.0

_left_behind: list[str] = []
"""What still runs in this process and will not be waited for."""


def cut_off(calls: Sequence[Running]) -> None:
    """Say which calls did not finish in time; this process will not wait for them."""
    for call in calls:
        note(f"The call {follows(call)}: it did not finish in time.")
        _left_behind.append(call.effect_key)


def leave_behind(what: str) -> None:
    """Do not wait for something that still runs in this process."""
    _left_behind.append(what)


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, but nothing that was left behind is waited for."""
    runner = asyncio.Runner()
    here = threading.current_thread() is threading.main_thread()
    heard = here and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not when it is to be ignored
    outcome: list[T] = []

    async def main() -> None:
        with _interrupts() if heard else nullcontext():
            outcome.append(await work)

    try:
        runner.run(main())
    finally:
        if not _left_behind:
            runner.close()
    if not outcome:
        raise KeyboardInterrupt
    return outcome[0]


@contextmanager
def _interrupts() -> Generator[None]:
    """Let the first Ctrl-C cancel the task at hand, and a second one leave its loop. What it is interrupted in is over.

    The second is raised by the loop and not, as asyncio has it, wherever the process happens to be: in the middle of an
    end in order it would be one more reason to end in order, and what that waits for would be waited for after all.
    Where the loop does not come to it, a tool holds it up: then it is raised there.
    """
    task, loop, times = asyncio.current_task(), asyncio.get_running_loop(), 0
    late = threading.Timer(_LATE_S, os.kill, (os.getpid(), signal.SIGINT))
    late.daemon = True

    def heard(number: int, frame: object) -> None:
        nonlocal times
        times += 1
        if times == 1 and task is not None:
            task.cancel()
            loop.call_soon_threadsafe(_awake)
        elif times == 2:
            leave_behind("the loop")
            late.start()
            loop.call_soon_threadsafe(_interrupt)
        else:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield
    except (asyncio.CancelledError, KeyboardInterrupt):
        if not times:
            raise
    finally:
        late.cancel()
        signal.signal(signal.SIGINT, before)


def _awake() -> None:
    """The loop looks at what there is to do."""


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


def go(code: int) -> NoReturn:
    """Leave with this exit code."""
    if _left_behind:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whoever read it may have left
                stream.flush()
        os._exit(code)
    sys.exit(code)
