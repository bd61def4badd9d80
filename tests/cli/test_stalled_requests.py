"""Requests without an end, sent to a real port: they are ended, and what is slow for another reason is not."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn
from websockets.sync.client import connect

from remanence.cli.gathering import GatheringProtocol

STALL_S = 0.4
HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n"
heard: list[str] = []


class Impatient(GatheringProtocol):
    """Waits for less."""

    stall_s = STALL_S


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it got, after a while if it is asked to wait."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        return
    if scope["path"] == "/late":
        await asyncio.sleep(3 * STALL_S)
    body, more = b"", True
    while more:
        message = await receive()
        heard.append(message["type"])
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port() -> Iterator[int]:
    heard.clear()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http=Impatient, lifespan="off", log_level="error"))
        server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as made:
        yield made


def to_the_end(connection: socket.socket) -> bytes:
    came = b""
    while piece := connection.recv(65_536):
        came += piece
    return came


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
def test_a_request_without_an_end_is_told_so(port: int, sent: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(sent)
        head, _, body = to_the_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_timeout")
    assert "Nothing was done; send it again." in error["message"]
    assert [kind for kind in heard if kind != "http.request"] in ([], ["http.disconnect"])


def test_a_second_request_without_an_end_too(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(HEAD + b"\r\nabcd" + HEAD + b"\r\n")
        first, second = to_the_end(connection).split(b"HTTP/1.1 ")[1:]
    assert (first[:3], second[:3]) == (b"200", b"408")


def test_a_connection_without_a_word_is_closed(port: int) -> None:
    with connected(port) as connection:
        assert to_the_end(connection) == b""


def test_who_is_slow_and_goes_on_is_served(port: int) -> None:
    with connected(port) as connection:
        for piece in (b"POST / HTTP/1.1\r\n", HEAD[17:], b"\r\n", b"a", b"b", b"c", b"d"):
            connection.sendall(piece)
            time.sleep(STALL_S / 2)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 OK")


def test_a_server_that_is_slow_is_waited_for(port: int) -> None:
    """It has not taken in yet what came: nobody is silent."""
    big = b"x" * 3_000_000
    head = b"POST /late HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(big)
    with connected(port) as connection:
        sending = threading.Thread(target=connection.sendall, args=(head + big,))
        sending.start()
        assert to_the_end(connection).endswith(big)
        sending.join()
    with connected(port) as connection:  # nor who waits to be told to go on
        connection.sendall(
            b"POST /late HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1_000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"ok")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 OK")


def test_who_rests_between_requests_or_waits_for_an_answer_is_left_alone(port: int) -> None:
    with connected(port) as connection:
        for path in (b"/", b"/late"):
            connection.sendall(HEAD.replace(b" / ", b" %b " % path) + b"\r\nabcd")
            assert connection.recv(1_000).startswith(b"HTTP/1.1 200 OK")
            time.sleep(2 * STALL_S)
        connection.sendall(HEAD + b"\r\nabcd")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 OK")


def test_a_web_socket_may_be_silent(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/") as quiet:
        time.sleep(3 * STALL_S)
        quiet.send("still here")
        assert quiet.recv() == "still here"
