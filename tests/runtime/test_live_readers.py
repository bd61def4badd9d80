"""Readers of what happens now: nothing they are told is lost while they are busy with something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from msgspec.structs import replace

from remanence import Agent, Remanence
from remanence.api.lookout import Lookout
from remanence.api.stream import Batch, watch
from remanence.commands.follow import follow
from remanence.events import ModelCalled, ModelFailed, Recorded, TurnStarted
from remanence.ports import Delta, Live, Write
from remanence.runtime.live import Hub
from remanence.testing.clock import FakeClock

AGENT = Agent("greeter", model="scripted", instructions="Greet.")
RECORD = Recorded("s", 1, 0, 0, "a", TurnStarted(1, ()))


async def test_a_stir_that_came_while_nobody_waited_ends_the_next_wait() -> None:
    reader = Hub(FakeClock()).subscribe("s")
    reader.stir()
    assert await asyncio.wait_for(reader.take(15), 60) == []


async def test_what_was_taken_rings_for_nobody_any_more() -> None:
    clock = FakeClock()
    reader = Hub(clock).subscribe("s")
    reader.put([RECORD])
    assert await reader.take(15) == [RECORD]
    waiting = asyncio.create_task(reader.take(15))
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(15)
    assert await waiting == []


class Stirred:
    """The live hub of a process, as its lookout sees it: says when somebody was stirred."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.times = 0
        self.once = asyncio.Event()

    def stir(self, session: str) -> None:
        self._live.stir(session)
        self.times += 1
        self.once.set()


async def test_what_another_process_wrote_while_a_stream_was_busy_is_not_left_for_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/both.db"
    async with Remanence(url, agents=[AGENT], worker=False) as here, Remanence(url, worker=False) as there:
        session = await here.open(AGENT)
        stirred = Stirred(here.caller.live)
        lookout = Lookout(replace(here.caller, live=stirred), every_s=0.005)
        async with aclosing(watch(here.caller, session.id, after=0, lookout=lookout)) as batches:
            assert [record.position for record in (await anext(batches)).records] == [1]
            await (await there.get(session.id)).submit("Hello.")  # the stream is busy: nobody waits in it
            await asyncio.wait_for(stirred.once.wait(), 60)
            async with asyncio.timeout(60):
                heard = await _first_of(batches)
        assert heard == 2


async def _first_of(batches: AsyncGenerator[Batch]) -> int:
    async for batch in batches:
        for record in batch.records:
            return record.position
    return 0


async def test_who_has_seen_everything_is_left_alone(tmp_path: Path) -> None:
    """What this process wrote reached its readers by itself: they are not sent to the journal for it."""
    async with Remanence(f"sqlite:///{tmp_path}/one.db", agents=[AGENT], worker=False) as rt:
        session = await rt.open(AGENT)
        stirred = Stirred(rt.caller.live)
        lookout = Lookout(replace(rt.caller, live=stirred), every_s=0.005)
        with lookout.following(session.id, lambda: 1):
            head = asyncio.Event()
            with lookout.following(session.id, lambda: head.set() or 1):
                await asyncio.wait_for(head.wait(), 60)
        assert stirred.times == 0


async def test_pieces_of_an_attempt_that_the_journal_knows_to_be_over_are_not_those_of_the_next(tmp_path: Path) -> None:
    """Who polls may have read of the second attempt before the last pieces of the first one came."""
    async with Remanence(f"sqlite:///{tmp_path}/one.db", agents=[AGENT], worker=False) as rt:
        session = await rt.open(AGENT)
        first = ModelCalled("call_1", 1, "scripted", 1, 2, "")
        events = (TurnStarted(1, ()), first, ModelFailed("call_1", "provider", "cut"), replace(first, attempt=2))
        await rt.database.store.append(Write(session.id, events, 5, "worker:1"))
        async with aclosing(follow(rt.caller, session.id)) as items, asyncio.timeout(60):
            read = [await anext(items) for _ in range(5)]
            assert [item.position for item in read if isinstance(item, Recorded)] == [1, 2, 3, 4, 5]
            rt.caller.live.publish(session.id, Delta("call_1", 0, "text", "the end of the first", 1))
            rt.caller.live.publish(session.id, Delta("call_1", 0, "text", "the second", 2))
            assert await anext(items) == Delta("call_1", 0, "text", "the second", 2)


async def test_a_model_that_was_given_up_says_nothing_more_in_the_name_of_the_next_attempt() -> None:
    hub = Hub(FakeClock())
    called = ModelCalled("call_1", 1, "scripted", 1, 2, "")
    for position, event in enumerate((called, replace(called, attempt=2)), start=1):
        hub.publish("s", Recorded("s", position, 0, 0, "a", event))
    for attempt, text in ((1, "late"), (2, "new")):
        hub.publish("s", Delta("call_1", 0, "text", text, attempt))
    running = hub.running("s")
    assert running is not None
    assert [*running.parts] == [("text", "new")]
