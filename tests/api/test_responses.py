"""Responses through the vendor's client, strict, against a real server; and what the model really was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from chat_server import KEY, OTHER, Server, serving
from pydantic import BaseModel

from remanence import Agent, Remanence
from remanence.api.responses.input import pack
from remanence.api.responses.responses import responses_router
from remanence.content import Message, Part, Text, Thinking, ToolCall, ToolResult, Usage, text_of
from remanence.errors import ModelError
from remanence.models.configuration import ModelConfig
from remanence.models.scripted import Scripted
from remanence.ports import EntryQuery, ModelReply, ModelRequest

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": None,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": None,
}
SECRET = "the password is swordfish"


def script(request: ModelRequest) -> ModelReply | ModelError:
    """Says how many messages it was sent and the last of them; calls the tool when it is asked about weather."""
    last = request.messages[-1]
    said = text_of(last.parts)
    usage = Usage(10, 5, 4, 2, 1)
    if last.role == "tool":
        results = [part for part in last.parts if isinstance(part, ToolResult)]
        return ModelReply((Text(f"It is {text_of(results[0].parts)}."),), usage)
    if said.startswith("fail"):
        return ModelError("the provider is down", kind="invalid_request")
    if said.startswith("long"):
        return ModelReply((Text("and so on"),), usage, stop="length")
    if said.startswith("think"):
        return ModelReply((Thinking("hm, well", signature="s1", provider="p"), Text("I thought.")), usage)
    if said.startswith("weather") and request.tools:
        cities = said.removeprefix("weather").split() or ["Paris"]
        calls = [ToolCall(f"p{n}", "weather", f'{{"city":"{city}"}}') for n, city in enumerate(cities)]
        return ModelReply(tuple(calls), usage, stop="tool_calls")
    return ModelReply((Text(f"{len(request.messages)}: {said}"),), usage)


@asynccontextmanager
async def served(database: str, model: Scripted, **options: Any) -> AsyncIterator[Server]:
    rt = Remanence(database, models={"m": model, "n": model}, **options)
    async with rt, serving(rt, [("/v1", responses_router)]) as server:
        yield server


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
async def server(database: str, model: Scripted) -> AsyncIterator[Server]:
    async with served(database, model) as made:
        yield made


def window(model: Scripted) -> list[tuple[str, str]]:
    """What the model was sent last: roles and words."""
    return [(message.role, words(message)) for message in model.requests[-1].messages]


def words(message: Message) -> str:
    return " ".join(filter(None, map(word, message.parts)))


def word(part: Part) -> str:
    match part:
        case Text(text=text):
            return text
        case ToolCall(name=name, arguments=arguments):
            return f"{name}{arguments}"
        case ToolResult(parts=parts):
            return text_of(parts)
        case _:
            return ""


REQUIRED = {
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
}


async def test_a_response_has_every_key_and_its_words(server: Server, model: Scripted) -> None:
    made = await server.client().responses.create(model="m", input="hello", instructions="be kind", metadata={"a": "b"})
    assert (made.status, made.output_text, made.instructions, made.metadata) == (
        "completed",
        "1: hello",
        "be kind",
        {"a": "b"},
    )
    assert made.usage is not None
    assert made.usage.input_tokens_details.cached_tokens == 4
    assert made.usage.input_tokens_details.cache_write_tokens == 2
    assert model.requests[-1].instructions == "be kind"
    async with httpx2.AsyncClient(timeout=60) as http:
        raw = await http.get(f"{server.url}/v1/responses/{made.id}", headers={"authorization": f"Bearer {KEY}"})
    body = raw.json()
    assert len(REQUIRED) == 31
    assert set(body) >= REQUIRED
    assert "user" not in body


async def test_a_chain_appends_and_an_older_response_forks(server: Server, model: Scripted) -> None:
    responses = server.client().responses
    one = await responses.create(model="m", input="one")
    two = await responses.create(model="m", input="two", previous_response_id=one.id)
    assert two.id.rpartition("_")[0] == one.id.rpartition("_")[0]
    assert window(model) == [("user", "one"), ("assistant", "1: one"), ("user", "two")]
    other = await responses.create(model="m", input="other", previous_response_id=one.id)
    assert other.id.rpartition("_")[0] != one.id.rpartition("_")[0]
    assert window(model) == [("user", "one"), ("assistant", "1: one"), ("user", "other")]
    three = await responses.create(model="n", input="three", previous_response_id=two.id, instructions="now this")
    assert [role for role, _ in window(model)] == ["user", "assistant"] * 2 + ["user"]
    assert (model.requests[-1].model, model.requests[-1].instructions) == ("n", "now this")
    assert three.previous_response_id == two.id
    again = await responses.create(model="m", input="again", previous_response_id=other.id)
    assert window(model)[2:] == [("user", "other"), ("assistant", "3: other"), ("user", "again")]
    assert (await responses.retrieve(again.id)).output_text == again.output_text


async def test_a_chain_goes_on_after_a_restart(database: str, model: Scripted) -> None:
    async with served(database, model) as server:
        one = await server.client().responses.create(model="m", input="one")
    async with served(database, model) as server:
        responses = server.client().responses
        assert (await responses.retrieve(one.id)).to_dict() == one.to_dict()
        await responses.create(model="m", input="two", previous_response_id=one.id)
    assert window(model) == [("user", "one"), ("assistant", "1: one"), ("user", "two")]


async def test_functions_of_the_client(server: Server, model: Scripted) -> None:
    responses = server.client().responses
    asked = await responses.create(model="m", input="weather Paris Rome", tools=[WEATHER])
    assert (asked.status, [item.type for item in asked.output]) == ("completed", ["function_call"] * 2)
    calls = [item for item in asked.output if item.type == "function_call"]
    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        await responses.create(model="m", input="and?", tools=[WEATHER], previous_response_id=asked.id)
    outputs: Any = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny {n}"}
        for n, call in enumerate(calls)
    ]
    told = await responses.create(model="m", input=outputs, tools=[WEATHER], previous_response_id=asked.id)
    assert told.output_text == "It is sunny 1."
    assert [role for role, _ in window(model)] == ["user", "assistant", "tool", "tool"]
    assert (await responses.retrieve(asked.id)).to_dict() == asked.to_dict()
    other: Any = [{**output, "output": "rainy"} for output in outputs]
    rainy = await responses.create(model="m", input=other, tools=[WEATHER], previous_response_id=asked.id)
    assert rainy.output_text == "It is rainy."
    assert [role for role, _ in window(model)] == ["user", "assistant", "tool", "tool"]
    items = await responses.input_items.list(told.id, order="asc")
    assert [item.type for item in items.data] == ["function_call_output"] * 2
    tools: Any = told.to_dict()["tools"]
    assert tools[0] == WEATHER


async def test_a_client_that_sends_its_whole_history(server: Server, model: Scripted) -> None:
    responses = server.client().responses
    history: list[Any] = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "weather"}]
    for _ in range(2):
        made = await responses.create(model="m", input=history, tools=[WEATHER])
        history += [item.to_dict() for item in made.output]
        calls = [item for item in made.output if item.type == "function_call"]
        history += [{"type": "function_call_output", "call_id": c.call_id, "output": "fine"} for c in calls]
        history.append({"role": "user", "content": "weather"})
    history[-1] = {"role": "user", "content": "thanks"}
    made = await responses.create(model="m", input=history, tools=[WEATHER])
    assert made.output_text == "7: thanks"
    assert [role for role, _ in window(model)] == ["user", "assistant", "tool"] * 2 + ["user"]
    assert model.requests[-1].instructions == "be brief"
    ids = [part.call for m in model.requests[-1].messages for part in m.parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_is_not_stored_is_nowhere(database: str, tmp_path: Path, model: Scripted) -> None:
    async with served(database, model) as server:
        responses = server.client().responses
        one = await responses.create(model="m", input="hello")
        made = await responses.create(model="m", input=SECRET, store=False, previous_response_id=one.id)
        assert made.output_text == f"3: {SECRET}"
        async with await responses.create(model="m", input=SECRET, store=False, stream=True) as stream:
            kinds = [event.type async for event in stream]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        with pytest.raises(openai.NotFoundError):
            await responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await responses.create(model="m", input="x", previous_response_id=made.id)
        assert refused.value.code == "previous_response_not_found"
        assert not found_in_files(tmp_path, b"swordfish")
        assert found_in_files(tmp_path, b"hello")
    assert not found_in_files(tmp_path, b"swordfish")


def found_in_files(path: Path, words: bytes) -> bool:
    """Whether any file of the database holds these bytes."""
    return any(words in file.read_bytes() for file in path.rglob("*") if file.is_file())


async def test_every_cut_of_a_stream_can_be_resumed(server: Server) -> None:
    responses = server.client().responses
    async with await responses.create(model="m", input="think about it", stream=True) as stream:
        events = [event async for event in stream]
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert last.type == "response.completed"
    name = last.response.id
    assert last.response.to_dict() == (await responses.retrieve(name)).to_dict()
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    whole = told([event.to_dict() for event in events])
    for cut, event in enumerate(events):
        async with await responses.retrieve(name, stream=True, starting_after=event.sequence_number) as stream:
            rest = [one.to_dict() async for one in stream]
        assert told([one.to_dict() for one in events[: cut + 1]] + rest) == whole


def told(events: list[dict[str, Any]]) -> list[Any]:
    """A stream without how its texts were cut: kinds, numbers of what is no delta, and the deltas put together."""
    made: list[Any] = []
    for event in events:
        if event["type"].endswith(".delta"):
            if made and made[-1][0] == event["type"]:
                made[-1][1] += event["delta"]
            else:
                made.append([event["type"], event["delta"]])
        else:
            made.append([event["type"], event["sequence_number"], event.get("item_id"), event.get("text")])
    return made


async def test_in_the_background(server: Server) -> None:
    responses = server.client().responses
    made = await responses.create(model="m", input="hello", background=True)
    assert (made.status, made.output, made.usage) == ("queued", [], None)
    async with await responses.retrieve(made.id, stream=True) as stream:
        kinds = [event.type async for event in stream]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a completed response"):
        await responses.cancel(made.id)


async def test_failures_and_limits_are_said(server: Server) -> None:
    responses = server.client().responses
    with pytest.raises(openai.BadRequestError, match="down") as refused:
        await responses.create(model="m", input="fail")
    (name,) = [word for word in refused.value.message.split() if word.startswith("resp_")]
    failed = await responses.retrieve(name)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "down" in failed.error.message
    long = await responses.create(model="m", input="long", max_output_tokens=16)
    assert long.status == "incomplete"
    assert long.incomplete_details is not None
    assert long.incomplete_details.reason == "max_output_tokens"


async def test_a_deleted_response_is_gone(server: Server, tmp_path: Path) -> None:
    responses = server.client().responses
    made = await responses.create(model="m", input=SECRET)
    await responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await responses.retrieve(made.id)
    records = await (await server.rt.get(made.id.removeprefix("resp_").rpartition("_")[0])).history()
    assert "swordfish" not in str(records)


FORGED = pack("reasoning", 5)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": "x", "top_logprobs": 21}, "top_logprobs"),
    ({"input": "x", "include": ["everything"]}, "include[0]"),
    ({"input": "x", "moderation": {"model": "m"}}, "moderation"),
    ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"input": "x", "tools": [{"type": "mcp", "server_label": "s", "server_url": "http://x"}]}, "tools[0].server_url"),
    ({"input": "x", "nonsense": 1}, "nonsense"),
    ({"input": [{"type": "computer_call_output"}]}, "input[0].type"),
    ({"input": [{"content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
    ({"input": "x", "text": {"format": {"type": "json"}}}, "text.format.type"),
    ({"input": "x", "service_tier": "cheap"}, "service_tier"),
    ({"input": [{"type": "reasoning", "encrypted_content": FORGED}]}, "input[0].encrypted_content"),
    ({"input": [{"type": ["x"]}]}, "input[0].type"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input"),
    ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
    ({"input": "x", "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
    ({"input": "   "}, "input"),
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("body", "path"), REFUSED)
async def test_what_cannot_be_honoured_is_refused_with_its_path(
    server: Server, model: Scripted, body: dict[str, Any], path: str
) -> None:
    async with httpx2.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"{server.url}/v1/responses", json={"model": "m", **body}, headers={"authorization": f"Bearer {KEY}"}
        )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == path
    assert not model.requests


class Place(BaseModel):
    """What one test asks for."""

    city: str


async def test_a_reply_in_the_shape_that_was_asked_for(database: str) -> None:
    model = Scripted(lambda request: ModelReply((Text('{"city": "Lyon"}'),)))
    async with served(database, model) as server:
        made = await server.client().responses.parse(model="m", input="where?", text_format=Place)
    assert made.output_parsed == Place(city="Lyon")
    schema = model.requests[-1].settings.output_schema
    assert schema is not None
    assert schema["required"] == ["city"]


async def test_reasoning_goes_round(server: Server, model: Scripted) -> None:
    responses = server.client().responses
    made = await responses.create(model="m", input="think", include=["reasoning.encrypted_content"], store=False)
    history: list[Any] = [{"role": "user", "content": "think"}, *(item.to_dict() for item in made.output)]
    history.append({"role": "user", "content": "go on"})
    await responses.create(model="m", input=history)
    assert model.requests[-1].messages[1].parts[0] == Thinking("hm, well", signature="s1", provider="p")
    stored = await responses.create(model="m", input="hi")
    await responses.retrieve(stored.id, include=["message.input_image.image_url"])


async def test_another_agent_goes_on(database: str, model: Scripted) -> None:
    agent = Agent("butler", model="m", instructions="serve")
    async with served(database, model, agents=[agent]) as server:
        responses = server.client().responses
        one = await responses.create(model="m", input="one")
        two = await responses.create(model="butler", input="two", previous_response_id=one.id)
        assert window(model) == [("user", "one"), ("assistant", "1: one"), ("user", "two")]
        assert model.requests[-1].instructions == "serve"
        await responses.create(model="m", input="three", previous_response_id=two.id)
        assert [text for _, text in window(model)] == ["one", "1: one", "two", "3: two", "three"]


async def test_two_that_go_on_at_once_do_not_hear_each_other(server: Server, model: Scripted) -> None:
    responses = server.client().responses
    one = await responses.create(model="m", input="one")
    await asyncio.gather(*(responses.create(model="m", input=f"n{n}", previous_response_id=one.id) for n in range(4)))
    windows = [[words(m) for m in request.messages] for request in list(model.requests)[1:]]
    assert sorted(windows) == [["one", "1: one", f"n{n}"] for n in range(4)]


async def test_a_request_sent_again_is_answered_once(server: Server, model: Scripted) -> None:
    responses = server.client().responses
    again: Any = {"extra_headers": {"idempotency-key": "k1"}}
    one = await responses.create(model="m", input="one", **again)
    assert (await responses.create(model="m", input="one", **again)).to_dict() == one.to_dict()
    async with await responses.create(model="m", input="one", stream=True, **again) as stream:
        assert (await anext(stream)).type == "response.created"
    assert len(model.requests) == 1
    with pytest.raises(openai.ConflictError):
        await responses.create(model="m", input="other", **again)
    at_once: Any = {"extra_headers": {"idempotency-key": "k2"}, "previous_response_id": one.id}
    same = await asyncio.gather(*(responses.create(model="m", input="two", **at_once) for _ in range(3)))
    new: Any = {"extra_headers": {"idempotency-key": "k3"}}
    same += await asyncio.gather(*(responses.create(model="m", input="three", **new) for _ in range(3)))
    assert len({made.id for made in same}) == 2
    assert len(model.requests) == 3
    other = await server.client(OTHER).responses.create(model="m", input="other", **again)
    assert other.output_text == "1: other"


async def test_a_server_that_died_before_it_kept_the_response_is_asked_again(server: Server, model: Scripted) -> None:
    """The input was journaled, nothing else: the same request finds what it began, and reads it to its end."""
    responses = server.client().responses
    plain = await responses.create(model="m", input="weather Paris", tools=[WEATHER])
    call = next(item for item in plain.output if item.type == "function_call")
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    follow: Any = {"input": output, "previous_response_id": plain.id, "tools": [WEATHER], "timeout": 10}
    follow["extra_headers"] = {"idempotency-key": "k"}
    one = await responses.create(model="m", **follow)
    registry = server.rt.database.registry
    for entry in await registry.list(EntryQuery("response_key")):
        await registry.remove("response_key", entry.id)
    await registry.remove("response", one.id)
    events = [event async for event in await responses.create(model="m", stream=True, **follow)]
    assert events[-1].type == "response.completed"
    assert events[-1].response.to_dict() == one.to_dict()
    assert len(model.requests) == 2


async def test_another_project_sees_nothing(server: Server) -> None:
    made = await server.client().responses.create(model="m", input="hello")
    with pytest.raises(openai.NotFoundError):
        await server.client(OTHER).responses.retrieve(made.id)


async def test_counting_and_summing_up(server: Server, model: Scripted) -> None:
    responses = server.client().responses
    one = await responses.create(model="m", input="a long story")
    counted = await responses.input_tokens.count(model="m", input="x" * 400, previous_response_id=one.id)
    assert counted.input_tokens > 100
    compacted = await responses.compact(model="m", previous_response_id=one.id)
    items: Any = [item.to_dict() for item in compacted.output]
    await responses.create(model="m", input=[*items, {"role": "user", "content": "go on"}])
    assert "Summary of the conversation so far" in window(model)[0][1]


def test_the_sync_client(database: str, model: Scripted) -> None:
    import anyio

    async def main() -> None:
        async with served(database, model) as server:
            await anyio.to_thread.run_sync(drive, server)

    anyio.run(main)


def drive(server: Server) -> None:
    with server.sync_client() as client:
        made = client.responses.create(model="m", input="hello")
        assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
        assert [item.type for item in client.responses.input_items.list(made.id)] == ["message"]
        assert streamed(client.responses.create(model="m", input="hi", stream=True))[-1] == "response.completed"
        assert streamed(client.responses.retrieve(made.id, stream=True))[-1] == "response.completed"
        assert client.responses.input_tokens.count(model="m", input="hello").input_tokens > 0
        assert client.responses.compact(model="m", input="hello").output
        with client.responses.stream(model="m", input="hi") as stream:
            assert stream.get_final_response().output_text == "1: hi"
        client.responses.delete(made.id)


def streamed(stream: Iterator[Any]) -> list[str]:
    return [event.type for event in stream]


@pytest.mark.parametrize("store", [True, False])
async def test_what_the_model_cannot_read_is_refused(tmp_path: Path, store: bool) -> None:
    """When it is known how much it reads: the configuration says so, or the price list."""
    small = ModelConfig(name="small", base_url="http://127.0.0.1:9/v1", model="s", context_window=50)
    async with served(f"sqlite:///{tmp_path}/a.db", Scripted(script), model_configs={"small": small}) as server:
        responses = server.client(max_retries=0).responses
        with pytest.raises(openai.BadRequestError) as refused:
            await responses.create(model="small", input="word " * 60, store=store)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
