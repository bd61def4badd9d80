"""One law for the streams of both faces on both stores: however a stream is cut, what was read is what was said.

Cuts come after any event and after any byte, any number of times; the reader goes on by `Last-Event-ID` or by
`starting_after`, or by the very request that began it, on the same server or on another; the model's connection breaks
in mid-reply, the server that works is killed in mid-turn, or ends in order and starts again. Then three readers have
the same settled content: the one that was cut, one that was never cut, and one that comes when all is over. And it is
what the journal says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Literal, NamedTuple, Protocol

import pytest
from cutting import Event, Line, Request, Stage, Told, events_in
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_response_fold import joined
from typist import Frame, settled_of

from remanence.content import Part, Text, Thinking
from remanence.events import ModelReplied
from remanence.testing.postgres import postgres_database

DEEP = settings.get_current_profile_name() == "deep"
Server = Literal["near", "far"]
How = Literal["header", "query", "again"]
"""`again`: what began the stream is sent again under its key, where it was a request of its own."""

# --- the two faces ----------------------------------------------------------------------------------------------------


class Face(Protocol):
    """How one of the vendors' formats is begun, gone on with, and read."""

    session: str

    async def begin(self, stage: Stage) -> Line: ...

    def follow(self, stage: Stage, after: str, where: Server, how: How) -> Line:
        """The stream after an event; after none, from the very beginning."""
        ...

    def is_over(self, events: Sequence[Event]) -> bool: ...

    def settled(self, events: Sequence[Event]) -> tuple[Any, list[str]]:
        """What every reader must have alike, and of it the texts that were completed, as their pieces make them.

        Raises AssertionError for what came twice, and for an item that was begun, and neither completed nor given up.
        """
        ...


class Agents:
    """The events of a session of the Agents API."""

    session = ""

    async def begin(self, stage: Stage) -> Line:
        opened = await stage.near.open(stage.agent)
        self.session = opened.id
        line = self.follow(stage, "", "near", "query")
        await opened.submit("Say it.")
        return line

    def follow(self, stage: Stage, after: str, where: Server, how: How) -> Line:
        path = f"/v1/agents/sessions/{self.session}/events"
        return _going_on(stage, path, after or "0.0", where, how, include_obfuscation="false")

    def is_over(self, events: Sequence[Event]) -> bool:
        return any(event["type"] == "agent.session.idle" for _, event in events)

    def settled(self, events: Sequence[Event]) -> tuple[Any, list[str]]:
        order, texts, begun = settled_of([Frame(name, event) for name, event in events])
        assert not begun, "an item was begun, and neither completed nor closed"
        ids = [name for name, _ in events if "~" not in name]
        assert len(ids) == len(set(ids)), "an event came twice"
        return (order, texts), [text for text in texts.values() if text]


class Opened(Agents):
    """The same as the answer to the request that opened it."""

    async def begin(self, stage: Stage) -> Line:
        self._key = stage.near.caller.make_id("key")
        line = self._made(stage, "", "near")
        self.session = (await line.event())[1]["session"]["id"]
        return line

    def _made(self, stage: Stage, after: str, where: Server) -> Line:
        body = {"agent_id": "ada", "environment": {"type": "none"}, "input": "Say it.", "stream": True}
        return _said_again(stage, "/v1/agents/sessions", after, where, self._key, body)

    def follow(self, stage: Stage, after: str, where: Server, how: How) -> Line:
        if how == "again":
            return self._made(stage, after, where)
        return super().follow(stage, after, where, how)


class Responses:
    """The events of a stored response: those of the request that makes it, then those that are asked for."""

    session = ""
    _id = ""

    async def begin(self, stage: Stage) -> Line:
        self._key = stage.near.caller.make_id("key")
        line = self._made(stage, "", "near")
        self._id = (await line.event())[1]["response"]["id"]
        self.session = line.headers["x-session-id"]
        return line

    def _made(self, stage: Stage, after: str, where: Server) -> Line:
        body = {"model": "ada", "input": "Say it.", "stream": True}
        return _said_again(stage, "/v1/responses", after, where, self._key, body)

    def follow(self, stage: Stage, after: str, where: Server, how: How) -> Line:
        if how == "again":
            return self._made(stage, after, where)
        return _going_on(stage, f"/v1/responses/{self._id}", after, where, how, stream="true")

    def is_over(self, events: Sequence[Event]) -> bool:
        return any(event["type"] == "response.completed" for _, event in events)

    def settled(self, events: Sequence[Event]) -> tuple[Any, list[str]]:
        numbers = [event["sequence_number"] for _, event in events]
        assert numbers == sorted(set(numbers)), "an event came twice, or in another order"
        assert [name for name, _ in events] == [str(number) for number in numbers]
        kinds = ("response.output_item.added", "response.output_item.done")
        begun, ended = ([e["item"]["id"] for _, e in events if e["type"] == kind] for kind in kinds)
        assert len(ended) == len(set(ended)), "an item ended twice"
        # Who was away while an attempt was lost is not told: what it had begun is not in the final response.
        kept = {item["id"] for item in events[-1][1]["response"]["output"]}
        assert kept <= set(ended), "an item of the response never ended"
        assert not kept & (set(begun) - set(ended))
        texts, others = joined([event for _, event in events])
        return (texts, others), [text for (_, kind), text in texts.items() if "arguments" not in kind]


def _said_again(stage: Stage, path: str, after: str, where: Server, key: str, body: Any) -> Line:
    app = stage.near_app if where == "near" else stage.far_app
    heard = {"last-event-id": after} if after else {}
    return stage.call(app, Request("POST", path, {}, {"idempotency-key": key, **heard}, body))


def _going_on(stage: Stage, path: str, after: str, where: Server, how: How, **query: str) -> Line:
    app = stage.near_app if where == "near" else stage.far_app
    headers = {"last-event-id": after} if after and how != "query" else {}
    if after and how == "query":
        query["starting_after"] = after
    return stage.call(app, Request("GET", path, query, headers))


class Reader:
    """Somebody who reads a stream to its end, over as many connections as it takes."""

    def __init__(self, stage: Stage, face: Face, line: Line) -> None:
        self._stage, self._face = stage, face
        self._line = line
        self._kept: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return [*self._kept, *events_in(self._line.raw)]

    async def cut(self, cut: Cut) -> None:
        """Break the connection. Of what it brought, a part arrived: so many of its events, or of its bytes."""
        await self._line.hang_up()
        raw, brought = self._line.raw, events_in(self._line.raw)
        arrived = events_in(raw[: len(raw) * cut.part // 100])
        self._kept += brought[: len(brought) * cut.part // 100] if cut.whole else arrived
        self._go_on(cut.where, cut.how)

    async def hear(self, at_most_s: float) -> None:
        """Wait for more text, not for ever."""
        before = self._heard
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while self._heard == before and not self._line.over:
                    self._line.news.clear()
                    await self._line.news.wait()

    @property
    def _heard(self) -> int:
        return sum(len(event.get("delta", "")) for _, event in self.events)

    def again(self, how: How) -> None:
        """Go on with what is left, if the connection broke or the server ended it."""
        if self._line.over:
            assert self._line.status in (0, 200), self._line.raw[:500]
            self._kept = self.events
            self._go_on("near", how)

    def _go_on(self, where: Server, how: How) -> None:
        after = self._kept[-1][0] if self._kept else ""
        self._line = self._face.follow(self._stage, after, where, how)

    async def to_the_end(self) -> list[Event]:
        """Everything there is. Where a server ends the stream, the next one is asked for the rest."""
        while not self._face.is_over(self.events):
            self.again("again")
            self._line.news.clear()
            if not self._line.over:
                await self._line.news.wait()
        await self._line.hang_up()
        return self.events


# --- what happens -----------------------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """A connection breaks: what part of what it brought arrived, in events or bytes, and how the reader goes on."""

    part: int
    whole: bool
    where: Server
    how: How


class Step(NamedTuple):
    """The model says some more pieces; when the reader heard of it, or the time is over, something happens."""

    pieces: int
    at_most_s: float
    act: Cut | Literal["crash", "restart"] | None


class Plan(NamedTuple):
    """What the model says, and what happens meanwhile."""

    broken: Sequence[Sequence[Part]]
    first: Sequence[Part]
    last: Sequence[Part]
    looks: bool
    steps: Sequence[Step]


words = st.text(st.characters(categories=["L", "P", "Z", "S"]), min_size=1, max_size=12)
parts = st.lists(st.one_of(words.map(Text), words.map(Thinking)), min_size=1, max_size=2)
cuts = st.builds(
    Cut,
    st.integers(0, 100),
    st.booleans(),
    st.sampled_from(("near", "far")),
    st.sampled_from(("header", "query", "again")),
)
acts = st.one_of(st.none(), cuts, cuts, cuts, st.sampled_from(("crash", "restart")))
steps = st.builds(Step, st.integers(0, 3), st.sampled_from((0, 0.01, 0.2)), acts)
happenings = st.lists(steps, min_size=1, max_size=8)
plans = st.builds(Plan, st.lists(parts, max_size=2), parts, parts, st.booleans(), happenings)

SAID = (Thinking("Où donc?"), Text("Là-bas, im Süden."))
MEANWHILE = (
    Step(3, 0.5, Cut(61, False, "near", "header")),  # the first attempt, which breaks
    Step(20, 0.5, Cut(100, True, "far", "query")),  # the second
    Step(3, 0.5, "crash"),
    Step(4, 0.5, Cut(43, False, "far", "again")),  # the third, which is the reply
    Step(4, 0.5, Cut(100, True, "near", "header")),
    Step(4, 0.5, Cut(77, False, "far", "query")),
    Step(9, 0.5, None),  # its end, the tool, and the beginning of what is said then
    Step(3, 0.5, "restart"),
    Step(5, 0.5, Cut(88, False, "near", "again")),  # said again, to the end
    Step(5, 0.5, Cut(100, True, "near", "query")),
    Step(5, 0.5, Cut(99, False, "far", "header")),
)
"""A bit of everything, and cuts in the middle of texts that are completed."""


class On(NamedTuple):
    """A stage, and the loop in which it lives."""

    at: Stage
    runner: asyncio.Runner


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[On]:
    """A database of each kind, with two servers over it, in a loop of their own."""
    with ExitStack() as held:
        url = f"sqlite:///{tmp_path_factory.mktemp('cut')}/a.db"
        if request.param == "postgres":
            url = held.enter_context(postgres_database(request.getfixturevalue("postgres_url")))
        runner = held.enter_context(asyncio.Runner())
        made = Stage(url)
        runner.run(made.open())
        held.callback(lambda: runner.run(made.close()))
        yield On(made, runner)


@pytest.mark.parametrize("face", [Agents, Opened, Responses])
@settings(max_examples=500 if DEEP else 6)
@given(plan=plans)
@example(plan=Plan((SAID,), SAID, SAID, True, MEANWHILE))
def test_however_it_is_cut_it_is_what_was_said(stage: On, face: type[Agents | Opened | Responses], plan: Plan) -> None:
    stage.runner.run(_law(stage.at, face(), plan))


async def _law(stage: Stage, face: Face, plan: Plan) -> None:
    told = stage.voice.told = Told(plan.broken, plan.first, plan.last, plan.looks)
    async with asyncio.timeout(60):
        reader = Reader(stage, face, await face.begin(stage))
        listener = Reader(stage, face, face.follow(stage, "", "far", "query"))
        for step in plan.steps:
            told.let(step.pieces)
            await reader.hear(step.at_most_s)
            await _happens(stage, reader, step.act)
        told.let(10_000)
        read, heard = await reader.to_the_end(), await listener.to_the_end()
        late = await Reader(stage, face, face.follow(stage, "", "near", "query")).to_the_end()
        said = await _journaled(stage, face.session)
    whole, texts = face.settled(late)
    assert texts == said
    assert face.settled(read)[0] == whole
    assert face.settled(heard)[0] == whole


async def _happens(stage: Stage, reader: Reader, act: Cut | Literal["crash", "restart"] | None) -> None:
    match act:
        case Cut():
            await reader.cut(act)
        case "crash":
            await stage.crash()
            reader.again("query")
        case "restart":
            await stage.restart()
            reader.again("header")
        case None:
            pass


async def _journaled(stage: Stage, session: str) -> list[str]:
    """What the model said, as the journal has it."""
    records = await stage.near.database.store.read(session)
    replies = [record.event.parts for record in records if isinstance(record.event, ModelReplied)]
    return [part.text for parts in replies for part in parts if isinstance(part, Text | Thinking)]
