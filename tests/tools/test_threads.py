"""Blocking functions in threads: bounded, in order, cancelled before they start or let go while they run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from remanence.tools.threads import Threads


class Gate:
    """A function that runs until it is let through, and counts who is inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.opened.wait(60)
        with self._lock:
            self.inside -= 1
        return threading.get_ident()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


async def entered(gate: Gate) -> None:
    await until(lambda: gate.entered.acquire(blocking=False))


async def test_no_more_than_the_limit_run_at_once_and_all_run() -> None:
    threads, gate = Threads(3), Gate()
    tasks = [asyncio.create_task(threads.run(gate)) for _ in range(20)]
    for _ in range(3):
        await entered(gate)
    gate.opened.set()
    assert len(set(await asyncio.gather(*tasks))) <= 3
    assert gate.most == 3


async def test_threads_are_used_again() -> None:
    """Most of them: one that has just answered may not be back yet when the next call comes."""
    threads = Threads(64)
    idents = {await threads.run(threading.get_ident) for _ in range(40)}
    assert len(idents) < 40


async def test_a_call_cancelled_before_it_started_never_starts() -> None:
    threads, gate, ran = Threads(1), Gate(), list[int]()
    first = asyncio.create_task(threads.run(gate))
    await entered(gate)
    second = asyncio.create_task(threads.run(lambda: ran.append(2)))
    third = asyncio.create_task(threads.run(lambda: ran.append(3)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.opened.set()
    await asyncio.gather(first, third)
    assert ran == [3]


async def test_a_call_nobody_waits_for_gives_its_place_up() -> None:
    threads, gate = Threads(1), Gate()
    hung = asyncio.create_task(threads.run(gate))
    await entered(gate)
    waiting = asyncio.create_task(threads.run(lambda: "served"))
    await asyncio.sleep(0)
    hung.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung
    assert await waiting == "served"
    assert gate.inside == 1
    gate.opened.set()
    await until(lambda: not threads._abandoned)
    assert gate.inside == 0

    again = Gate()
    tasks = [asyncio.create_task(threads.run(again)) for _ in range(3)]
    await entered(again)
    again.opened.set()
    await asyncio.gather(*tasks)
    assert again.most == 1


def test_one_pool_serves_several_loops() -> None:
    threads = Threads(2)
    for number in range(3):
        assert asyncio.run(threads.run(lambda number=number: number)) == number
