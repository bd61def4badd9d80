"""Streams of responses while they run: cut, resumed, tried again, taken over; cancels and approvals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import openai
import pytest
from chat_server import Server, serving
from msgspec.structs import replace

from remanence import Agent, Remanence, tool
from remanence.api.lookout import Lookout
from remanence.api.responses.endings import Endings
from remanence.api.responses.place import Placed, Submission, ask, place
from remanence.api.responses.request import ResponseBody
from remanence.api.responses.responses import responses_router
from remanence.api.responses.stream import Following, settled
from remanence.app import Options
from remanence.commands.caller import state_of
from remanence.content import Text, ToolCall, Usage, text_of
from remanence.core.state import waiting_on
from remanence.errors import ModelError
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.runtime.live import Hub
from remanence.runtime.services import Times
from remanence.spec import AskRule
from remanence.tools import client_tool

QUICK = Options(times=Times(retry_base_s=0.01, drain_s=0.1))


class Dictated:
    """A model that says what a test tells it, piece by piece; None ends the reply, an error breaks it off."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[str | ModelError | None] = asyncio.Queue()
        self.calls = 0

    def say(self, *pieces: str | ModelError | None) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        self.calls += 1
        said = ""
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, ModelError):
                raise piece
            said += piece
            if on_delta is not None:
                on_delta(0, "text", piece)
        return ModelReply((Text(said),), Usage(1, 1))

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


@asynccontextmanager
async def served(database: str, model: Any, **options: Any) -> AsyncIterator[Server]:
    rt = Remanence(database, models={"m": model}, options=QUICK, **options)
    async with rt, serving(rt, [("/v1", responses_router)]) as server:
        yield server


async def until(stream: Any, text: str) -> list[Any]:
    """Read a stream until its deltas add up to a text."""
    events: list[Any] = []
    said = ""
    async for event in stream:
        events.append(event)
        said += event.delta if event.type == "response.output_text.delta" else ""
        if said == text:
            return events
    raise AssertionError(f"it ended with {said!r}")


def spoken(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def done(events: list[Any]) -> str:
    return next(event.text for event in events if event.type == "response.output_text.done")


async def test_a_reader_that_comes_late_goes_on_where_it_stopped(database: str) -> None:
    model = Dictated()
    async with served(database, model) as server:
        responses = server.client().responses
        stream = await responses.create(model="m", input="hi", stream=True)
        model.say("Hel")
        begun = await until(stream, "Hel")
        await stream.close()
        name = begun[0].response.id
        model.say("lo ")
        async with await responses.retrieve(name, stream=True, starting_after=begun[-1].sequence_number - 1) as late:
            rest = await until(late, "llo ")
            model.say("you", None)
            rest += [event async for event in late]
        assert spoken(begun)[:-1] + spoken(rest) == "Hello you" == done(rest)
        assert rest[-1].type == "response.completed"
        assert model.calls == 1


def finished(events: list[Any]) -> dict[str, str]:
    """What the deltas of each item add up to that was not given up."""
    ended = [event.item for event in events if event.type == "response.output_item.done"]
    kept = {item.id for item in ended if item.status != "incomplete"}
    return {
        name: "".join(event.delta for event in events if event.type.endswith(".delta") and event.item_id == name)
        for name in kept
    }


@pytest.mark.parametrize("second", ["Help me", "Bye"])
async def test_a_call_that_broke_and_was_tried_again(database: str, second: str) -> None:
    """What was told of the attempt that failed is given up, and the next one is told under a name of its own."""
    model = Dictated()
    async with served(database, model) as server:
        async with await server.client().responses.create(model="m", input="hi", stream=True) as stream:
            model.say("Hel")
            events = await until(stream, "Hel")
            model.say(ModelError("cut", kind="connection"), second, None)
            events += [event async for event in stream]
        assert [*finished(events).values()] == [done(events)] == [second]
        given_up = next(event for event in events if event.type == "response.output_item.done")
        assert (given_up.item.status, given_up.item.content[0].text) == ("incomplete", "Hel")
        last = events[-1].response
        assert [item.id for item in last.output] == [*finished(events)]
        assert last.output_text == second
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        whole = [event async for event in await server.client().responses.retrieve(last.id, stream=True)]
        assert spoken(whole) == done(whole) == second


async def test_another_server_goes_on_with_a_stream(database: str) -> None:
    model = Dictated()
    async with served(database, model) as server:
        stream = await server.client(max_retries=0).responses.create(model="m", input="hi", stream=True)
        model.say("Hel")
        begun = await until(stream, "Hel")
        await stream.close()
    model.say("Hello", None)
    async with served(database, model) as server:
        after = begun[-1].sequence_number
        name = begun[0].response.id
        async with await server.client().responses.retrieve(name, stream=True, starting_after=after) as stream:
            rest = [event async for event in stream]
    assert [*finished([*begun, *rest]).values()] == ["Hello"] == [done(rest)]


class Calling:
    """A model that calls a function, its arguments piece by piece, and ends when it is let."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if on_delta is not None:
            on_delta(0, "text", "So")
            on_delta(1, "tool_name", "f")
            on_delta(1, "tool_arguments", '{"a":')
        await self.end.wait()
        return ModelReply((Text("So"), ToolCall("x", "f", '{"a": 1}')), stop="tool_calls")

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


@pytest.mark.parametrize("store", [True, False])
async def test_arguments_stream_while_they_are_written(database: str, store: bool) -> None:
    model = Calling()
    function: Any = {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": None,
    }
    async with served(database, model) as server:
        events: list[Any] = []
        async with await server.client().responses.create(
            model="m", input="hi", tools=[function], stream=True, store=store
        ) as stream:
            async for event in stream:
                events.append(event)
                if event.type == "response.function_call_arguments.delta":
                    model.end.set()
    told = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert told == ['{"a":', " 1}"]
    call = events[-1].response.output[1]
    assert (call.type, call.arguments) == ("function_call", '{"a": 1}')
    assert finished(events)[call.id] == call.arguments
    begun = [event for event in events if event.type == "response.output_item.added"]
    assert [(event.output_index, event.item.id) for event in begun][1] == (1, call.id)


async def test_leaving_changes_nothing_and_cancel_is_explicit(database: str) -> None:
    model = Dictated()
    async with served(database, model) as server:
        responses = server.client().responses
        stream = await responses.create(model="m", input="hi", stream=True)
        model.say("a")
        name = (await until(stream, "a"))[0].response.id
        await stream.close()
        assert (await responses.retrieve(name)).status == "in_progress"
        with pytest.raises(openai.ConflictError):
            await responses.delete(name)
        cancelled = await responses.cancel(name)
        assert cancelled.status == "cancelled"
        assert (await responses.cancel(name)).status == "cancelled"
        model.say("b", None)
        after = await responses.create(model="m", input="again", previous_response_id=name)
        assert after.output_text == "b"


async def test_inputs_that_come_while_a_turn_runs_wait_or_are_rejected(database: str) -> None:
    model = Dictated()
    async with served(database, model) as server:
        responses = server.client().responses
        first = await responses.create(model="m", input="one", background=True)
        assert first.status in ("queued", "in_progress")
        assert first.usage is None
        second = await responses.create(model="m", input="two", background=True, previous_response_id=first.id)
        assert second.status == "queued"
        with pytest.raises(openai.ConflictError):
            await responses.create(
                model="m", input="no", previous_response_id=first.id, extra_headers={"x-if-busy": "reject"}
            )
        with pytest.raises(openai.ConflictError):
            await responses.create(model="m", input="no", instructions="other", previous_response_id=first.id)
        model.say("A", None, "B", None)
        async with await responses.retrieve(second.id, stream=True) as stream:
            assert done([event async for event in stream]) == "B"
        assert (await responses.retrieve(first.id)).output_text == "A"


@tool(replay="never", approval="cents > 100")
async def refund(cents: int) -> str:
    """Pay back."""
    return f"{cents} paid"


def script(request: ModelRequest) -> ModelReply:
    if request.messages[-1].role == "tool":
        return ModelReply((Text("Done."),))
    return ModelReply((ToolCall("x", "refund", f'{{"cents":{text_of(request.messages[-1].parts)}}}'),))


@pytest.mark.parametrize("asks_here", [True, False])
async def test_a_response_whose_turn_waits_before_all_of_it_was_heard_is_whole(database: str, asks_here: bool) -> None:
    """What a turn wrote is in the journal a moment before those who follow it here are told: it holds up itself only
    where they have heard it."""
    mcp: Any = [{"type": "mcp", "server_label": "desk", "require_approval": "always"}] if asks_here else None
    agent = Agent("desk", model="m", tools=[refund])
    async with served(database, Scripted(script), agents=[agent]) as server:
        caller = server.rt.caller
        body = ResponseBody(model="desk", input="500", tools=mcp)
        placed = await place(caller, await ask(server.rt, caller, body), Submission(body, "queue"), Endings())
        placed.close()
        session = placed.kept.session
        async with asyncio.timeout(60):
            while waiting_on(await state_of(caller, session)) != "approval":  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.01)
        slow = replace(caller, live=Hub(caller.clock))
        with closing(slow.live.subscribe(session, want="latest")) as reader:
            begun = await caller.database.store.read(session, after=placed.kept.position - 1, limit=2)
            slow.live.publish(session, *begun)
            fold = await settled(slow, Placed(placed.kept, reader), Following(Lookout(slow), Endings()))
        assert fold.items[-1]["type"] == "mcp_approval_request"
        assert fold.status == ("completed" if asks_here else "in_progress")
        assert list(fold.waits.found.values()) == ([] if asks_here else ["approval"])


@pytest.mark.parametrize("approve", [True, False])
async def test_a_response_that_waits_for_a_person_says_so(database: str, approve: bool) -> None:
    agent = Agent("desk", model="m", tools=[refund])
    async with served(database, Scripted(script), agents=[agent]) as server:
        responses = server.client().responses
        made = await responses.create(model="desk", input="500")
        assert made.status == "in_progress"
        shown: Any = made.to_dict()
        assert shown["waiting_on"]["kind"] == "approval"
        request = made.output[-1]
        assert request.type == "mcp_approval_request"
        answer: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve}
        after = await responses.create(model="desk", input=[answer], previous_response_id=made.id)
        assert (after.status, after.output_text) == ("completed", "Done.")
        whole = await responses.retrieve(made.id)
        assert whole.status == "completed"
        call = whole.output[0]
        assert call.type == "mcp_call"
        assert call.status == ("completed" if approve else "failed")


async def test_a_clients_function_that_waits_for_a_person(database: str) -> None:
    """Who says yes hears in that response that the function is theirs to run."""
    refund = client_tool("refund", {"properties": {"cents": {"type": "integer"}}})
    agent = Agent("desk", model="m", tools=[refund], rules=[AskRule("refund")])
    async with served(database, Scripted(script), agents=[agent]) as server:
        responses = server.client().responses
        made = await responses.create(model="desk", input="500")
        yes: Any = {"type": "mcp_approval_response", "approval_request_id": made.output[-1].id, "approve": True}
        allowed = await responses.create(model="desk", input=[yes], previous_response_id=made.id)
        assert [item.type for item in allowed.output] == ["function_call"]
        call: Any = allowed.output[0]
        assert call.arguments == '{"cents":500}'
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "ok"}
        after = await responses.create(model="desk", input=[output], previous_response_id=allowed.id)
        assert after.output_text == "Done."


async def test_a_budget_pauses_what_is_stored_and_refuses_what_is_not(database: str) -> None:
    model = Dictated()
    async with served(database, model) as server:
        responses = server.client().responses
        await server.rt.set_budget("project:default", tokens=1)
        made = await responses.create(model="m", input="hi")
        shown: Any = made.to_dict()
        assert (made.status, shown["waiting_on"]["kind"]) == ("in_progress", "budget")
        with pytest.raises(openai.APIStatusError) as refused:
            await responses.create(model="m", input="hi", store=False)
        assert refused.value.status_code == 402
        events = [event async for event in await responses.create(model="m", input="hi", store=False, stream=True)]
        assert events[-1].type == "error"
        assert events[-1].code == "budget_exceeded"
        await server.rt.raise_budget("project:default", tokens=1_000_000)
        model.say("yes", None)
        events = [event async for event in await responses.retrieve(made.id, stream=True)]
        assert done(events) == "yes"
        assert (await responses.retrieve(made.id)).usage is not None


@tool(replay="safe")
async def clock() -> str:
    """What time it is."""
    return "noon"


def agent_script(request: ModelRequest) -> ModelReply:
    if request.messages[-1].role == "tool":
        return ModelReply((Text("It is noon."),))
    return ModelReply((ToolCall("x", "clock", "{}"),), stop="tool_calls")


async def test_an_agents_tools_are_run_by_the_server(database: str) -> None:
    agent = Agent("butler", model="m", instructions="serve", tools=[clock])
    async with served(database, Scripted(agent_script), agents=[agent]) as server:
        responses = server.client().responses
        made = await responses.create(model="butler", input="what time is it?")
        assert [item.type for item in made.output] == ["mcp_call", "message"]
        assert made.output_text == "It is noon."
        async with await responses.retrieve(made.id, stream=True) as stream:
            kinds = [event.type async for event in stream]
        assert "response.mcp_call.completed" in kinds
        with pytest.raises(openai.BadRequestError):
            await responses.create(model="butler", input="x", temperature=1.5)
