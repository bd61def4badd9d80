"""Requests without an end, sent to a real port: they are ended, and what is slow for another reason is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from leaping_loop import LeapingLoop
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from remanence.cli.gathering import GatheringProtocol

STALL_S, GAP_S = 1.5, 0.6
HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n"
LATE = HEAD.replace(b" / ", b" /late ")


class Impatient(GatheringProtocol):
    """Waits for less."""

    stall_s = STALL_S


class Echo:
    """An application that answers with what it got, after a while if it is asked to wait."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": (await receive())["text"]})
            return
        if scope["path"] == "/late":
            await asyncio.sleep(2 * STALL_S)
        body, more = b"", True
        while more:
            message = await receive()
            self.heard.append(message["type"])
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, Any]:
    return "asyncio", {"loop_factory": LeapingLoop}


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def port(echo: Echo) -> AsyncIterator[int]:
    config, state = uvicorn.Config(echo, lifespan="off", log_level="error"), ServerState()
    config.load()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Impatient(config, state, {}), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(60):
        yield reader, writer
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTT",
        b"POST / HTTP/1.1\r\nhost: localhost\r\n",
        HEAD + b"\r\n",
        HEAD + b"\r\nab",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ],
)
async def test_a_request_without_an_end_is_told_so(port: int, echo: Echo, sent: bytes) -> None:
    async with connected(port) as (reader, writer):
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_timeout")
    assert "Nothing was done; send it again." in error["message"]
    assert [kind for kind in echo.heard if kind != "http.request"] in ([], ["http.disconnect"])


async def test_a_second_request_without_an_end_too(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"\r\nabcd" + HEAD + b"\r\n")
        first, second = (await reader.read()).split(b"HTTP/1.1 ")[1:]
    assert (first[:3], second[:3]) == (b"200", b"408")


async def test_a_connection_without_a_word_is_closed(port: int) -> None:
    async with connected(port) as (reader, _):
        assert await reader.read() == b""


async def test_who_is_slow_and_goes_on_is_served(port: int) -> None:
    async with connected(port) as (reader, writer):
        for piece in (b"POST / HTTP/1.1\r\n", HEAD[17:], b"\r\na", b"bc", b"d"):
            writer.write(piece)
            await asyncio.sleep(GAP_S)
        assert (await reader.read(1_000)).startswith(b"HTTP/1.1 200 OK")


async def test_a_server_that_is_slow_is_waited_for(port: int) -> None:
    """It has not taken in yet what came: nobody is silent. Nor is who waits to be told to go on."""
    big = b"x" * 3_000_000
    async with connected(port) as (reader, writer):
        writer.write(LATE.replace(b"4", b"%d" % len(big)) + b"connection: close\r\n\r\n" + big)
        assert (await reader.read()).endswith(big)
    async with connected(port) as (reader, writer):
        writer.write(LATE + b"expect: 100-continue\r\n\r\n")
        assert (await reader.read(1_000)).startswith(b"HTTP/1.1 100 Continue")
        writer.write(b"abcd")
        assert (await reader.read(1_000)).startswith(b"HTTP/1.1 200 OK")


async def test_who_rests_between_requests_or_waits_for_an_answer_is_left_alone(port: int) -> None:
    async with connected(port) as (reader, writer):
        for head in (HEAD, LATE, HEAD):
            writer.write(head + b"\r\nabcd")
            assert (await reader.read(1_000)).startswith(b"HTTP/1.1 200 OK")
            await asyncio.sleep(1.2 * STALL_S)


async def test_a_web_socket_may_be_silent(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/") as quiet:
        await asyncio.sleep(2 * STALL_S)
        await quiet.send("still here")
        assert await quiet.recv() == "still here"
