"""The neutral specification of the Responses format: what any server of it must accept and answer, case by case.

Shapes are judged by what the specification requires; that the model really was sent the words is judged by the model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from chat_server import KEY, Server, serving
from websockets.asyncio.client import connect

from remanence import Remanence
from remanence.api.responses.responses import responses_router
from remanence.api.responses.socket import socket_router
from remanence.content import File, Image, Text, ToolCall, Usage, text_of
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

RESPONSE = {
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "max_output_tokens",
    "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key",
}  # fmt: skip
"""The keys that a response has, whatever it is of."""
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather somewhere.",
    "parameters": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def script(request: ModelRequest) -> ModelReply:
    last = request.messages[-1]
    if request.tools and last.role == "user":
        return ModelReply((ToolCall("x", request.tools[0].name, '{"where":"Oslo"}'),), Usage(9, 4), stop="tool_calls")
    return ModelReply((Text(f"I heard: {text_of(last.parts)}"),), Usage(9, 4))


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
async def server(tmp_path: Path, model: Scripted) -> AsyncIterator[Server]:
    async with served(tmp_path, model) as made:
        yield made


@asynccontextmanager
async def served(path: Path, model: Scripted) -> AsyncIterator[Server]:
    faces = [("/v1", responses_router), ("/v1", socket_router)]
    async with Remanence(f"sqlite:///{path}/a.db", models={"m": model}) as rt, serving(rt, faces) as server:
        yield server


async def ask(server: Server, path: str = "/responses", **body: Any) -> Any:
    async with httpx2.AsyncClient(base_url=f"{server.url}/v1", timeout=60) as client:
        answer = await client.post(path, json=body, headers={"authorization": f"Bearer {KEY}"})
    return answer.status_code, answer.json()


def said(role: str, content: Any, **more: Any) -> Any:
    return {"type": "message", "role": role, "content": content, **more}


def checked(response: Any, status: str = "completed") -> Any:
    """The response, whole."""
    assert set(response) >= RESPONSE
    assert (response["object"], response["status"]) == ("response", status)
    for item in response["output"]:
        assert {"id", "type", "status"} <= set(item)
        for part in item.get("content", ()):
            assert {"type", "text", "annotations"} <= set(part)
    for tool in response["tools"]:
        assert {"type", "name", "description", "parameters", "strict"} <= set(tool)
    return response


@pytest.mark.parametrize(
    ("given", "heard"),
    [
        ([said("user", "hello")], ["hello"]),
        ([said("system", "be a pirate"), said("user", "hello")], ["hello"]),
        ([said("user", "I am Ann"), said("assistant", "Hi Ann"), said("user", "who am I?")],
         ["I am Ann", "Hi Ann", "who am I?"]),
        ([said("assistant", "let me see", phase="commentary"), said("assistant", "four", phase="final_answer"),
          said("user", "again")], ["let me see\nfour", "again"]),
    ],
)  # fmt: skip
async def test_what_was_said_reaches_the_model(server: Server, model: Scripted, given: Any, heard: list[str]) -> None:
    status, response = await ask(server, model="m", input=given)
    assert status == 200
    assert checked(response)["output"][0]["content"][0]["text"] == f"I heard: {heard[-1]}"
    assert [text_of(message.parts) for message in model.requests[-1].messages][-len(heard) :] == heard
    if given[0]["role"] == "system":
        assert model.requests[-1].instructions == "be a pirate"


async def test_a_picture_and_a_function(server: Server, model: Scripted) -> None:
    seen = [{"type": "input_text", "text": "what is it?"}, {"type": "input_image", "image_url": PIXEL}]
    checked((await ask(server, model="m", input=[said("user", seen)]))[1])
    assert isinstance(model.requests[-1].messages[-1].parts[1], Image)
    called = checked((await ask(server, model="m", input=[said("user", "weather?")], tools=[WEATHER]))[1])
    assert [(item["type"], item["name"]) for item in called["output"]] == [("function_call", "get_weather")]
    assert msgspec.json.decode(called["output"][0]["arguments"]) == {"where": "Oslo"}


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
FILES: list[tuple[Any, str]] = [
    ({"filename": "report.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}, "application/pdf"),
    ({"file_data": "JVBERi0=", "detail": "auto"}, "application/pdf"),
    ({"filename": "notes.txt", "file_data": "JVBERi0="}, "text/plain"),
    ({"filename": "notes.pdf", "file_data": "data:text/plain;base64,JVBERi0="}, "text/plain"),
    ({"file_url": "https://files.example/a/Report.DOCX?v=2"}, DOCX),
    ({"file_url": "https://files.example/a/report"}, "application/pdf"),
]


@pytest.mark.parametrize(("given", "kind"), FILES)
async def test_a_file(server: Server, model: Scripted, given: Any, kind: str) -> None:
    """What is told of its kind holds, then its name; and it is shown as it was sent."""
    seen = [{"type": "input_text", "text": "its title?"}, {"type": "input_file", **given}]
    status, response = await ask(server, model="m", input=[said("user", seen)])
    assert status == 200
    assert checked(response)["output"][0]["content"][0]["text"] == "I heard: its title?"
    file = model.requests[-1].messages[-1].parts[1]
    assert isinstance(file, File)
    assert (file.media_type, file.name, file.url) == (kind, given.get("filename"), given.get("file_url"))
    assert file.data == ("JVBERi0=" if "file_data" in given else None)


async def test_how_closely_to_look_at_a_file_is_told_to_nobody(server: Server, model: Scripted) -> None:
    seen = [{"type": "input_file", "file_data": "JVBERi0=", "detail": "high"}]
    status, response = await ask(server, model="m", input=[said("user", seen)])
    assert (status, response["error"]["param"]) == (400, "input[0].content[0].detail")
    assert not model.requests


async def test_a_function_is_forced_and_what_it_came_to_is_told_alone(server: Server, model: Scripted) -> None:
    """The second request names the response and brings the result: no tools, no choice."""
    forced = {"type": "function", "name": "get_weather"}
    first = checked((await ask(server, model="m", input="weather?", tools=[WEATHER], tool_choice=forced))[1])
    (call,) = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "64 degrees"}
    second = checked((await ask(server, model="m", input=[result], previous_response_id=first["id"]))[1])
    assert [item["type"] for item in second["output"]] == ["message"]
    assert [message.role for message in model.requests[-1].messages] == ["user", "assistant", "tool"]


async def test_a_stream_tells_every_item_from_its_beginning_to_its_end(server: Server) -> None:
    async with httpx2.AsyncClient(base_url=f"{server.url}/v1", timeout=60) as client:
        body = {"model": "m", "input": "count", "stream": True}
        answer = await client.post("/responses", json=body, headers={"authorization": f"Bearer {KEY}"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = answer.text.strip().split("\n\n")
    assert frames[-1] == "data: [DONE]"
    events = [msgspec.json.decode(frame.partition("data: ")[2]) for frame in frames[:-1]]
    kinds = [event["type"] for event in events]
    assert [kind for kind in kinds if not kind.endswith(".delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [f"event: {kind}" for kind in kinds] == [frame.splitlines()[0] for frame in frames[:-1]]
    checked(events[-1]["response"])


async def test_a_stream_tells_a_call_from_its_beginning_to_its_end(server: Server) -> None:
    async with httpx2.AsyncClient(base_url=f"{server.url}/v1", timeout=60) as client:
        body = {"model": "m", "input": [said("user", "weather?")], "tools": [WEATHER], "stream": True}
        answer = await client.post("/responses", json=body, headers={"authorization": f"Bearer {KEY}"})
    frames = answer.text.strip().split("\n\n")[:-1]
    events = [msgspec.json.decode(frame.partition("data: ")[2]) for frame in frames]
    called = [event for event in events if "item" in event or "arguments" in event["type"]]
    kinds = list(dict.fromkeys(event["type"] for event in called))
    assert kinds == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    assert {event["item"]["type"] for event in called if "item" in event} == {"function_call"}
    told = "".join(event["delta"] for event in called if event["type"].endswith("arguments.delta"))
    assert msgspec.json.decode(told) == {"where": "Oslo"}
    assert told == next(event["arguments"] for event in called if event["type"].endswith("arguments.done"))
    assert checked(events[-1]["response"])["output"][0]["arguments"] == told


async def test_a_function_that_is_forced_is_answered(server: Server, model: Scripted) -> None:
    """A call, its output, and what was said before it: all of it reaches the model."""
    forced = {"type": "function", "name": "get_weather"}
    first = checked((await ask(server, model="m", input="weather?", tools=[WEATHER], tool_choice=forced))[1])
    assert first["tool_choice"] == forced
    (call,) = first["output"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"celsius":7}'}
    later = checked(
        (await ask(server, model="m", input=[output], previous_response_id=first["id"], tools=[WEATHER]))[1]
    )
    assert later["output"][0]["type"] == "message"
    assert [message.role for message in model.requests[-1].messages] == ["user", "assistant", "tool"]
    kept = checked((await ask(server, model="m", input="which word was it?", previous_response_id=later["id"]))[1])
    assert kept["previous_response_id"] == later["id"]
    heard = [text_of(message.parts) for message in model.requests[-1].messages if message.role == "user"]
    assert heard == ["weather?", "which word was it?"]


async def test_summing_up(server: Server, model: Scripted) -> None:
    talk = [said("user", "we launch on Tuesday"), said("assistant", "noted")]
    status, made = await ask(server, "/responses/compact", model="m", prompt_cache_key="k", input=talk)
    assert (status, made["object"]) == (200, "response.compaction")
    assert {"id", "created_at", "output", "usage"} <= set(made)
    assert [item["type"] for item in made["output"]] == ["compaction"]
    checked((await ask(server, model="m", input=[*made["output"], said("user", "when?")]))[1])
    assert (await ask(server, "/responses/compact", input=talk))[0] == 400


async def test_over_a_socket(server: Server) -> None:
    """One after another, going on without being stored, and what is lost with the connection or a failure."""
    async with dialled(server) as socket:
        one = await told(socket, input="first")
        assert [(await told(socket, input="second"))["status"], one["status"]] == ["completed", "completed"]
        two = await told(socket, input="and?", previous_response_id=one["id"])
        assert checked(two)["previous_response_id"] == one["id"]
        nothing = {"type": "function_call_output", "call_id": "call_missing", "output": "x"}
        assert "error" in await told(socket, input=[nothing], previous_response_id=one["id"])
        gone = await told(socket, input="again", previous_response_id=one["id"])
        assert gone["error"]["code"] == "previous_response_not_found"
    async with dialled(server) as socket:
        gone = await told(socket, input="again", previous_response_id=two["id"])
        assert gone["error"]["code"] == "previous_response_not_found"
        assert checked(await told(socket, input="anew"))["previous_response_id"] is None
        never = await told(socket, input="again", previous_response_id="resp_never")
        assert never["error"]["code"] == "previous_response_not_found"
        kept = checked(await told(socket, input="count", store=True))
        assert (kept["store"], kept["output"][0]["content"][0]["text"]) == (True, "I heard: count")


async def test_over_a_socket_from_what_was_summed_up(server: Server, model: Scripted) -> None:
    """The items go back as they came, whoever wrote them, and what they stand for is heard."""
    talk = [said("user", "the word is slate"), said("assistant", "noted"), said("user", "sum it up")]
    made = (await ask(server, "/responses/compact", model="m", input=talk))[1]
    async with dialled(server) as socket:
        checked(await told(socket, input=[*made["output"], said("user", "go on")], tools=[]))
    assert "I heard" in " ".join(text_of(message.parts) for message in model.requests[-1].messages)


def dialled(server: Server) -> connect:
    address = f"{server.url.replace('http', 'ws')}/v1/responses"
    return connect(address, open_timeout=60, additional_headers={"authorization": f"Bearer {KEY}"})


async def told(socket: Any, **body: Any) -> Any:
    """The response in the end, or the error event."""
    await socket.send(msgspec.json.encode({"type": "response.create", "model": "m", "store": False, **body}).decode())
    while True:
        event = msgspec.json.decode(await socket.recv())
        if event["type"] == "error":
            return event
        if event["type"] in ("response.completed", "response.failed", "response.incomplete"):
            return event["response"]
