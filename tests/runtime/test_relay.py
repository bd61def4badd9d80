"""What happens in one process, heard in another: two runtimes over one database, and the real bus between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remanence import Agent, Remanence, tool
from remanence.app import Options, open_database
from remanence.commands.follow import follow
from remanence.content import Part, Text, Thinking, Usage
from remanence.errors import ModelError
from remanence.events import Event, ModelCalled, ModelFailed, ModelReplied, Recorded, TurnEnded
from remanence.ports import Bus, Delta, DeltaKind, ModelReply, ModelRequest, OnDelta
from remanence.runtime.around import DatabaseAround
from remanence.runtime.services import Times
from remanence.testing.bus import UnreliableBus
from remanence.testing.clock import LeapingClock
from remanence.testing.postgres import postgres_database

TIMES = Times(lease_s=20.0, linger_s=0.05, drain_s=0.1, poll_s=0.02, retry_base_s=0.001, retry_cap_s=0.002)
WAIT_S = 60


@dataclass
class Voice:
    """A model that says what it is let: pieces of `parts`, and one more for the end. The first so many calls break."""

    parts: Sequence[Part] = (Text("one two three four"),)
    breaks: int = 0
    cut: int = 4
    calls: int = 0
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def let(self, pieces: int) -> None:
        for _ in range(pieces):
            self.gate.release()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        self.calls += 1
        assert on_delta is not None
        for index, kind, text in self.pieces():
            await self.gate.acquire()
            on_delta(index, kind, text)
        await self.gate.acquire()
        if self.calls <= self.breaks:
            raise ModelError("the line broke", kind="connection")
        return ModelReply(tuple(self.parts), Usage(3, 5), stop="stop")

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0

    def pieces(self) -> Iterator[tuple[int, DeltaKind, str]]:
        for index, part in enumerate(self.parts):
            assert isinstance(part, Text | Thinking)
            for at in range(0, len(part.text), self.cut):
                yield index, "text" if isinstance(part, Text) else "thinking", part.text[at : at + self.cut]


class Counting:
    """A bus that counts what is sent on it, and lets nothing through when it is told to."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self.sent, self.mute = bus, 0, False
        self.name, self.bytes_max = bus.name, bus.bytes_max
        self.listen, self.close = bus.listen, bus.close

    def send(self, message: bytes, *, to: str = "") -> None:
        self.sent += 1
        if not self.mute:
            self._bus.send(message, to=to)


@tool
async def seen_by_ada() -> str:
    """A function that only one process has: so the other one cannot drive her sessions."""
    return ""


@tool
async def seen_by_bob() -> str:
    """As that of ada."""
    return ""


HERE = {"ada": seen_by_ada, "bob": seen_by_bob}


class Place:
    """A database with agents, and runtimes over it."""

    def __init__(self, url: str) -> None:
        self.url, self.clock = url, LeapingClock()

    @asynccontextmanager
    async def runtime(
        self, voice: Voice | None = None, around: Callable[[Bus], Bus] | None = None, agent: str = "ada"
    ) -> AsyncIterator[Remanence]:
        """One that works when it has a voice."""
        database = await open_database(self.url)
        given = DatabaseAround(database)
        given.bus = around(database.bus) if around is not None else database.bus
        options = Options(times=TIMES, clock=self.clock, database=given)
        agents = [Agent(agent, model="voice", tools=[HERE[agent]])]
        models = {"voice": voice or Voice()}
        try:
            async with Remanence(agents=agents, models=models, worker=voice is not None, options=options) as rt:
                yield rt
        finally:
            await database.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "sqlite":
        yield Place(f"sqlite:///{tmp_path_factory.mktemp('relay')}/a.db")
        return
    with postgres_database(request.getfixturevalue("postgres_url")) as url:
        yield Place(url)


class Ear:
    """Follows a session and keeps what it heard."""

    def __init__(self, rt: Remanence, session: str) -> None:
        self.items: list[Recorded | Delta] = []
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow(rt, session))

    async def _follow(self, rt: Remanence, session: str) -> None:
        async with aclosing(follow(rt.caller, session)) as items:
            async for item in items:
                self.items.append(item)
                self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, Delta))

    @property
    def events(self) -> list[Event]:
        return [item.event for item in self.items if isinstance(item, Recorded)]

    def is_over(self) -> bool:
        return any(isinstance(event, TurnEnded) for event in self.events)


@asynccontextmanager
async def hearing(rt: Remanence, session: str) -> AsyncIterator[Ear]:
    ear = Ear(rt, session)
    try:
        yield ear
    finally:
        await ear.close()


async def test_pieces_come_while_the_reply_is_being_said(place: Place) -> None:
    voice = Voice()
    async with place.runtime(voice) as there, place.runtime() as here:
        session = await there.open("ada")
        async with hearing(here, session.id) as ear:
            await session.submit("Say it.")
            voice.let(2)
            await ear.until(lambda: ear.text == "one two ")
            running = here.caller.live.running(session.id)
            assert running is not None
            assert [*running.parts] == [("text", "one two ")]
            assert not any(isinstance(event, ModelReplied) for event in ear.events)
            voice.let(9)
            await ear.until(ear.is_over)
        assert here.caller.live.running(session.id) is None
        assert "one two three four".startswith(ear.text)
        heard = [type(item).__name__ if isinstance(item, Delta) else type(item.event) for item in ear.items]
        assert heard.index("Delta") > heard.index(ModelCalled)
        assert [item.position for item in ear.items if isinstance(item, Recorded)] == [*range(1, len(ear.events) + 1)]


async def test_whoever_comes_late_hears_what_was_said_before(place: Place) -> None:
    voice = Voice()
    async with place.runtime(voice) as there, place.runtime() as here:
        session = await there.open("ada")
        async with hearing(there, session.id) as near:
            await session.submit("Say it.")
            voice.let(3)
            await near.until(lambda: near.text == "one two thre")
            async with hearing(here, session.id) as ear:
                await ear.until(lambda: ear.text == "one two thre")
                voice.let(9)
                await ear.until(ear.is_over)


async def test_a_worker_that_vanishes_takes_its_pieces_along(place: Place) -> None:
    """The next attempt is heard from its beginning, and nothing of the first one after that."""
    first, second = Voice((Text("never finished"),)), Voice((Text("said at last"),))
    async with place.runtime() as here, place.runtime(first) as there:
        session = await there.open("ada")
        async with hearing(here, session.id) as ear:
            await session.submit("Say it.")
            first.let(2)
            await ear.until(lambda: ear.text == "never fi")
            assert there.worker is not None
            await there.worker.abandon()
            place.clock.leap(TIMES.lease_s)
            async with place.runtime(second):
                second.let(2)
                await ear.until(lambda: ear.text == "never fisaid at ")
                running = here.caller.live.running(session.id)
                assert running is not None
                assert (running.attempt, [*running.parts]) == (2, [("text", "said at ")])
                second.let(9)
                await ear.until(ear.is_over)
            kinds = (ModelCalled, ModelFailed, ModelReplied)
            told = [type(event) for event in ear.events if isinstance(event, kinds)]
            assert told == [ModelCalled, ModelFailed, ModelCalled, ModelReplied]


async def test_where_nobody_else_reads_nothing_is_sent(place: Place) -> None:
    """Readers in the worker's own process, and another worker that is there, cost a turn no message."""
    voice, buses = Voice(), list[Counting]()

    def counted(bus: Bus) -> Bus:
        buses.append(Counting(bus))
        return buses[-1]

    async with place.runtime(voice, counted) as rt:
        session = await rt.open("ada")
        voice.let(100)
        await session.send("Say it.")
        before = buses[0].sent
        for _ in range(3):
            async for _item in session.send("Say it."):
                pass
        assert buses[0].sent == before


async def test_two_that_work_read_each_other_and_themselves(place: Place) -> None:
    voices = {"ada": Voice((Text("this is ada"),)), "bob": Voice((Text("this is bob"),))}
    async with place.runtime(voices["ada"]) as one, place.runtime(voices["bob"], agent="bob") as two:
        sessions = {"ada": await one.open("ada"), "bob": await two.open("bob")}
        async with AsyncExitStack() as held:
            ears = [
                (name, await held.enter_async_context(hearing(rt, session.id)))
                for name, session in sessions.items()
                for rt in (one, two)
            ]
            for name, session in sessions.items():
                await session.submit("Say it.")
                voices[name].let(2)
            for name, ear in ears:
                await ear.until(lambda ear=ear, name=name: ear.text == f"this is {name}"[:8])
            for voice in voices.values():
                voice.let(9)
            for _, ear in ears:
                await ear.until(ear.is_over)


async def test_a_reader_that_vanished_is_told_nothing_after_a_while(place: Place) -> None:
    voice, buses = Voice(), list[Counting]()

    def counted(bus: Bus) -> Bus:
        buses.append(Counting(bus))
        return buses[-1]

    async with place.runtime(voice, counted) as there, place.runtime(None, counted) as here:
        session = await there.open("ada")
        async with hearing(here, session.id) as ear:
            await session.submit("Say it.")
            voice.let(2)
            await ear.until(lambda: ear.text == "one two ")
            voice.let(9)
            await ear.until(ear.is_over)
            buses[1].mute = True
        told: list[int] = []
        for _ in range(3):  # what was on its way before a leap may still arrive after it
            place.clock.leap(11)
            before = buses[0].sent
            voice.let(9)
            await session.send("Say it.")
            told.append(buses[0].sent - before)
        assert told[-1] == 0


DEEP = settings.get_current_profile_name() == "deep"
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
replies = st.lists(st.one_of(texts.map(Text), texts.map(Thinking)), min_size=1, max_size=3)


class Pair:
    """One that works and one that reads, with a bus between them that does its worst."""

    def __init__(self, place: Place, runner: asyncio.Runner) -> None:
        self.voice, self.dice, self.heard = Voice(), random.Random(7), 0
        self.runner, self._place, self._open = runner, place, AsyncExitStack()

    async def open(self) -> None:
        self.there = await self._open.enter_async_context(self._place.runtime(self.voice))
        reader = self._place.runtime(None, lambda bus: UnreliableBus(bus, self.dice))
        self.here = await self._open.enter_async_context(reader)

    async def close(self) -> None:
        await self._open.aclose()


@pytest.fixture(scope="module")
def pair(place: Place) -> Iterator[Pair]:
    with asyncio.Runner() as runner:
        made = Pair(place, runner)
        runner.run(made.open())
        yield made
        runner.run(made.close())
    assert made.heard, "no piece came through at all"


@settings(max_examples=300 if DEEP else 12)
@given(replies, st.integers(0, 2), st.integers(0, 2**32))
@example([Text("".join(map(str, range(1_000)))), Thinking("'\"\\\x00\n" * 400)], 1, 3)
def test_whatever_the_bus_does_to_messages_the_reader_hears_no_gap(
    pair: Pair, parts: Sequence[Part], breaks: int, seed: int
) -> None:
    pair.runner.run(_law(pair, parts, breaks, seed))


async def _law(pair: Pair, parts: Sequence[Part], breaks: int, seed: int) -> None:
    voice, dice = pair.voice, random.Random(seed)
    voice.parts, voice.breaks, voice.calls, voice.gate = parts, breaks, 0, asyncio.Semaphore(0)
    voice.cut = max(3, sum(len(text) for _, _, text in voice.pieces()) // 20)
    pair.dice.seed(seed)
    session = await pair.there.open("ada")
    async with hearing(pair.here, session.id) as ear:
        await session.submit("Say it.")
        while not ear.is_over():
            voice.let(dice.randint(0, 3))
            with suppress(TimeoutError):
                async with asyncio.timeout(dice.choice((0.001, 0.02, 0.05))):
                    await ear.until(ear.is_over)
    records = [item for item in ear.items if isinstance(item, Recorded)]
    assert records == [*await pair.there.database.store.read(session.id)]
    _check_pieces(ear.items, parts)
    pair.heard += len(ear.text)


def _check_pieces(items: Sequence[Recorded | Delta], parts: Sequence[Part]) -> None:
    """Of each attempt, the pieces stand between its records, and are a beginning of what it said."""
    said = [part.text for part in parts if isinstance(part, Text | Thinking)]
    heard: dict[int, str] | None = None
    for item in items:
        match item if isinstance(item, Delta) else item.event:
            case ModelCalled():
                heard = {}
            case ModelReplied() | ModelFailed():
                heard = None
            case Delta(index=index, text=text):
                assert heard is not None, "a piece of no running call"
                heard[index] = heard.get(index, "") + text
                told = [heard.get(number, "") for number in range(len(said))]
                assert said[index].startswith(told[index])
                assert told[:index] == said[:index], "a gap"
            case _:
                pass
