"""Responses over a WebSocket, through the vendor's client; its events are validated strictly here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chat_server import KEY, Server, serving
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from wire_server import serve

from remanence import Remanence
from remanence.api.auth import Rate, access_of
from remanence.api.responses.responses import responses_router
from remanence.api.responses.socket import WAITING_MAX, socket_router
from remanence.commands.keys import create_key, revoke_key
from remanence.content import Text, ToolCall, text_of
from remanence.models.scripted import Scripted, Step
from remanence.ports import ModelReply, ModelRequest

strict: TypeAdapter[Any] = TypeAdapter(ResponsesServerEvent)
TOOLS: Any = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": None}]


def script(request: ModelRequest) -> ModelReply:
    if request.tools and request.messages[-1].role == "user":
        return ModelReply((ToolCall("x", "f", "{}"),), stop="tool_calls")
    return ModelReply((Text(f"{len(request.messages)}"),))


@asynccontextmanager
async def served(path: Path, model: Scripted) -> AsyncIterator[Server]:
    faces = [("/v1", responses_router), ("/v1", socket_router)]
    async with Remanence(f"sqlite:///{path}/a.db", models={"m": model}) as rt, serving(rt, faces) as server:
        yield server


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
async def server(tmp_path: Path, model: Scripted) -> AsyncIterator[Server]:
    async with served(tmp_path, model) as made:
        yield made


def heard(model: Scripted) -> list[str]:
    return [text_of(message.parts) for message in model.requests[-1].messages]


async def ask(connection: Any, **body: Any) -> Any:
    """Create a response and read it to its end: the response, or the error."""
    await connection.response.create(model="m", **body)
    while True:
        event = strict.validate_python(json.loads(await connection.recv_bytes()))
        if event.type == "error":
            return event
        if event.type in ("response.completed", "response.failed"):
            return event.response


async def test_create_and_continue(server: Server, model: Scripted) -> None:
    client = server.client()
    async with client.responses.connect() as connection:
        one = await ask(connection, input="one")
        await ask(connection, input="two", previous_response_id=one.id)
        assert heard(model) == ["one", "1", "two"]
    assert (await client.responses.retrieve(one.id)).output_text == "1"


async def test_what_is_not_stored_dies_with_the_socket(server: Server, model: Scripted, tmp_path: Path) -> None:
    client = server.client()
    async with client.responses.connect() as connection:
        developer = {"role": "developer", "content": "be brief"}
        one = await ask(connection, input=[developer, {"role": "user", "content": "swordfish"}], store=False)
        two = await ask(connection, input="two", store=False, previous_response_id=one.id)
        assert heard(model) == ["swordfish", "1", "two"]
        assert model.requests[-1].instructions == "be brief"
        assert two.previous_response_id == one.id
        called = await ask(connection, input="call", store=False, tools=TOOLS, previous_response_id=two.id)
        output = {"type": "function_call_output", "call_id": called.output[0].call_id, "output": "done"}
        made = await ask(connection, input=[output], store=False, tools=TOOLS, previous_response_id=called.id)
        assert made.output_text == "7"
        refused = await ask(connection, input="x", previous_response_id=one.id)
        assert (refused.status, refused.error.param) == (400, "store")
    async with client.responses.connect() as connection:
        lost = await ask(connection, input="x", store=False, previous_response_id=one.id)
        assert (lost.status, lost.error.code) == (400, "previous_response_not_found")
        assert one.id in lost.error.message
        assert (await ask(connection, input="still here")).output_text == "1"
    assert not found_in_files(tmp_path, b"swordfish")


LONG: list[Any] = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "swordfish"}]


@pytest.mark.parametrize("store", [True, False])
async def test_what_is_warmed_up_is_gone_on_from(server: Server, model: Scripted, tmp_path: Path, store: bool) -> None:
    """Nothing is generated and nothing is written: what comes next begins with what it said, as often as one likes."""
    client = server.client()
    async with client.responses.connect() as connection:
        warm = await ask(connection, input=LONG, store=store, generate=False, tools=TOOLS)
        assert (warm.status, warm.output, warm.usage, len(model.requests)) == ("completed", [], None, 0)
        assert not found_in_files(tmp_path, b"swordfish")
        warmer = await ask(connection, input="more", store=store, generate=False, previous_response_id=warm.id)
        for before, told in ((warm, ["swordfish", "two"]), (warmer, ["swordfish", "more", "two"])):
            made = await ask(connection, input="two", store=store, previous_response_id=before.id)
            assert heard(model) == told
            assert model.requests[-1].instructions == "be brief"
        assert found_in_files(tmp_path, b"swordfish") is store
        later = await ask(connection, store=store, generate=False, previous_response_id=made.id)
        call = await ask(connection, input="call", store=store, tools=TOOLS, previous_response_id=later.id)
        assert heard(model) == ["swordfish", "more", "two", "3", "call"]
        output = {"type": "function_call_output", "call_id": call.output[0].call_id, "output": "done"}
        warm = await ask(connection, input=[output], store=store, generate=False, previous_response_id=call.id)
        await ask(connection, input="then?", store=store, tools=TOOLS, previous_response_id=warm.id)
        assert heard(model)[-2:] in (["", "then?"], ["then?", ""])
        assert [message.role for message in model.requests[-1].messages].count("tool") == 1
        for name in ("generate", "conversation"):
            given: Any = {"generate": False, "conversation": "conv_none"} if name == "conversation" else {"generate": 1}
            assert (await ask(connection, input="x", **given)).error.param == name
    async with client.responses.connect() as connection:
        lost = await ask(connection, input="x", store=store, previous_response_id=warmer.id)
        assert (lost.status, lost.error.code) == (400, "previous_response_not_found")


async def test_what_could_not_be_gone_on_from_is_gone(server: Server) -> None:
    nothing = {"type": "function_call_output", "call_id": "call_nobody_made", "output": "x"}
    async with server.client().responses.connect() as connection:
        one = await ask(connection, input="swordfish", store=False)
        two = await ask(connection, input="two", store=False, previous_response_id=one.id)
        assert (await ask(connection, input=[nothing], store=False, previous_response_id=one.id)).type == "error"
        gone = await ask(connection, input="x", store=False, previous_response_id=one.id)
        assert (gone.status, gone.error.code) == (400, "previous_response_not_found")
        assert (await ask(connection, input="x", store=False, previous_response_id=two.id)).output_text == "5"


def found_in_files(path: Path, words: bytes) -> bool:
    """Whether any file of the database holds these bytes."""
    return any(words in file.read_bytes() for file in path.rglob("*") if file.is_file())


async def test_lanes_and_errors(server: Server) -> None:
    address = f"{server.url.replace('http', 'ws')}/v1/responses"
    async with connect(address, open_timeout=60, additional_headers={"authorization": f"Bearer {KEY}"}) as socket:
        for message in ("nonsense", "[]", '{"type":"x"}', '{"type":"response.create","model":"m","input":"x","n":1}'):
            await socket.send(message)
            event = json.loads(await socket.recv())
            assert (event["type"], event["status"]) == ("error", 400), event
        for lane in ("a", "b"):
            await socket.send(
                json.dumps({"type": "response.create", "model": "m", "input": lane, "stream_id": lane, "store": False})
            )
        ended: set[str] = set()
        while len(ended) < 2:
            event = json.loads(await socket.recv())
            if event["type"] == "response.completed":
                ended.add(event["stream_id"])
        await socket.send(json.dumps({"type": "response.steer", "previous_response_id": "r", "input": "x"}))
        assert strict.validate_python(json.loads(await socket.recv())).type == "response.steer.failed"


async def test_without_a_key_or_under_another_name_nothing_opens(server: Server) -> None:
    address = f"{server.url.replace('http', 'ws')}/v1/responses"
    with pytest.raises(InvalidStatus, match="401"):
        async with connect(address):
            pass
    port, key = int(server.url.rpartition(":")[2]), {"authorization": f"Bearer {KEY}"}
    page, host = {**key, "origin": "https://evil.test"}, f"ws://evil.test:{port}/v1/responses"
    for url, headers, status, code in ((address, page, 403, "access_denied"), (host, key, 421, "misdirected")):
        with pytest.raises(InvalidStatus, match=str(status)) as refused:
            async with connect(url, open_timeout=60, additional_headers=headers, host="127.0.0.1", port=port):
                pass
        assert json.loads(refused.value.response.body or b"")["error"]["code"] == code


@pytest.mark.parametrize("frame", [b"\xff\xfe", "", "{", "[]", "null", '{"type": 5}', '{"type": "response.create"}'])
async def test_a_message_that_is_none_is_answered_and_the_socket_goes_on(server: Server, frame: str | bytes) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with connect(
        f"{server.url.replace('http', 'ws')}/v1/responses", open_timeout=60, additional_headers=headers
    ) as socket:
        await socket.send(frame)
        told = json.loads(await socket.recv())
        assert (told["type"], told["status"], told["error"]["type"]) == ("error", 400, "invalid_request_error"), told
        await socket.send(json.dumps({"type": "response.create", "model": "m", "input": "x"}).encode())
        assert json.loads(await socket.recv())["type"] == "response.created", "bytes that are JSON are read"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"input": 5}, "input"),
        ({"input": "x", "tools": [{"type": "function", "name": 5}]}, "tools[0].name"),
        ({"input": "x", "tools": [{"type": "dream"}]}, "tools[0].type"),
        ({"input": "x", "metadata": {"a": 5}}, "metadata.a"),
        ({"input": "x", "unheard": 1}, "unheard"),
    ],
)
async def test_what_is_wrong_is_named_by_the_path_that_http_gives(server: Server, fields: Any, path: str) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        connect(
            f"{server.url.replace('http', 'ws')}/v1/responses", open_timeout=60, additional_headers=headers
        ) as socket,
        httpx2.AsyncClient(base_url=server.url, headers=headers) as http,
    ):
        await socket.send(json.dumps({"type": "response.create", "model": "m", **fields}))
        told = json.loads(await socket.recv())
        answer = await http.post("/v1/responses", json={"model": "m", **fields})
        assert (told["status"], told["error"]["param"]) == (400, path)
        assert answer.json()["error"]["param"] == path


async def last_of(socket: Any) -> Any:
    """The event that ends a response, or the error."""
    while (event := json.loads(await socket.recv()))["type"] not in ("error", "response.completed"):
        pass
    return event


async def test_each_request_of_a_socket_counts_and_is_admitted(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", rate=Rate(per_minute=6, burst=4)) as server:
        key, text = await asyncio.to_thread(server.do, lambda rt: create_key(rt.caller, "laptop"))
        headers = {"authorization": f"Bearer {text}"}
        asking = json.dumps({"type": "response.create", "model": "scripted", "input": "x"})
        async with connect(
            f"{server.url.replace('http', 'ws')}/v1/responses", open_timeout=60, additional_headers=headers
        ) as socket:
            told: list[Any] = []
            for _ in range(4):  # and the connection itself
                await socket.send(asking)
                told.append(await last_of(socket))
            assert [one["type"] for one in told] == ["response.completed"] * 3 + ["error"]
            assert (told[-1]["status"], told[-1]["error"]["code"]) == (429, "rate_limit_exceeded")
            await asyncio.to_thread(server.do, lambda rt: revoke_key(rt.caller, key.id))
            access_of(server.app.state).keyring.forget()
            await socket.send(asking)
            refused = await last_of(socket)
            assert (refused["status"], refused["error"]["code"]) == (401, "invalid_api_key")


async def test_what_waits_on_a_socket_has_an_end(tmp_path: Path) -> None:
    async with served(tmp_path, Scripted((Step(stall=True),))) as server:
        headers = {"authorization": f"Bearer {KEY}"}
        async with connect(
            f"{server.url.replace('http', 'ws')}/v1/responses", open_timeout=60, additional_headers=headers
        ) as socket:
            for _ in range(WAITING_MAX + 5):  # the first never ends, and the others wait for it
                await socket.send(json.dumps({"type": "response.create", "model": "m", "input": "x", "store": False}))
            told: list[Any] = []
            while len(told) < 5:
                told += [event for event in [json.loads(await socket.recv())] if event["type"] == "error"]
            assert {event["error"]["code"] for event in told} == {"rate_limit_exceeded"}
