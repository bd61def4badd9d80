"""Clients that leave before the first word of an answer that is not stored: its model call is cancelled at once."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from wire_server import KEY, WireServer, serve

from remanence import Remanence
from remanence.commands.metering import meter_of
from remanence.errors import NotFound
from remanence.events import ModelCalled, ModelFailed
from remanence.testing.scripted import says, stalls

SAID: Any = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
ASKED: Any = {"model": "scripted", "input": "hello", "store": False}
WAIT_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("leaving") / "a.db", [stalls()]) as made:
        yield made


def calls(server: WireServer) -> tuple[int, list[str]]:
    """How many calls were made, and how those ended that did."""

    async def read(rt: Remanence) -> tuple[int, list[str]]:
        try:
            events = [record.event for record in await rt.database.store.read(meter_of(rt.caller))]
        except NotFound:
            return 0, []
        made = sum(isinstance(event, ModelCalled) for event in events)
        return made, [event.kind for event in events if isinstance(event, ModelFailed)]

    return server.do(read)


def until(server: WireServer, wanted: Any) -> bool:
    """Whether it comes to that."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if wanted(*calls(server)):
            return True
    return False


def post(server: WireServer, path: str, body: Any, **headers: str) -> socket.socket:
    """A request on a socket of its own."""
    at = urlsplit(server.url)
    made = socket.create_connection((str(at.hostname), int(at.port or 0)))
    sent = json.dumps(body).encode()
    lines = [f"POST /v1{path} HTTP/1.1", f"host: {at.netloc}", f"authorization: Bearer {KEY}"]
    lines += ["content-type: application/json", f"content-length: {len(sent)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    made.sendall("\r\n".join([*lines, "", ""]).encode() + sent)
    return made


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        ("/chat/completions", {**SAID, "stream": True}, 1),
        ("/chat/completions", {**SAID, "stream": True, "n": 2}, 2),
        ("/chat/completions", SAID, 1),
        ("/chat/completions", {**SAID, "n": 2}, 2),
        ("/responses", {**ASKED, "stream": True}, 1),
        ("/responses", ASKED, 1),
        ("/responses/compact", {"model": "scripted", "input": "hello"}, 1),
    ],
)
def test_who_leaves_before_the_first_word_is_not_answered(server: WireServer, path: str, body: Any, count: int) -> None:
    before, ended = calls(server)
    with post(server, path, body):
        assert until(server, lambda made, _: made == before + count)
        assert calls(server)[1] == ended, "whoever stays is waited with"
    assert until(server, lambda _, now: now == [*ended, *["cancelled"] * count])


def test_an_answer_that_is_kept_under_a_key_is_made_whoever_leaves(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", [says("hello there", delay_s=0.5)] * 2) as server, server.client() as client:
        with post(server, "/chat/completions", SAID, idempotency_key="one"):
            assert until(server, lambda made, _: made == 1)
        again = client.chat.completions.create(**SAID, extra_headers={"idempotency-key": "one"})
        assert again.choices[0].message.content == "hello there"
        assert calls(server) == (1, [])
        summed: Any = {"model": "scripted", "input": "hello"}
        with post(server, "/responses/compact", summed, idempotency_key="two"):
            assert until(server, lambda made, _: made == 2)
        assert client.responses.compact(**summed, extra_headers={"idempotency-key": "two"}).output
        assert calls(server) == (2, [])
