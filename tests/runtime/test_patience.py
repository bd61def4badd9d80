"""Other people's code is waited for as long as agreed: what it does when it is told to stop, and what comes of it."""

from __future__ import annotations

import asyncio

import pytest

from remanence.patience import StillRunning, within


async def lingers(stop: asyncio.Event, *, after: str) -> str:
    """What a function may do when it is cancelled: let itself be, speak, raise, or stay."""
    try:
        await stop.wait()
    except asyncio.CancelledError:
        match after:
            case "speaks":
                return "cleaned up"
            case "raises":
                raise ValueError("no") from None
            case "stays":
                await stop.wait()
            case _:
                raise
    return "stopped at last"


async def test_what_ends_in_time_is_what_it_is() -> None:
    stop = asyncio.Event()
    stop.set()
    assert await within(lingers(stop, after="ends"), 5, 5) == "stopped at last"


async def test_what_is_out_of_time_may_still_speak() -> None:
    stop = asyncio.Event()
    assert await within(lingers(stop, after="speaks"), 0.01, 5) == "cleaned up"
    with pytest.raises(ValueError, match="no"):
        await within(lingers(stop, after="raises"), 0.01, 5)
    with pytest.raises(TimeoutError) as out_of_time:
        await within(lingers(stop, after="ends"), 0.01, 5)
    assert not isinstance(out_of_time.value, StillRunning)


async def test_what_does_not_stop_is_left_to_itself_and_the_loop_can_end() -> None:
    stop, before = asyncio.Event(), asyncio.all_tasks()
    with pytest.raises(StillRunning):
        await within(lingers(stop, after="stays"), 0.01, 0.01, "a stubborn one")
    assert asyncio.all_tasks() == before
    stop.set()


@pytest.mark.parametrize(("after", "said"), [("speaks", "cleaned up"), ("ends", None), ("stays", None)])
async def test_a_caller_that_is_cancelled_passes_it_on(after: str, said: str | None) -> None:
    stop = asyncio.Event()
    caller = asyncio.create_task(within(lingers(stop, after=after), 60, 0.01))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    assert (None if caller.cancelled() else caller.result()) == said
    stop.set()
