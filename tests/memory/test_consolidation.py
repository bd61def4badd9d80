"""Notes that are taken of what was said: with sources, within one scope, reviewable, reversible, within a budget."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from remanence import Agent, Remanence
from remanence.app import Options
from remanence.commands.consolidation import Consolidating, consolidation_of
from remanence.content import Text, ToolCall, ToolResult, text_of
from remanence.core.memory.consolidation import AGENT as KEEPER
from remanence.events import InputReceived, MemoryKept, MemoryRecalled, TurnEnded
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest
from remanence.recollections import Memory, Place

AGENT = Agent("support", model="scripted", instructions="Help.", memory=True)
HOW = Consolidating("scripted", episodes_min=2, quiet_s=0)
_EPISODE = re.compile(r"^- \[([^,\]]+)[^\]]*\] (My [^.]*\.)", re.MULTILINE)


def keeper(request: ModelRequest) -> ModelReply:
    """Takes a note of each `My ...` sentence: looks for one that begins alike, corrects it, or writes a new one."""
    last = request.messages[-1]
    if "Take notes" not in text_of(last.parts) and last.role != "tool":
        return ModelReply((Text("Very well."),))
    results = [text_of(p.parts) for p in last.parts if isinstance(p, ToolResult)] if last.role == "tool" else []
    known = noted(request)
    if not results:
        return ModelReply(
            (ToolCall("s", "memory_search", msgspec.json.encode({"query": "parcels doctor cat"}).decode()),)
        )
    if not any("Nothing was found" in r or "My " in r for r in results):
        return ModelReply((Text("Noted."),))
    calls: list[ToolCall] = []
    for number, (episode, text) in enumerate(_EPISODE.findall(last_recalled(request))):
        note = known.get(text[:9])
        name = "memory_write" if note is None else "memory_update"
        given = {"text": text, "source": episode} | ({} if note is None else {"memory": note})
        calls.append(ToolCall(f"w{number}", name, msgspec.json.encode(given).decode()))
    return ModelReply(tuple(calls) or (Text("Nothing to note."),))


def noted(request: ModelRequest) -> dict[str, str]:
    """The notes it wrote before, as its own calls and their results in view say: how they begin, and their ids."""
    asked: dict[str, str] = {}
    found: dict[str, str] = {}
    for part in (part for message in request.messages for part in message.parts):
        if isinstance(part, ToolCall) and part.name == "memory_write":
            asked[part.call] = msgspec.json.decode(part.arguments)["text"]
        elif isinstance(part, ToolResult) and part.call in asked:
            found[asked[part.call][:9]] = text_of(part.parts).removeprefix("Noted as ").rstrip(".")
    return found


def last_recalled(request: ModelRequest) -> str:
    """What came to mind for the last input."""
    texts = [text_of(m.parts) for m in request.messages if m.role == "user" and "From memory" in text_of(m.parts)]
    return texts[-1] if texts else ""


@pytest.fixture
async def rt(tmp_path: Path) -> AsyncIterator[Remanence]:
    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=Options(model=Scripted(keeper))) as opened:
        yield opened


async def said(rt: Remanence, *texts: str, user: str = "ada") -> None:
    for text in texts:
        await (await rt.open(AGENT, user=user)).send(text)


async def done(rt: Remanence, how: Consolidating = HOW) -> list[str]:
    """Consolidate whatever there is, and wait until it is done."""
    begun = list(await rt.memory.consolidate(how, now=True))
    for session in begun:
        async for record in (await rt.get(session)).events():
            ended = isinstance(getattr(record, "event", None), TurnEnded)
            if ended and not (await (await rt.get(session)).state()).queue:
                break
    await rt.memory.catch_up()
    return begun


async def notes(rt: Remanence) -> list[Memory]:
    return [memory for memory in await rt.memory.list() if memory.kind == "note"]


async def test_episodes_become_notes_with_sources_in_their_own_scope(rt: Remanence) -> None:
    await said(rt, "My parcels go to number 12.", "Hello there.")
    await said(rt, "My cat is called Minerva.", user="ben")
    assert len(await done(rt)) == 2
    found = {note.place.scope: note for note in await notes(rt)}
    assert {scope: note.text for scope, note in found.items()} == {
        "user:ada": "My parcels go to number 12.",
        "user:ben": "My cat is called Minerva.",
    }
    note = found["user:ada"]
    assert (note.author, note.label) == (f"agent:{KEEPER}", "trusted")
    session = await rt.get(consolidation_of("default", Place("default", "user:ada")))
    history = await session.history()
    kept = next(r.event for r in history if isinstance(r.event, MemoryKept))
    source = (await rt.database.store.read(kept.source_session, after=(kept.source or 0) - 1, limit=1))[0].event
    assert isinstance(source, InputReceived)
    assert text_of(source.parts) == "My parcels go to number 12."
    inputs = [text_of(r.event.parts) for r in history if isinstance(r.event, InputReceived)]
    assert not any("parcels" in text for text in inputs), "the journal holds references, not the text again"
    assert [len(r.event.items) for r in history if isinstance(r.event, MemoryRecalled)] == [4]


async def test_it_goes_on_where_it_left_off_and_does_not_read_its_own_words(rt: Remanence) -> None:
    await said(rt, "My parcels go to number 12.")
    assert len(await done(rt)) == 1
    assert await done(rt) == []
    await said(rt, "My doctor is called Grace.")
    assert len(await done(rt)) == 1
    assert sorted(note.text for note in await notes(rt)) == [
        "My doctor is called Grace.",
        "My parcels go to number 12.",
    ]
    episodes = [memory for memory in await rt.memory.list() if memory.kind == "episode"]
    assert not any(memory.session.startswith("consolidation_") for memory in episodes)


async def test_a_contradiction_closes_the_old_version_and_can_be_taken_back(rt: Remanence) -> None:
    await said(rt, "My parcels go to number 12.")
    await done(rt)
    await said(rt, "My parcels go to number 99.")
    await done(rt)
    (note,) = await notes(rt)
    first, second = await rt.memory.history(note.id)
    assert (first.text, second.text) == ("My parcels go to number 12.", "My parcels go to number 99.")
    assert first.closed_at == second.recorded_at
    assert (await rt.memory.undo(note.id)).text == "My parcels go to number 12."
    assert (await rt.memory.get(note.id)).author == "local"
    gone = await rt.memory.forget(note.id)
    assert gone.closed_at is not None
    assert (await rt.memory.undo(note.id)).closed_at is None


async def test_a_note_that_was_only_just_written_is_withdrawn_when_it_is_taken_back(rt: Remanence) -> None:
    await said(rt, "My parcels go to number 12.")
    await done(rt)
    (note,) = await notes(rt)
    assert (await rt.memory.undo(note.id)).closed_at is not None
    assert await notes(rt) == []


async def test_nothing_is_due_before_enough_was_said_and_all_is_quiet(rt: Remanence) -> None:
    await said(rt, "My parcels go to number 12.")
    assert await rt.memory.consolidate(Consolidating("scripted", episodes_min=4, quiet_s=0)) == []
    await said(rt, "My doctor is called Grace.")
    assert await rt.memory.consolidate(Consolidating("scripted", episodes_min=4, quiet_s=3_600)) == []
    assert len(await rt.memory.consolidate(Consolidating("scripted", episodes_min=4, quiet_s=0))) == 1


async def test_it_runs_by_itself_in_idle_time(tmp_path: Path) -> None:
    how = Consolidating("scripted", episodes_min=2, quiet_s=0, look_every_s=0.05)
    options = Options(model=Scripted(keeper), consolidating=how)
    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=options) as rt:
        await said(rt, "My parcels go to number 12.")
        while not await notes(rt):
            await rt.options.clock.sleep(0.05)
        assert (await notes(rt))[0].author == f"agent:{KEEPER}"


async def test_it_pauses_at_its_budget(tmp_path: Path) -> None:
    class Priced:
        """A scripted model that costs something."""

        def __init__(self, script: Callable[[ModelRequest], ModelReply]) -> None:
            self._model = Scripted(script)

        async def reply(self, request: ModelRequest, on_delta: object) -> ModelReply:
            return await self._model.reply(request, None)

        def price(self, model: str, usage: object, tier: str = "") -> int:
            return 1_000

    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=Options(model=Priced(keeper))) as rt:
        await said(rt, "My parcels go to number 12.")
        (session,) = await rt.memory.consolidate(Consolidating("scripted", usd_micros=10), now=True)
        async for record in (await rt.get(session)).events():
            if type(getattr(record, "event", None)).__name__ == "BudgetReached":
                break
        await rt.memory.catch_up()
        assert await notes(rt) == []
