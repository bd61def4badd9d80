"""What a thread says reaches the event loop: all of it, in order, also what it said last."""

from __future__ import annotations

import asyncio
import threading

import pytest

from remanence.stores.sqlite.handover import Handover


async def test_what_a_thread_says_is_heard_in_order() -> None:
    heard: list[int] = []
    all_of_it = asyncio.Event()

    def tell(number: int) -> None:
        heard.append(number)
        if number == 999:
            all_of_it.set()

    handover = Handover(asyncio.get_running_loop(), tell)
    thread = threading.Thread(target=lambda: [handover.put(number) for number in range(1_000)])
    thread.start()
    await asyncio.wait_for(all_of_it.wait(), 30)
    thread.join()
    handover.close()
    assert heard == list(range(1_000))


async def test_what_was_said_last_is_told_at_the_end() -> None:
    heard: list[str] = []
    handover = Handover(asyncio.get_running_loop(), heard.append)
    handover.put("the last")  # no step of the loop lies between this and the end
    handover.close()
    assert heard == ["the last"]


def test_a_thread_learns_that_nobody_is_left_to_hear_it() -> None:
    loop = asyncio.new_event_loop()
    handover = Handover(loop, print)
    loop.close()
    with pytest.raises(RuntimeError):
        handover.put("anybody?")
