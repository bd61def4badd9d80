"""Streams of the Agents API: cut anywhere, any number of times, and what was read is what was said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from typist import Attempt, Frame, Reader, Typist, parsed, reading, settled_of, told

from remanence import Remanence
from remanence.api.agents.stream import SessionStream
from remanence.api.lookout import Lookout
from remanence.api.stream import BEAT_S, COALESCE_S, Place, event_id, mark_of
from remanence.app import Options
from remanence.content import Text, Thinking
from remanence.errors import InvalidInput
from remanence.ports import Database, DeltaKind
from remanence.runtime.services import Times
from remanence.spec import AgentSpec, ToolSpec

IDLE = "agent.session.idle"
TIMES = Times(lease_s=3.0, linger_s=0.1, drain_s=1.0, poll_s=0.02, retry_base_s=0.001, retry_cap_s=0.002)
SPEC = AgentSpec("ada", "typist", tools=(ToolSpec("look", kind="client", replay="safe"),))


def runtime(folder: Path | str, typist: Typist, *, worker: bool = True) -> Remanence:
    return Remanence(
        f"sqlite:////{folder}/a.db", models={"typist": typist}, worker=worker, options=Options(times=TIMES)
    )


async def everything(rt: Remanence, session: str) -> list[Frame]:
    """The stream from the very beginning, when all is over: settled, and nothing else."""
    async with reading(rt, session, "0.0") as reader:
        await reader.until(IDLE)
        await asyncio.sleep(0)
        return list(reader.frames)


def texts_said(frames: list[Frame]) -> dict[str, str]:
    """The whole text of every item that was completed, as its last event has it."""
    said: dict[str, str] = {}
    for frame in frames:
        item = frame.event.get("item", {})
        if frame.type == "agent.session.turn.item.done" and item["type"] in ("message", "reasoning"):
            content = item.get("content") or item.get("summary") or []
            if item["status"] == "completed":
                said[item["id"]] = "".join(part["text"] for part in content)
    return said


# --- the law ----------------------------------------------------------------------------------------------------------

words = st.text(st.characters(categories=["L", "P", "Z", "S"]), min_size=1, max_size=12)
parts = st.lists(st.one_of(words.map(Text), words.map(Thinking)), min_size=1, max_size=3)


@st.composite
def attempts(draw: st.DrawFn) -> list[Attempt]:
    """Attempts that break anywhere, then one that does not."""
    made: list[Attempt] = []
    for broken in draw(st.lists(parts, max_size=2)):
        pieces = told(*broken, cut=draw(st.integers(1, 4)))
        made.append(Attempt(pieces[: draw(st.integers(0, len(pieces)))], error="the line broke"))
    last = draw(parts)
    made.append(Attempt(told(*last, cut=draw(st.integers(1, 4))), reply=last))
    return made


cuts = st.lists(
    st.tuples(st.sampled_from((0, 0, 0.005, 0.03)), st.one_of(st.none(), st.floats(0, 1))), min_size=5, max_size=5
)
"""After each piece: a pause, and whether the connection breaks; then what part of what was written arrived."""


@settings(max_examples=30)
@given(attempts(), cuts)
def test_cut_anywhere_any_number_of_times(
    tmp_path_factory: pytest.TempPathFactory, made: list[Attempt], breaks: list[tuple[float, float | None]]
) -> None:
    async def law() -> None:
        typist = Typist(made)
        with TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
            async with runtime(folder, typist) as rt:
                session = await rt.open(SPEC)
                reader = Reader(rt, Lookout(rt.caller, every_s=0.02), session.id)
                await reader.go_on("0.0")
                await session.submit("Say it.")
                for number in range(sum(len(attempt.pieces) + 1 for attempt in made)):
                    typist.let()
                    pause_s, kept = breaks[number % len(breaks)]
                    await asyncio.sleep(pause_s)
                    if kept is not None:
                        await reader.go_on(await reader.cut(round(kept * len(reader.frames))) or "0.0")
                await reader.until(IDLE)
                await reader.cut()
                check(reader.frames, await everything(rt, session.id))

    asyncio.run(law())


def check(read: list[Frame], whole: list[Frame]) -> None:
    order, texts, begun = settled_of(read)
    canonical, whole_texts, _ = settled_of(whole)
    assert order == canonical
    assert texts == whole_texts == texts_said(whole)
    assert not begun, "an item was begun, and neither completed nor closed"
    ids = [frame.id for frame in read if not frame.is_live]
    assert len(ids) == len(set(ids)), "an event came twice"


# --- crashes, restarts, other processes -------------------------------------------------------------------------------


async def test_a_worker_dies_in_mid_reply(tmp_path: Path) -> None:
    """What was live and lost is closed as incomplete; what replaces it comes under an id of its own."""
    first, second = Text("The first answer, never finished."), Text("The second answer.")
    dying = Typist([Attempt(told(first))])
    living = Typist([Attempt(told(second), reply=[second])])
    async with runtime(tmp_path, dying) as rt:
        session = await rt.open(SPEC)
        async with reading(rt, session.id, "0.0") as reader:
            await session.submit("Go on.")
            dying.let(4)
            await reader.until_text(12)
            last = await reader.cut()
            read = list(reader.frames)
        assert rt.worker is not None
        await rt.worker.abandon()
    living.let(1_000)
    async with runtime(tmp_path, living) as rt:
        async with reading(rt, session.id, last) as reader:
            await reader.until(IDLE)
            read += reader.frames
        whole = await everything(rt, session.id)
    check(read, whole)
    lost = [frame.event["item"] for frame in read if frame.event.get("item", {}).get("status") == "incomplete"]
    assert [item["id"].rsplit("_", 2)[1:] for item in lost] == [["1", "0"]]
    assert list(texts_said(whole).values()) == ["The second answer."]


async def test_a_restart_in_mid_reply_and_readers_of_three_servers(tmp_path: Path) -> None:
    said = Text("One answer, whatever server tells it.")
    typist = Typist([Attempt(told(said), reply=[said])])
    async with runtime(tmp_path, typist) as rt, runtime(tmp_path, typist, worker=False) as other:
        session = await rt.open(SPEC)
        async with reading(rt, session.id, "0.0") as near, reading(other, session.id, "0.0") as far:
            await session.submit("Say it.")
            typist.let(5)
            await near.until_text(15)
            await far.until_text(15)
            last = await near.cut()
            async with reading(other, session.id, last) as moved:
                typist.let(2)
                await moved.until_text(6)
                await far.until_text(21)
                typist.let(1_000)
                for reader in (far, moved):
                    await reader.until(IDLE)
                whole = await everything(other, session.id)
                check(near.frames + moved.frames, whole)
                check(far.frames, whole)
                assert len({frame.event["item_id"] for frame in far.frames if frame.type.endswith(".delta")}) == 1


async def test_a_reader_who_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """The turn goes on; what it says is not queued for the reader, who takes it in a few pieces when it reads again."""
    said = Text("x" * 60_000)
    typist = Typist([Attempt(told(said, cut=10), reply=[said])])
    async with runtime(tmp_path, typist) as rt:
        session = await rt.open(SPEC)
        stream = SessionStream(rt.caller, session.id)
        await stream.begin(Place(0, 0))
        batches = stream.frames(Lookout(rt.caller))
        await anext(batches)
        typist.let(10_000)
        assert await session.send("Say much.") == said.text
        read = [parsed(one) for one in await anext(batches)]
        stream.close()
        await batches.aclose()
    assert read[-1].type == IDLE
    assert sum(len(frame.event.get("delta", "")) for frame in read) == 60_000
    assert len(read) < 20


async def test_a_late_reader_hears_a_running_reply_from_its_beginning(tmp_path: Path) -> None:
    said = Text("From the beginning.")
    typist = Typist([Attempt(told(said), reply=[said])])
    async with runtime(tmp_path, typist) as rt:
        session = await rt.open(SPEC)
        async with reading(rt, session.id) as early:
            await early.until(IDLE)
            await session.submit("Say it.")
            typist.let(4)
            await early.until_text(12)
            async with reading(rt, session.id) as late:
                async with asyncio.timeout(BEAT_S - 1):  # at once, and not with the next beat or piece
                    await late.until_text(12)
                assert late.frames[0].type == "agent.session.in_progress"
                typist.let(100)
                await late.until(IDLE)
                _, texts, begun = settled_of(late.frames)
                assert list(texts.values()) == ["From the beginning."]
                assert not begun


async def test_pieces_that_come_together_are_sent_together(tmp_path: Path) -> None:
    """A model that types very fast makes few events, and none is held back for long."""
    said = Text("abcdefghij" * 200)
    typist = Typist([Attempt(told(said, cut=1), reply=[said])])
    async with runtime(tmp_path, typist) as rt:
        session = await rt.open(SPEC)
        async with reading(rt, session.id, "0.0") as reader:
            await session.submit("Say it.")
            began = rt.caller.clock.now()
            for _ in range(100):
                typist.let(20)
                await asyncio.sleep(0.001)
            typist.let()
            await reader.until(IDLE)
            took_s = (rt.caller.clock.now() - began) / 1_000_000
            deltas = [frame for frame in reader.frames if frame.type.endswith(".delta")]
    assert sum(len(frame.event["delta"]) for frame in deltas) == 2_000
    assert len(deltas) < 10 + took_s / COALESCE_S  # however long the machine took for it


class Counting:
    """A database whose budgets count how often they are asked for."""

    def __init__(self, part: object, asked: list[str]) -> None:
        self._part, self._asked = part, asked

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name == "controls":
            return Counting(found, self._asked)
        if name == "budgets":
            return lambda scope: self._asked.append(scope) or found(scope)
        return found


async def test_what_is_written_together_asks_for_the_budgets_once(tmp_path: Path) -> None:
    """Each event that shows the session shows its limit; a long past costs one look at it, not one for each."""
    typist = Typist([Attempt([], reply=[Text("yes")])])
    typist.let(5)
    async with runtime(tmp_path, typist) as rt:
        session = await rt.open(SPEC)
        for _ in range(5):
            assert await session.send("Well?") == "yes"
        asked: list[str] = []
        caller = replace(rt.caller, database=cast("Database", Counting(rt.caller.database, asked)))
        stream = SessionStream(caller, session.id)
        await stream.begin(Place(0, 0))
        frames = stream.frames(Lookout(caller))
        pending = await anext(frames)
        stream.close()
        await frames.aclose()
    shown = [frame for frame in pending if b'"object":"agent.session"' in frame]
    assert (len(shown) >= 5, asked) == (True, [f"session:{session.id}"])


@pytest.mark.parametrize("place", ["", "7", "a.b", "1.2~x", "99.0", "1.1.1", "-1.0", "1.0~a.1.t1-", "9" * 40 + ".0"])
async def test_a_place_that_is_none(tmp_path: Path, place: str) -> None:
    async with runtime(tmp_path, Typist([])) as rt:
        session = await rt.open(SPEC)
        stream = SessionStream(rt.caller, session.id)
        with pytest.raises(InvalidInput, match="id of"):
            await stream.begin(Place.of(place))
        stream.close()
        # Nothing is left behind: not even the reader.
        assert not rt.caller.live._readers  # pyright: ignore[reportAttributeAccessIssue]


counts = st.tuples(st.sampled_from(("text", "thinking")), st.integers(0, 10**9))


@given(st.integers(0, 10**17), st.integers(0, 10**8), st.lists(counts, max_size=4))
def test_a_place_survives_its_text(position: int, index: int, sent: list[tuple[DeltaKind, int]]) -> None:
    place = Place(position, index, "model_1_2" if sent else "", 3 if sent else 0, tuple(sent))
    assert Place.of(str(place)) == Place.of(f"evt_{place}") == place
    assert Place.of(event_id("sess_a", place)) == replace(place, mark=mark_of("sess_a"))
    assert Place.of(f"evt_{position}.{index}_now") == place.settled
