"""The OpenAI Agents SDK, unchanged, against a real server: what it is told, and what the model really was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from sdk_runs import QUIET, ran
from wire_server import KEY, WireServer

from agents import (
    Agent,
    HostedMCPTool,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIProvider,
    OpenAIResponsesCompactionSession,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
    handoff,
)
from remanence import Agent as Ours
from remanence import tool
from remanence.content import Message, Part, Text, Thinking, ToolCall, ToolResult, Usage, text_of
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest
from remanence.testing.scripted import call, calls, says

ORDERS = {"42": "shipped on Monday", "7": "not paid yet"}


def script(request: ModelRequest) -> ModelReply:
    """Looks orders up, hands over to billing when money is meant, else repeats how much it was sent."""
    last = request.messages[-1]
    said = text_of(last.parts)
    tools = [tool.name for tool in request.tools]
    usage = Usage(11, 7, 3)
    results = [text_of(part.parts) for part in last.parts if isinstance(part, ToolResult)]
    if last.role == "tool" and not any("assistant" in result for result in results):
        return ModelReply((Text("; ".join(_results(request.messages))),), usage)
    if last.role == "tool":
        return ModelReply((Text(f"{request.instructions}: I take over"),), usage)
    if said.startswith("orders") and "look_up" in tools:
        calls = [ToolCall(f"c{n}", "look_up", f'{{"order":"{n}"}}') for n in said.split()[1:]]
        return ModelReply((Thinking("two look-ups", signature="s", provider="p"), *calls), usage, stop="tool_calls")
    if said.startswith("money") and "transfer_to_billing" in tools:
        return ModelReply((ToolCall("h", "transfer_to_billing", "{}"),), usage, stop="tool_calls")
    if request.settings.output_schema:
        return ModelReply((Text('{"order":"42","late":true}'),), usage)
    return ModelReply((Text(f"{len(request.messages)}: {said}"),), usage)


def _results(messages: tuple[Message, ...]) -> list[str]:
    """What the calls of the last reply came to."""
    found: list[str] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        found += [text_of(part.parts) for part in message.parts if isinstance(part, ToolResult)]
    return found[::-1]


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
def server(tmp_path: Path, model: Scripted) -> Iterator[WireServer]:
    made = WireServer(f"{tmp_path}/a.db", {"m": model, "gpt-4.1": model})
    yield made
    made.stop()


@asynccontextmanager
async def connected(server: WireServer) -> AsyncIterator[AsyncOpenAI]:
    options: Any = {"max_retries": 0, "_strict_response_validation": True}
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, **options) as client:
        yield client


@function_tool
def look_up(order: str) -> str:
    """What became of an order."""
    return ORDERS[order]


def conversation(client: AsyncOpenAI, **options: Any) -> Any:
    """Untyped: the SDK's own session does not fit its own protocol by its types."""
    return OpenAIConversationsSession(openai_client=client, **options)


def support(client: AsyncOpenAI, **options: Any) -> Agent[None]:
    return Agent(
        name="support", instructions="help", model=OpenAIResponsesModel("m", client), tools=[look_up], **options
    )


def sent(model: Scripted) -> list[tuple[str, str]]:
    """What the model was sent last."""
    return [(one.role, " ".join(filter(None, map(_word, one.parts)))) for one in model.requests[-1].messages]


def _word(part: Part) -> str:
    match part:
        case Text(text=text):
            return text
        case ToolCall(name=name, arguments=arguments):
            return f"{name}{arguments}"
        case ToolResult(parts=parts):
            return text_of(parts)
        case _:
            return ""


async def test_tools_run_where_the_sdk_is(server: WireServer, model: Scripted) -> None:
    async with connected(server) as client:
        ran = await Runner.run(support(client), "orders 42 7", run_config=QUIET)
        assert ran.final_output == "shipped on Monday; not paid yet"
        assert sent(model) == [
            ("user", "orders 42 7"),
            ("assistant", 'look_up{"order":"42"} look_up{"order":"7"}'),
            ("tool", "shipped on Monday"),
            ("tool", "not paid yet"),
        ]
        assert model.requests[-1].instructions == "help"
        assert ran.context_wrapper.usage.requests == 2
        assert ran.context_wrapper.usage.input_tokens == 22
        assert ran.context_wrapper.usage.input_tokens_details.cached_tokens == 6


async def test_a_chain_of_responses_sends_only_what_is_fresh(server: WireServer, model: Scripted) -> None:
    async with connected(server) as client:
        one = await Runner.run(support(client), "orders 42", run_config=QUIET, auto_previous_response_id=True)
        two = await Runner.run(support(client), "and?", run_config=QUIET, previous_response_id=one.last_response_id)
        assert two.final_output == "5: and?"
        assert sent(model) == [
            ("user", "orders 42"),
            ("assistant", 'look_up{"order":"42"}'),
            ("tool", "shipped on Monday"),
            ("assistant", "shipped on Monday"),
            ("user", "and?"),
        ]


async def test_hand_off(server: WireServer, model: Scripted) -> None:
    async with connected(server) as client:
        billing = Agent[None](name="billing", instructions="bills", model=OpenAIResponsesModel("m", client))
        first = support(client, handoffs=[handoff(billing)])
        session = conversation(client)
        ran = await Runner.run(first, "money back", run_config=QUIET, session=session)
        assert ran.last_agent is billing
        assert ran.final_output == "bills: I take over"
        again = await Runner.run(billing, "thanks", run_config=QUIET, session=session)
        assert again.final_output == "5: thanks"
        assert [role for role, _ in sent(model)] == ["user", "assistant", "tool", "assistant", "user"]


async def test_streaming_and_structured_output(server: WireServer) -> None:
    class Found(BaseModel):
        order: str
        late: bool

    async with connected(server) as client:
        streamed = Runner.run_streamed(support(client), "orders 42", run_config=QUIET)
        raw: list[Any] = [event.data async for event in streamed.stream_events() if event.type == "raw_response_event"]
        told = "".join(event.delta for event in raw if event.type == "response.output_text.delta")
        assert streamed.final_output == told == "shipped on Monday"
        arguments = [event.delta for event in raw if event.type == "response.function_call_arguments.delta"]
        assert "".join(arguments) == '{"order":"42"}'
        found = await Runner.run(support(client, output_type=Found), "is it late?", run_config=QUIET)
        assert found.final_output == Found(order="42", late=True)


async def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The history is the server's: another process of ours, another of theirs, and the model is sent all of it."""
    model = Scripted(script)
    server = WireServer(f"{tmp_path}/a.db", {"m": model})
    try:
        async with connected(server) as client:
            session = conversation(client)
            await Runner.run(support(client), "orders 42 7", run_config=QUIET, session=session)
            name = session.session_id
    finally:
        server.kill()
    server = WireServer(f"{tmp_path}/a.db", {"m": model})
    try:
        async with connected(server) as client:
            session = conversation(client, conversation_id=name)
            ran = await Runner.run(support(client), "so?", run_config=QUIET, session=session)
            assert ran.final_output == "6: so?"
            assert sent(model)[1:4] == [
                ("assistant", 'look_up{"order":"42"} look_up{"order":"7"}'),
                ("tool", "shipped on Monday"),
                ("tool", "not paid yet"),
            ]
            popped: Any = await session.pop_item()
            assert popped["content"][0]["text"] == "6: so?"
            await session.add_items([{"role": "user", "content": "never mind"}])
            assert len(await session.get_items(limit=2)) == 2
            await Runner.run(support(client), "then?", run_config=QUIET, session=session)
            assert [words for _, words in sent(model)][-3:] == ["so?", "never mind", "then?"]
            await session.clear_session()
    finally:
        server.stop()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_session_waits_for_the_approval_of_a_function(
    server: WireServer, model: Scripted, streamed: bool
) -> None:
    """The SDK writes the call into the conversation when it stops, and what came of it when it goes on."""
    paid: list[str] = []

    @function_tool(name_override="look_up", needs_approval=True)
    def pay(order: str) -> str:
        """Pay an order."""
        paid.append(order)
        return f"paid {order}"

    async def run(given: Any) -> Any:
        return await ran(clerk, given, streamed=streamed, session=session)

    async with connected(server) as client:
        session = conversation(client)
        clerk = Agent(name="clerk", model=OpenAIResponsesModel("m", client), tools=[pay])
        stopped = await run("orders 1 2")
        assert len(stopped.interruptions) == 2
        kinds = [item.get("type") for item in await session.get_items()]
        assert kinds == ["message", "reasoning", "function_call", "function_call"]
        state = stopped.to_state()
        for waits in stopped.interruptions:
            state.approve(waits)
        ended = await run(state)
        assert sorted(paid) == ["1", "2"]
        assert ended.final_output == "paid 1; paid 2"
        after = await run("thanks")
        assert after.final_output == "6: thanks"
        assert sent(model)[1] == ("assistant", 'look_up{"order":"1"} look_up{"order":"2"}')


async def test_the_conversation_kept_by_the_server(server: WireServer, model: Scripted) -> None:
    """`conversation_id`: the SDK sends only what is fresh, the server knows the rest."""
    async with connected(server) as client:
        talk = await client.conversations.create()
        options: dict[str, Any] = {"run_config": QUIET, "conversation_id": talk.id}
        await Runner.run(support(client), "orders 42", **options)
        ran = await Runner.run(support(client, model_settings=ModelSettings(temperature=0.5)), "and?", **options)
        assert ran.final_output == "5: and?"
        assert model.requests[-1].settings.temperature == 0.5


async def test_over_a_web_socket(server: WireServer, model: Scripted) -> None:
    async with connected(server) as client:
        provider = OpenAIProvider(openai_client=client, use_responses_websocket=True)
        over = RunConfig(tracing_disabled=True, model_provider=provider)
        clerk = Agent(name="clerk", model="m", instructions="help", tools=[look_up])
        first = await Runner.run(clerk, "orders 42 7", run_config=over)
        assert first.final_output == "shipped on Monday; not paid yet"
        history = [*first.to_input_list(), {"role": "user", "content": "thanks"}]
        streamed = Runner.run_streamed(clerk, history, run_config=over)
        kinds = [event.type async for event in streamed.stream_events()]
        assert "raw_response_event" in kinds
        assert streamed.final_output == "6: thanks"
        private = clerk.clone(model_settings=ModelSettings(store=False))
        assert (await Runner.run(private, "orders 7", run_config=over)).final_output == "not paid yet"
        after = await Runner.run(clerk, "and 42?", run_config=over, previous_response_id=first.last_response_id)
        assert sent(model)[-2:] == [("assistant", "shipped on Monday; not paid yet"), ("user", "and 42?")]
        assert after.final_output == "6: and 42?"
        await provider.aclose()


async def test_a_history_that_the_sdk_has_summed_up(server: WireServer, model: Scripted) -> None:
    async with connected(server) as client:
        with closing(SQLiteSession("ada")) as theirs:
            kept = OpenAIResponsesCompactionSession(
                "ada", theirs, client=client, model="gpt-4.1", should_trigger_compaction=lambda _: True
            )
            for turn in range(2):
                await Runner.run(support(client), f"say {turn}", session=kept, run_config=QUIET)
                assert [item.get("type") for item in await kept.get_items()] == ["compaction"]
            await Runner.run(support(client), "say 2", session=kept, run_config=QUIET)
            assert any("Summary of the conversation so far" in said for _, said in _windows(model)[-2])


def _windows(model: Scripted) -> list[list[tuple[str, str]]]:
    """What the model was sent, each time."""
    return [[(one.role, text_of(one.parts)) for one in request.messages] for request in model.requests]


async def test_over_chat_completions(server: WireServer) -> None:
    async with connected(server) as client:
        clerk = Agent(name="clerk", model=OpenAIChatCompletionsModel("m", client), tools=[look_up])
        assert (await Runner.run(clerk, "orders 42", run_config=QUIET)).final_output == "shipped on Monday"
        streamed = Runner.run_streamed(clerk, "orders 7", run_config=QUIET)
        assert [event async for event in streamed.stream_events()]
        assert streamed.final_output == "not paid yet"


# --- an agent of ours whose tool asks ---------------------------------------------------------------------------------

refunds: list[int] = []


@tool(replay="never", approval="cents > 50")
async def refund(cents: int) -> str:
    """Give money back."""
    refunds.append(cents)
    return "done"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("approve", [False, True])
async def test_an_agent_of_the_server_that_waits_for_a_yes_stops_the_run(
    tmp_path: Path, streamed: bool, approve: bool
) -> None:
    """The SDK is told that the server asks, so it stops and lets its caller say; the run then goes on."""
    refunds.clear()
    steps = [calls(call("refund", cents=100)), says("That is all.")]
    server = WireServer(f"{tmp_path}/a.db", {"m": Scripted(steps)}, [Ours("support", model="m", tools=[refund])])
    asks = HostedMCPTool(tool_config={"type": "mcp", "server_label": "support", "require_approval": "always"})

    async def run(given: Any) -> Any:
        return await ran(agent, given, streamed=streamed, auto_previous_response_id=True)

    try:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
            agent = Agent("desk", model=OpenAIResponsesModel("support", client), tools=[asks])
            stopped = await run("Refund order 42")
            assert (stopped.final_output, refunds) == (None, [])
            (waits,) = stopped.interruptions
            state = stopped.to_state()
            state.approve(waits) if approve else state.reject(waits)
            ended = await run(state)
            assert (ended.final_output, refunds) == ("That is all.", [100] if approve else [])
    finally:
        server.stop()
