"""A provider that refuses a response: what a client is told, what is kept, and that nothing is asked twice for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from wire_server import KEY, WireServer

from agents import Agent as SdkAgent
from agents import OpenAIResponsesModel, RunConfig, Runner, set_tracing_disabled
from remanence import Agent, tool
from remanence.content import Text, ToolCall, ToolResult, Usage, text_of
from remanence.errors import ModelError
from remanence.ports import ModelReply, ModelRequest, OnDelta

LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": None}
KINDS: dict[Any, type[openai.APIStatusError]] = {
    "rate_limited": openai.RateLimitError,
    "overloaded": openai.RateLimitError,
    "authentication": openai.InternalServerError,
    "server": openai.InternalServerError,
    "timeout": openai.InternalServerError,
    "connection": openai.InternalServerError,
    "invalid_request": openai.BadRequestError,
}
paid: list[int] = []


@tool(replay="never")
async def pay(cents: int) -> str:
    """Pay."""
    paid.append(cents)
    return f"paid {cents}"


class Provider:
    """Refuses with the kind of error it is told, until it is `well`; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.well = False
        self.waiting = threading.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        self.asked += 1
        if text_of(request.messages[-1].parts) == "wait":
            self.waiting.set()
            await asyncio.Event().wait()
        first = next(text_of(one.parts) for one in reversed(request.messages) if one.role == "user")
        answered = any(isinstance(part, ToolResult) for part in request.messages[-1].parts)
        if first.startswith("call ") and not answered:
            return ModelReply(
                (ToolCall("x1", *first[5:].partition(" then ")[0].split("=")),), Usage(3, 2), stop="tool_calls"
            )
        kind: Any = first.partition(" then ")[2] or first
        if kind in KINDS and not self.well:
            raise ModelError("The provider said no.", kind=kind)
        return ModelReply((Text(f"You said: {first}"),), Usage(3, 2))

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


@pytest.fixture
def provider() -> Provider:
    paid.clear()
    return Provider()


@pytest.fixture
def server(tmp_path: Path, provider: Provider) -> Iterator[WireServer]:
    desk = Agent("desk", model="m", tools=[pay])
    running = WireServer(str(tmp_path / "a.db"), {"m": provider}, [desk])
    yield running
    running.stop()


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    """As it comes: it tries again by itself what it is not told to leave."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=KEY, _strict_response_validation=True) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", [True, False])
def test_a_refusal_is_raised_and_what_failed_is_kept(client: Any, provider: Provider, kind: Any, store: bool) -> None:
    with pytest.raises(KINDS[kind]) as caught:
        client.responses.create(model="m", input=kind, store=store)
    error: Any = caught.value
    asked = provider.asked
    assert "The provider said no." in error.message
    assert error.body["message"].startswith("The provider said no. Nothing was answered.")
    assert error.response.headers["x-should-retry"] == "false"
    assert ("retry-after" in error.response.headers) is (kind in ("rate_limited", "overloaded"))
    if not store:
        assert "Nothing is kept" in error.message
        return
    (name,) = [word for word in error.message.split() if word.startswith("resp_")]
    assert error.response.headers["x-session-id"] in name
    kept = client.responses.retrieve(name)
    assert (kept.status, kept.error.message, kept.output, kept.usage) == ("failed", "The provider said no.", [], None)
    assert [item.content[0].text for item in client.responses.input_items.list(name).data] == [kind]
    assert provider.asked == asked, "it was asked again"


def test_streams_and_the_background_say_it_in_their_own_words(client: Any) -> None:
    with client.responses.create(model="m", input="rate_limited", stream=True) as stream:
        assert [event.type for event in stream][-1] == "response.failed"
    made = client.responses.create(model="m", input="rate_limited", background=True)
    assert made.status == "queued"
    with client.responses.retrieve(made.id, stream=True) as stream:
        assert [event.type for event in stream][-1] == "response.failed"


def test_the_same_key_is_the_same_refusal(client: Any, provider: Provider) -> None:
    told, asked = set[str](), 0
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as caught:
            client.responses.create(model="m", input="rate_limited", extra_headers={"Idempotency-Key": "one"})
        told.add(caught.value.message)
        asked = asked or provider.asked
    assert (len(told), provider.asked) == (1, asked)
    provider.well = True
    made = client.responses.create(model="m", input="rate_limited", extra_headers={"Idempotency-Key": "two"})
    assert made.output_text == "You said: rate_limited"


def test_a_conversation_goes_on_from_before_a_refusal(client: Any, provider: Provider) -> None:
    first = client.responses.create(model="m", input="hello")
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="m", input="rate_limited", previous_response_id=first.id)
    provider.well = True
    again = client.responses.create(model="m", input="rate_limited", previous_response_id=first.id)
    assert again.output_text == "You said: rate_limited"


def test_outputs_that_were_refused_can_be_given_again(client: Any, provider: Provider) -> None:
    asked = client.responses.create(model="m", input="call look={} then server", tools=[LOOK])
    given: Any = [{"type": "function_call_output", "call_id": asked.output[0].call_id, "output": "seen"}]
    more: Any = {"model": "m", "input": given, "tools": [LOOK], "previous_response_id": asked.id}
    with pytest.raises(openai.InternalServerError):
        client.responses.create(**more)
    provider.well = True
    assert client.responses.create(**more).output_text == "You said: call look={} then server"


def test_what_was_done_before_the_refusal_is_answered(client: Any) -> None:
    """A tool has run, so the answer is the response with its call, not an error that hides it."""
    made = client.responses.create(model="desk", input='call pay={"cents":1} then server')
    assert (made.status, made.error.message, paid) == ("failed", "The provider said no.", [1])
    assert made.usage.total_tokens == 5
    assert made.output


async def test_the_agents_sdk_raises_it(server: WireServer) -> None:
    set_tracing_disabled(True)
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as asking:
        agent = SdkAgent(name="a", model=OpenAIResponsesModel("m", asking))
        with pytest.raises(openai.RateLimitError, match="The provider said no"):
            await Runner.run(agent, "rate_limited", run_config=RunConfig(tracing_disabled=True))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_chat_that_is_kept_is_not_tried_again_by_itself(
    client: Any, server: WireServer, kind: Any, stream: bool
) -> None:
    said: Any = [{"role": "user", "content": kind}]
    with pytest.raises(KINDS[kind]) as caught:
        client.chat.completions.create(model="desk", messages=said, stream=stream)
    assert caught.value.response.headers["x-should-retry"] == "false"
    (kept,) = client.beta.agents.sessions.list().data
    assert caught.value.response.headers["x-session-id"] == kept.id


def test_what_an_agent_did_in_a_chat_is_not_done_again(client: Any) -> None:
    said: Any = [{"role": "user", "content": 'call pay={"cents":1} then server'}]
    with pytest.raises(openai.InternalServerError, match="The provider said no"):
        client.chat.completions.create(model="desk", messages=said)
    assert paid == [1]
    assert len(client.beta.agents.sessions.list().data) == 1


@pytest.mark.parametrize("key", ["", "one"])
def test_what_began_before_the_server_ended_is_not_begun_again(
    server: WireServer, provider: Provider, key: str
) -> None:
    """Under a key it is the same turn that is asked for again; without one it would be another."""
    headers = {"authorization": f"Bearer {KEY}"} | ({"idempotency-key": key} if key else {})
    body = {"model": "desk", "messages": [{"role": "user", "content": "wait"}]}
    with ThreadPoolExecutor() as people, httpx2.Client(base_url=server.url, headers=headers, timeout=60) as http:
        asking = people.submit(http.post, "/v1/chat/completions", json=body)
        assert provider.waiting.wait(60)
        server.stop()
        answer = asking.result(60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
    assert answer.headers.get("x-should-retry") == (None if key else "false")
