"""The window of a real session, on both databases: what is cleared, cut and opened again; prompts that are proved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.runtime.shop import FAST

from remanence import Agent, Remanence, tool
from remanence.app import Options
from remanence.commands.prompts import PromptShape, past_prompt
from remanence.content import Text, ToolCall, ToolResult, Usage, text_of
from remanence.core.state import Session
from remanence.errors import NotFound
from remanence.events import (
    BudgetReached,
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    ModelCalled,
    ModelReplied,
    ToolReturned,
)
from remanence.models.scripted import Scripted, last_result, last_user_text, step_of
from remanence.ports import Model, ModelReply, ModelRequest, OnDelta
from remanence.spec import Limits
from remanence.tools import open_result

SECRET = "the code is ZX-4711"


@tool(replay="safe")
async def read_log(day: int) -> str:
    """Read the log of a day."""
    lines = [f"line {n} of day {day}: nothing to see" for n in range(40)]
    lines[17] = f"line 17 of day {day}: {SECRET} on day {day}"
    return "\n".join(lines)


@tool(replay="safe")
async def read_book() -> str:
    """A long text."""
    return "\n".join(f"chapter {n}: {'words ' * 40}{SECRET if n == 300 else ''}" for n in range(400))


def reader(requests: list[ModelRequest]) -> Scripted:
    """`log N` reads a day's log; `open REF [QUERY]` opens something; everything else is answered at once."""

    def answer(request: ModelRequest) -> ModelReply:
        requests.append(request)
        words = last_user_text(request).split()
        if words[:2] == ["Summarise", "the"]:
            return ModelReply((Text("They read logs. " + " ".join(words)),))
        if step_of(request):
            return ModelReply((Text(last_result(request) if words[0] == "open" else "noted"),))
        match words:
            case ["log", day]:
                return ModelReply((ToolCall("x", "read_log", json.dumps({"day": int(day)})),))
            case ["book"]:
                return ModelReply((ToolCall("x", "read_book", "{}"),))
            case ["open", ref, *query]:
                given = {"ref": ref} | ({"query": " ".join(query)} if query else {})
                return ModelReply((ToolCall("x", "open_result", json.dumps(given)),))
            case _:
                return ModelReply((Text("heard"),))

    return Scripted(answer)


def agent(*, declares: bool = True, **limits: object) -> Agent:
    """An agent that has `open_result`, or is given it when there is something to open."""
    return Agent(
        "reader",
        model="scripted",
        instructions="Read.",
        tools=[read_log, read_book, open_result] if declares else [read_log, read_book],
        limits=Limits(window_tokens=4_000, **limits),  # pyright: ignore[reportArgumentType]
    )


declared_or_given = pytest.mark.parametrize("declares", [True, False], ids=["declared", "given"])


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


async def opened(url: str, requests: list[ModelRequest]) -> Remanence:
    rt = Remanence(url, options=Options(model=reader(requests)))
    await rt.start()
    return rt


def offers(request: ModelRequest) -> bool:
    return "open_result" in [tool.name for tool in request.tools]


@declared_or_given
async def test_old_results_are_cleared_to_a_line_and_opened_again(url: str, declares: bool) -> None:
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(declares=declares), user="ada")
    for day in range(1, 13):
        await session.send(f"log {day}")
    cleared = [r for r in requests if "[cleared: " in str(r.messages)]
    assert cleared
    results = [part for message in cleared[-1].messages for part in message.parts if isinstance(part, ToolResult)]
    line = next(text for part in results if "[cleared: " in (text := text_of(part.parts)))
    assert "ZX-4711" in line, "its identifiers are kept"
    ref = line.split('ref="')[1].split('"')[0]
    assert SECRET in await session.send(f"open {ref}")
    assert "line 17" in await session.send(f"open {ref} ZX-4711")
    assert "nothing under" in await session.send("open call_9_9_9@3")
    assert "nothing under" in await session.send(f"open call_1_1_1@{10**17}")
    await rt.stop()


@declared_or_given
async def test_every_prompt_can_be_rebuilt_and_proved(url: str, declares: bool) -> None:
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(declares=declares), user="ada")
    for day in range(1, 30):
        await session.send(f"log {day}")
    records = await rt.caller.database.store.read(session.id)
    intents = [r for r in records if isinstance(r.event, ModelCalled)]
    assert len(intents) == len(requests)
    assert any(isinstance(r.event, ContextCompacted) for r in records), "the window was cut meanwhile"
    for record, request in zip(intents, requests, strict=True):
        assert isinstance(record.event, ModelCalled)
        found = await past_prompt(rt.caller, session.id, record.event.call)
        assert found == await past_prompt(rt.caller, session.id, str(record.position))
        assert found.exact
        assert (found.messages, found.instructions, found.tools) == (
            request.messages,
            request.instructions,
            request.tools,
        )
        assert PromptShape.of(found).messages
    with pytest.raises(NotFound, match="no model call 'model_99_1'"):
        await past_prompt(rt.caller, session.id, "model_99_1")
    await rt.stop()


@declared_or_given
async def test_a_compaction_by_the_model_runs_beside_the_turns(url: str, declares: bool) -> None:
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(declares=declares, compaction="model"), user="ada")
    for day in range(1, 12):
        await session.send(f"log {day}" if day % 3 == 0 else f"say {'something ' * 150}")
    await rt.stop()
    rt = await opened(url, requests)
    records = await rt.caller.database.store.read(session.id)
    begun = [r.event for r in records if isinstance(r.event, CompactionBegun)]
    landed = [r.event for r in records if isinstance(r.event, ContextCompacted)]
    assert begun
    assert [e.call for e in landed if e.call] == [e.call for e in begun]
    for event in begun:
        found = await past_prompt(rt.caller, session.id, event.call)
        assert (found.exact, found.compaction) == (True, True)
        assert text_of(found.messages[-1].parts).startswith("Summarise the conversation")
    shown = [r for r in requests if "They read logs." in str(r.messages[0])]
    assert shown, "later prompts begin with the summary"
    await rt.stop()


@declared_or_given
async def test_long_results_and_inputs_are_shown_in_part_and_paged(url: str, declares: bool) -> None:
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(declares=declares, tool_result_bytes=4_000), user="ada")
    await session.send("book")
    records = await rt.caller.database.store.read(session.id)
    result = next(r.event for r in records if isinstance(r.event, ToolReturned))
    assert result.blob
    assert 'open_result(ref="call_1_1_1") shows the rest' in text_of(result.parts)
    assert SECRET in await session.send("open call_1_1_1 ZX-4711")
    assert "[page 1 of " in str(await session.send("open call_1_1_1")) or "chapter 0" in str(requests[-1].messages[-1])
    long = 5_000 if declares else 8_000  # of those that declare it as much is shown as of a result; else what fits
    await session.send(f"long {'x ' * long} {SECRET}")
    heard = next(r for r in reversed(await rt.caller.database.store.read(session.id)) if getattr(r.event, "shown", 0))
    assert f'open_result(ref="input@{heard.position}")' in str(requests[-1].messages)
    assert SECRET not in str(requests[-1].messages[-1])
    assert SECRET in await session.send(f"open input@{heard.position} ZX-4711")
    await rt.stop()


@declared_or_given
async def test_summarised_turns_stay_searchable(url: str, declares: bool) -> None:
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(declares=declares, compaction="rule"), user="ada")
    await session.send("my cat is called Mirabelle")
    for number in range(12):
        await session.send(f"say {number} {'something ' * 150}")
    assert "Mirabelle" not in str(requests[-1].messages[1:])
    assert 'open_result(ref="turns:1-' in str(requests[-1].messages[0])
    assert "cat is called Mirabelle" in await session.send("open turns:1-5 Mirabelle")
    await rt.stop()


async def test_replies_are_what_they_were(url: str) -> None:
    """A session without any of it is as it was: no cleared result, no summary."""
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(), user="ada")
    assert await session.send("hello") == "heard"
    records = await rt.caller.database.store.read(session.id)
    called = next(r.event for r in records if isinstance(r.event, ModelCalled))
    assert (called.layout, called.cleared, called.compacted_at, called.shown_at) == (1, 0, 0, 0)
    assert not called.opens
    assert isinstance((await session.state()), Session)
    assert any(isinstance(r.event, ModelReplied) for r in records)
    await rt.stop()


async def test_the_tool_is_given_once_there_is_something_to_open_and_then_kept(url: str) -> None:
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(declares=False), user="ada")
    for day in range(1, 13):
        await session.send(f"log {day}")
    given = [offers(request) for request in requests]
    first = given.index(True)
    assert first > 0
    assert "[cleared: " in str(requests[first].messages)
    assert "[cleared: " not in str(requests[first - 1].messages)
    assert all(given[first:])
    fork = await session.fork()
    await fork.send("hello")
    assert offers(requests[-1]), "a fork begins with what its source was sent"
    await rt.stop()

    never = agent(declares=False, reopening="off")
    async with Remanence(url, agents=[never], options=Options(model=reader(requests))) as again:
        seen, other = len(requests), await again.open(never, user="ada")
        for day in range(1, 13):
            await other.send(f"log {day}")
        assert not any(offers(request) or "[cleared: " in str(request.messages) for request in requests[seen:])
        assert "there is no tool" in (await other.send("open turns:1-2")).lower()


async def test_a_summary_that_loses_a_name_in_use_is_thrown_away_and_the_window_cut_by_rule(url: str) -> None:
    requests: list[ModelRequest] = []
    plain = reader(requests)

    async def careless(request: ModelRequest) -> ModelReply:
        if last_user_text(request).startswith("Summarise the"):
            return ModelReply((Text("They talked."),))
        return await plain.reply(request, None)

    async with Remanence(url, options=Options(model=Doubling(careless, plain))) as rt:
        session = await rt.open(agent(compaction="model"), user="ada")
        for number in range(16):
            await session.send(f"say order-4711 again, {number} {'something ' * 150}")
        records = await rt.caller.database.store.read(session.id)
    failed = [r.event for r in records if isinstance(r.event, CompactionFailed)]
    assert failed
    assert (failed[0].kind, "order-4711" in failed[0].message) == ("identifiers", True)
    cut = [r.event for r in records if isinstance(r.event, ContextCompacted)]
    assert cut
    assert all(not event.call and "order-4711" in text_of(event.summary) for event in cut), "by rule, and nothing lost"


async def test_a_worker_that_leaves_in_mid_compaction_is_taken_over(url: str) -> None:
    """The summary never came: the next worker counts it as failed, at its price, and the session goes on."""
    requests: list[ModelRequest] = []
    plain = reader(requests)
    asked, never = asyncio.Event(), asyncio.Event()

    async def stalling(request: ModelRequest) -> ModelReply:
        if last_user_text(request).startswith("Summarise the"):
            asked.set()
            await never.wait()
        return await plain.reply(request, None)

    times = replace(FAST, drain_s=0.05)
    talk = [f"say {number} {'something ' * 250}" for number in range(7)]
    rt = Remanence(url, options=Options(model=Doubling(stalling, plain), times=times))
    await rt.start()
    session = await rt.open(agent(compaction="model"), user="ada")
    for words in talk:
        await session.send(words)
        if asked.is_set():
            break
    assert asked.is_set()
    await rt.stop()
    agents, options = [agent(compaction="model")], Options(model=plain, times=FAST)
    async with Remanence(url, agents=agents, options=options) as rt:
        session = await rt.get(session.id)
        assert await session.send("still there?") == "heard"
        records = await rt.caller.database.store.read(session.id)
        begun = [r.event for r in records if isinstance(r.event, CompactionBegun)]
        ended = [r.event for r in records if isinstance(r.event, CompactionFailed | ContextCompacted)]
        assert isinstance(ended[0], CompactionFailed)
        assert (ended[0].call, ended[0].kind in ("lost", "cancelled")) == (begun[0].call, True)
        assert ended[0].billed_tokens == begun[0].reserved_tokens


async def test_a_budget_too_small_for_a_summary_does_not_pause_the_session(url: str) -> None:
    requests: list[ModelRequest] = []
    rt = await opened(url, requests)
    session = await rt.open(agent(compaction="model"), user="ada")
    spent = 0
    for number in range(20):
        s = await session.state()
        spent = s.ledger.usage.total_tokens
        # Room for the next call as it is reserved, and for nothing beside it.
        await rt.caller.database.controls.set_budget(f"session:{session.id}", "tokens", spent + 26_000, at=0, spent=0)
        await session.send(f"say {number} {'something ' * 120}")
    records = await rt.caller.database.store.read(session.id)
    assert not any(isinstance(r.event, BudgetReached) for r in records)
    assert spent > 0
    await rt.stop()


class Doubling:
    """A model whose replies come from an async function, and whose prices from another model."""

    def __init__(self, answer: Callable[[ModelRequest], Awaitable[ModelReply]], prices: Model) -> None:
        self._answer = answer
        self._prices = prices

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        return await self._answer(request)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return self._prices.price(model, usage)
