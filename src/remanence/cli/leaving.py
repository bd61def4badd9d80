"""The end of a command whose tools do not end.

A coroutine that swallows its cancellation, and a thread that a tool began, would hold up the end of the event loop and
that of the interpreter for ever. Once everything of ours is closed, or when Ctrl-C is pressed a second time, nothing is
left to wait for: the journal has the intents of what was cut off. The process goes then, past both.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from remanence.cli.output import note
from remanence.cli.watchdog import follows
from remanence.runtime.running import Running

__all__ = ["cut_off", "go", "leave_behind", "run"]

T = TypeVar("T")

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
    over = False

    async def main() -> T:
        nonlocal over
        try:
            return await work
        finally:
            over = True

    try:
        return runner.run(main())
    finally:
        if not over:
            _left_behind.append("the loop")  # Ctrl-C a second time: at once
        if not _left_behind:
            runner.close()


def go(code: int) -> NoReturn:
    """Leave with this exit code."""
    if _left_behind:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whoever read it may have left
                stream.flush()
        os._exit(code)
    sys.exit(code)
