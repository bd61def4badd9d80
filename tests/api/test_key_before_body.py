"""Whose key it is, is looked at before a body is read: who has none sends its head, and no more, for an answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from wire_server import KEY, WireServer, serve

SIZE = 8_000_000
PATHS = (
    ("POST", "/v1/responses"),
    ("POST", "/openai/v1/chat/completions"),
    ("POST", "/v1/agents/sessions/sess_none/events"),
    ("POST", "/v1/conversations"),
    ("POST", "/admin/v1/sessions/sess_none/fork"),
    ("PUT", "/admin/v1/sessions/import"),
    ("POST", "/admin/v1/sessions/import"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("keys") / "a.db") as made:
        yield made


def answered(
    server: WireServer, method: str, path: str, *, body: bytes = b"", timeout_s: float = 20, **headers: str
) -> str:
    """The status line after a head that announces a long body, of which only this much comes."""
    at = urlsplit(server.url)
    given = {"host": at.netloc, "content-type": "application/json", "content-length": str(SIZE), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    with socket.create_connection((at.hostname, at.port), timeout=timeout_s) as line:  # pyright: ignore[reportArgumentType]
        line.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return line.recv(4_096).partition(b"\r\n")[0].decode()


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer rmn_no_key"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer rmn_no_key", "idempotency_key": "k"},
    ],
)
def test_who_has_no_key_is_told_so_at_once(server: WireServer, method: str, path: str, headers: Any) -> None:
    status = answered(server, method, path, body=b'{"model": ', **headers)
    assert status.split()[1] == ("405" if method == "PUT" else "401"), status


@pytest.mark.parametrize(("method", "path"), [one for one in PATHS if one[0] == "POST"])
def test_who_has_one_is_read(server: WireServer, method: str, path: str) -> None:
    with pytest.raises(TimeoutError):
        answered(server, method, path, body=b'{"model": ', timeout_s=0.3, authorization=f"Bearer {KEY}")


def test_no_body_is_asked_for(server: WireServer) -> None:
    """A client that waits to be told to go on is told that it has no key instead."""
    assert answered(server, "POST", "/v1/responses", expect="100-continue").split()[1] == "401"
    told = answered(server, "POST", "/v1/responses", expect="100-continue", authorization=f"Bearer {KEY}")
    assert told.split()[1] == "100"
