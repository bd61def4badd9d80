"""Bytes that are no request, sent to the port of a real server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from cli_project import Run
from serving_process import Running, get

LINE = b"POST /v1/responses HTTP/1.1\r\n"
HOST = b"host: localhost\r\n"
JSON = b"content-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
END = b"\r\n"

NO_REQUESTS = {
    "no request line": b"hello\r\n\r\n",
    "a line of three words": b"GET /health HTTP/one\r\n" + HOST + END,
    "a header without a colon": LINE + HOST + b"x-odd\r\n" + END,
    "a space before the colon": LINE + HOST + b"x-odd : 1\r\n" + END,
    "a control character in a header": LINE + HOST + b"x-odd: a\x00b\r\n" + END,
    "no host": LINE + END,
    "two hosts": LINE + HOST + b"host: elsewhere\r\n" + END,
    "two lengths": LINE + HOST + b"content-length: 1\r\ncontent-length: 2\r\n" + END + b"{}",
    "a length that is none": LINE + HOST + b"content-length: many\r\n" + END,
    "a chunk without a size": LINE + HOST + JSON + CHUNKED + END + b"zz\r\n{}\r\n",
    "another coding": LINE + HOST + b"transfer-encoding: gzip\r\n" + END,
    "the handshake of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + END + END,
    "a way through to another host": b"CONNECT elsewhere:443 HTTP/1.1\r\n" + HOST + END,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.fixture
def port(project: Path) -> Iterator[int]:
    with Running("serve", "--port", "0") as server:
        yield int(server.url().rpartition(":")[2])
        server.signal()
        assert server.end() == 0


def sent(port: int, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """What is answered until the server closes: status, headers, body."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
        came = b""
        while piece := connection.recv(65_536):
            came += piece
    head, _, body = came.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = dict(one.lower().split(": ", 1) for one in lines)
    assert len(body) == int(headers["content-length"]), "one answer, and nothing after it"
    return int(line.split()[1]), headers, body


def test_is_told_so_as_an_error(port: int) -> None:
    with ThreadPoolExecutor(len(NO_REQUESTS)) as people:
        answers = dict(zip(NO_REQUESTS, people.map(partial(sent, port), NO_REQUESTS.values()), strict=True))
    for name, (status, headers, body) in answers.items():
        error = json.loads(body)["error"]
        assert (name, status, error["type"], error["code"]) == (name, 400, "invalid_request_error", "invalid_input")
        assert (headers["content-type"], headers["connection"]) == ("application/json", "close"), name
        assert headers["x-request-id"] == error["request_id"], name
        assert "Nothing was done" in error["message"], name
        assert "callback" not in error["message"], "the parser's word for what we refused"
    assert all("one host" in json.loads(answers[name][2])["error"]["message"] for name in ("no host", "two hosts"))
    assert get(f"http://127.0.0.1:{port}/health") == (200, {"status": "ok"})


def test_headers_without_an_end_are_too_large_and_the_answer_arrives(port: int) -> None:
    lines = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 1000) for number in range(2000))
    status, headers, body = sent(port, LINE, HOST, lines, END)
    error = json.loads(body)["error"]
    assert (status, error["code"], headers["connection"]) == (431, "headers_too_large", "close")
    page = get_text(port, "/docs")
    assert f'id="{error["doc_url"].partition("#")[2]}"' in page


def get_text(port: int, path: str) -> str:
    head = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    return sent(port, head.encode())[2].decode()


def test_what_comes_after_a_good_request_is_answered_after_it(port: int) -> None:
    good = b"GET /health HTTP/1.1\r\n" + HOST + END
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(good + b"nonsense\r\n\r\n")
        came = b""
        while piece := connection.recv(65_536):
            came += piece
    first, second = re.split(rb"HTTP/1.1 (?=\d)", came)[1:]
    assert first.startswith(b"200 ")
    assert first.endswith(b'{"status":"ok"}')
    assert second.startswith(b"400 ")


HANDSHAKE = b"upgrade: websocket\r\nconnection: Upgrade, close\r\n"
KEY = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"sec-websocket-version: 13\r\n"


def test_a_web_socket_that_is_none_is_told_so_as_an_error(port: int) -> None:
    for line, headers, status in (
        (b"GET /v1/responses HTTP/1.1\r\n", VERSION, 405),
        (b"GET /v1/responses HTTP/1.1\r\n", KEY, 405),
        (b"GET /v1/responses HTTP/1.1\r\n", VERSION + b"sec-websocket-key: zz\r\n", 405),
        (LINE, KEY + VERSION, 401),
        (b"GET /v1/nowhere HTTP/1.1\r\n", KEY + VERSION, 404),
    ):
        found, _, body = sent(port, line + HOST + HANDSHAKE + headers + END)
        error = json.loads(body)["error"]
        assert (found, error["type"]) == (status, "authentication_error" if status == 401 else "invalid_request_error")


def test_who_offers_http_2_is_answered_all_the_same_body_and_all(port: int, cli: Run) -> None:
    key = cli("keys", "create", "java", "-o", "json").json["text"]
    body = b'{"model": "default", "input": "hello"}'
    length = b"content-length: %d\r\n" % len(body)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    request = LINE + HOST + JSON + b"authorization: Bearer %b\r\n" % key.encode()
    for framed in (length + END + body, CHUNKED + END + chunks):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            for extra in (offer, b"", offer):
                connection.sendall(request + extra + framed)
                came = b""
                while not came.endswith(b"}"):
                    came += connection.recv(65_536)
                assert came.startswith(b"HTTP/1.1 200 "), came
