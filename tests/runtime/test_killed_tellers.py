"""Workers that are killed in mid-stream, really, and readers in another process: of the Agents API, and in Python.

A reader hears each attempt from its beginning, while it is said; what was said by a worker that died is closed, and
what is settled is what the journal says.
"""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from remanence import Agent, Remanence
from remanence.api.agents.stream import SessionStream, StreamChoice
from remanence.api.lookout import Lookout
from remanence.api.stream import Place
from remanence.commands.follow import follow
from remanence.events import ModelCalled, ModelFailed, ModelReplied, Recorded
from remanence.ports import Delta
from remanence.testing.heard import Frame, Heard, parsed

SCRIPT = Path(__file__).with_name("telling.py")
AGENT = Agent("teller", model="telling")
WORDS = ("once ", "upon ", "a ", "time ")
IDLE = "agent.session.idle"
WAIT_S = 60
PIECES = 40


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@asynccontextmanager
async def worker(url: str, *telling: str) -> AsyncIterator[Process]:
    """A worker process that is ready; it is killed in the end."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(SCRIPT), url, *telling, stdout=PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class Reading:
    """Reads a session in both ways."""

    def __init__(self, rt: Remanence, session: str) -> None:
        self.frames: list[Frame] = []
        self.items: list[Recorded | Delta] = []
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(one) for one in (self._stream(rt, session), self._follow(rt, session))]

    async def _stream(self, rt: Remanence, session: str) -> None:
        stream = SessionStream(rt.caller, session, StreamChoice(obfuscation=False))
        try:
            await stream.begin(Place(0, 0))
            async for batch in stream.frames(Lookout(rt.caller)):
                self.frames += map(parsed, batch)
                self._news.set()
        finally:
            stream.close()

    async def _follow(self, rt: Remanence, session: str) -> None:
        async with aclosing(follow(rt.caller, session)) as items:
            async for item in items:
                self.items.append(item)
                self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                failed = [task for task in self._tasks if task.done()]
                assert not failed, failed
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def has_heard(self, word: str, count: int) -> bool:
        streamed = "".join(frame.event.get("delta", "") for frame in self.frames)
        followed = "".join(item.text for item in self.items if isinstance(item, Delta))
        return min(streamed.count(word), followed.count(word)) >= count

    def is_idle(self) -> bool:
        return any(frame.type == IDLE for frame in self.frames)


@pytest.mark.parametrize("seed", range(2))
async def test_whoever_reads_elsewhere_hears_each_attempt_and_what_is_settled(url: str, seed: int) -> None:
    dice = random.Random(seed)
    async with Remanence(url, agents=[AGENT], worker=False) as rt:
        session = await rt.open(AGENT)
        reading = Reading(rt, session.id)
        await session.submit("Tell me.")
        heard: list[int] = []
        for word in WORDS[:-1]:  # each is said until its worker is killed, however late that is
            async with worker(url, word) as process:
                heard.append(dice.randint(1, PIECES // 2))
                await reading.until(lambda word=word: reading.has_heard(word, heard[-1]))
                process.kill()
                await process.wait()
        async with worker(url, WORDS[-1], str(PIECES)):
            await reading.until(reading.is_idle)
        late = Reading(rt, session.id)
        await late.until(late.is_idle)
        for one in (reading, late):
            await one.close()
        journal = await rt.database.store.read(session.id)
    records = [item for item in reading.items if isinstance(item, Recorded)]
    assert records == [*journal][: len(records)]
    check_attempts(reading.items, heard)
    read, whole = settled(reading.frames), settled(late.frames)
    assert (read.order, read.done) == (whole.order, whole.done)
    assert [*whole.done.values()] == [WORDS[-1] * PIECES]
    assert not read.begun


def settled(frames: list[Frame]) -> Heard:
    ids = [frame.id for frame in frames]
    assert len(ids) == len(set(ids)), "an event came twice"
    heard = Heard()
    for frame in frames:
        heard.add(frame)
    return heard


def check_attempts(items: list[Recorded | Delta], heard: list[int]) -> None:
    """Each attempt was heard from its beginning, between its records, and as far as it was before it was killed."""
    said: list[str] = []
    runs = False
    for item in items:
        match item if isinstance(item, Delta) else item.event:
            case ModelCalled():
                said.append("")
                runs = True
            case ModelFailed() | ModelReplied():
                runs = False
            case Delta(text=text):
                assert runs, "a piece of no running call"
                said[-1] += text
            case _:
                pass
    assert len(said) == len(WORDS)
    for word, text in zip(WORDS, said, strict=True):
        assert (word * len(text)).startswith(text)
    assert all(text.count(word) >= count for word, text, count in zip(WORDS, said, heard, strict=False))
