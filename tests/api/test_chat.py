"""Chat Completions through the vendor's own client, strict, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from chat_server import OTHER, Server, serving

from remanence import Agent, Remanence
from remanence.api.chat.completions import chat_router
from remanence.api.models import models_router
from remanence.commands.metering import meter_of
from remanence.content import Text, ToolResult, Usage
from remanence.models.prices import Prices
from remanence.ports import SessionQuery
from remanence.testing.scripted import Call, Script, Scripted, call, calls, dialogue, fails, says

FIND: Any = {
    "type": "function",
    "function": {
        "name": "find_order",
        "description": "Find an order.",
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
    },
}


def find(order: str) -> Call:
    return call("find_order", order=order)


def script() -> Scripted:
    return Scripted(
        Script(
            dialogues=(
                dialogue("order", calls(find("42")), says("It is $result.")),
                dialogue(
                    "two", says("both", call("find_order", order="1"), call("find_order", order="2")), says("Ok.")
                ),
                dialogue("json", says('{"a": 1}')),
                dialogue("count", says("one two three four", usage=Usage(11, 7, 3, 2, 1))),
                dialogue("broken", fails(says("x"), "server", 0)),
                dialogue("limited", fails(says("x"), "rate_limited", 0, retry_after_s=7)),
                dialogue("", says("You said: $user")),
            )
        ),
        prices=Prices(1_000_000, 2_000_000),
    )


@asynccontextmanager
async def chatting(place: Path | str, model: Scripted | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server over a database: of this URL, or a file in this folder."""
    url = place if isinstance(place, str) else f"sqlite:///{place}/a.db"
    models = {"test": model or script()}
    faces = [("/v1", models_router), ("/v1", chat_router)]
    async with (
        Remanence(url, models=models, **options) as rt,
        serving(rt, faces) as server,
    ):
        yield server


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def test_an_answer_without_a_session_keeps_nothing(tmp_path: Path) -> None:
    model = script()
    async with chatting(tmp_path, model) as server:
        client = server.client()
        made = await client.chat.completions.create(
            model="test",
            messages=[{"role": "system", "content": "Be brief."}, user("count a-secret")],
            temperature=0.3,
            seed=7,
            max_completion_tokens=99,
            metadata={"a": "b"},
        )
        assert made.choices[0].message.content == "one two three four"
        assert made.choices[0].finish_reason == "stop"
        assert made.metadata == {"a": "b"}
        assert made.usage is not None
        assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (11, 7, 18)
        assert made.usage.prompt_tokens_details is not None
        assert made.usage.prompt_tokens_details.cached_tokens == 3
        asked = model.requests[-1]
        assert (asked.instructions, asked.output_tokens) == ("Be brief.", 99)
        assert (asked.settings.temperature, asked.settings.seed) == (0.3, 7)
        rows = await server.rt.database.views.sessions(SessionQuery())
        assert [row.session for row in rows] == [meter_of(server.rt.caller)]
    content = stored(tmp_path)
    assert b"a-secret" not in content
    assert b"one two three" not in content
    assert b"Be brief" not in content


def stored(folder: Path) -> bytes:
    """Every byte of the database's files."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_streaming_with_usage(tmp_path: Path) -> None:
    async with chatting(tmp_path) as server:
        stream = await server.client().chat.completions.create(
            model="test", messages=[user("count")], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two three four"
        assert len(chunks) >= 4
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 7
        assert chunks[-2].choices[0].finish_reason == "stop"


async def test_functions_are_the_clients(tmp_path: Path) -> None:
    model = script()
    async with chatting(tmp_path, model) as server:
        client = server.client()
        messages: list[Any] = [user("my order")]
        first = await client.chat.completions.create(model="test", messages=messages, tools=[FIND])
        asked = first.choices[0].message.tool_calls
        assert first.choices[0].finish_reason == "tool_calls"
        assert asked is not None
        assert asked[0].type == "function"
        assert json.loads(asked[0].function.arguments) == {"order": "42"}
        messages += [first.choices[0].message, {"role": "tool", "tool_call_id": asked[0].id, "content": "on its way"}]
        second = await client.chat.completions.create(model="test", messages=messages, tools=[FIND])
        assert second.choices[0].message.content == "It is on its way."
        seen = model.requests[-1].messages
        assert [message.role for message in seen] == ["user", "assistant", "tool"]
        assert seen[2].parts == (ToolResult(asked[0].id, "find_order", (Text("on its way"),)),)


async def test_streamed_calls_come_together_again(tmp_path: Path) -> None:
    async with chatting(tmp_path) as server:
        async with server.client().chat.completions.stream(
            model="test",
            messages=[user("two")],
            tools=[FIND],
        ) as stream:
            final = await stream.get_final_completion()
        message = final.choices[0].message
        assert message.content == "both"
        assert message.tool_calls is not None
        assert [json.loads(c.function.arguments)["order"] for c in message.tool_calls] == ["1", "2"]
        assert len({c.id for c in message.tool_calls}) == 2


async def test_stop_cuts_wherever_the_pieces_break(tmp_path: Path) -> None:
    async with chatting(tmp_path) as server:
        client = server.client()
        whole = await client.chat.completions.create(model="test", messages=[user("count")], stop=["two thr", "zz"])
        stream = await client.chat.completions.create(
            model="test", messages=[user("count")], stop="two thr", stream=True
        )
        streamed = "".join([c.choices[0].delta.content or "" async for c in stream])
        assert whole.choices[0].message.content == streamed == "one "


async def test_shapes_of_answers(tmp_path: Path) -> None:
    model = script()
    async with chatting(tmp_path, model) as server:
        client = server.client()
        made = await client.chat.completions.create(
            model="test", messages=[user("json")], response_format={"type": "json_object"}
        )
        assert made.choices[0].message.content == '{"a": 1}'
        schema: Any = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        schema["additionalProperties"] = False  # `strict` demands it
        await client.chat.completions.create(
            model="test",
            messages=[user("json")],
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}},
        )
        assert model.requests[-1].settings.output_schema == schema
        with pytest.raises(openai.APIStatusError, match="JSON object"):
            await client.with_options(max_retries=0).chat.completions.create(
                model="test", messages=[user("hello")], response_format={"type": "json_object"}
            )


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"n": 2, "extra_headers": {"x-session-id": "new"}}, "n"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"store": True}, "store"),
    ({"frequency_penalty": 2.5}, "frequency_penalty"),
    ({"extra_body": {"nonsense": 1}}, "nonsense"),
    ({"temperature": 3}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[0].tool_call_id"),
    ({"messages": [user("a"), {"role": "assistant", "content": "b"}]}, "messages[1]"),
    ({"messages": [user("a"), {"role": "system", "content": "b"}]}, "messages[1].role"),
    ({"messages": [user(" ")]}, "messages[0].content"),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                user("x"),
            ]
        },
        "messages[1]",
    ),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
async def test_what_cannot_be_honoured_is_refused(fields: dict[str, Any], param: str, tmp_path: Path) -> None:
    async with chatting(tmp_path) as server:
        asked: dict[str, Any] = {"model": "test", "messages": [user("hello")], **fields}
        with pytest.raises(openai.BadRequestError) as refused:
            await server.client().chat.completions.create(**asked)
        assert refused.value.param == param
        assert "Nothing was" in str(refused.value)


async def test_failures_have_their_status(tmp_path: Path) -> None:
    async with chatting(tmp_path) as server:
        client = server.client(max_retries=0)
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="test", messages=[user("limited")])
        assert limited.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.APIStatusError) as broken:
            await client.chat.completions.create(model="test", messages=[user("broken")], stream=True)
        assert broken.value.status_code == 502
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nobody", messages=[user("hello")])
        with pytest.raises(openai.AuthenticationError):
            await server.client("wrong").chat.completions.create(model="test", messages=[user("hello")])


async def test_budgets_and_freezes_hold_without_a_session(tmp_path: Path) -> None:
    model = script()
    async with chatting(tmp_path, model) as server:
        client = server.client(max_retries=0)
        await client.chat.completions.create(model="test", messages=[user("count")])
        await server.rt.set_budget("agent:chat-completions", tokens=100)
        with pytest.raises(openai.APIStatusError) as broke:
            await client.chat.completions.create(model="test", messages=[user("count")])
        assert broke.value.status_code == 402
        await server.rt.set_budget("agent:chat-completions", tokens=100_000)
        await client.chat.completions.create(model="test", messages=[user("count")])
        (budget,) = await server.rt.database.controls.budgets("agent:chat-completions")
        assert (budget.spent, budget.reserved) == (18, 0)
        await server.rt.freeze("project:default")
        with pytest.raises(openai.ConflictError):
            await client.chat.completions.create(model="test", messages=[user("count")])
        assert len(model.requests) == 2


async def test_models(tmp_path: Path) -> None:
    agent = Agent("support", model="test")
    async with chatting(tmp_path, agents=[agent]) as server:
        client = server.client()
        listed = [model.id async for model in client.models.list()]
        assert set(listed) >= {"test", "scripted", "support"}
        assert (await client.models.retrieve("openai:gpt-6-astra")).owned_by == "openai"
        assert (await client.models.retrieve("support")).owned_by == "remanence"
        for missing in ("nobody", "scripted:/etc/passwd"):
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve(missing)
        with pytest.raises(openai.NotFoundError):
            await server.client(OTHER).models.retrieve("support")


async def test_the_synchronous_client(tmp_path: Path) -> None:
    async with chatting(tmp_path) as server:

        def talk() -> tuple[str | None, str, list[str]]:
            with server.sync_client() as client:
                made = client.chat.completions.create(model="test", messages=[{"role": "user", "content": "count"}])
                stream = client.chat.completions.create(
                    model="test", messages=[{"role": "user", "content": "count"}], stream=True
                )
                said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
                return made.choices[0].message.content, said, [model.id for model in client.models.list()]

        whole, streamed, models = await asyncio.to_thread(talk)
        assert whole == streamed == "one two three four"
        assert "test" in models
