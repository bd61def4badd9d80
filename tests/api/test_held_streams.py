"""A stream ends when the key that opened it opens nothing any more; those of other keys go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from wire_server import KEY, WireServer, serve

from remanence import Agent
from remanence.api.held import CHECK_EVERY_S, Held
from remanence.commands import sessions
from remanence.commands.keys import create_key, revoke_key
from remanence.errors import RemanenceError, StoreUnavailable, Unauthenticated
from remanence.models.scripted import Step
from remanence.testing.clock import FakeClock
from remanence.testing.scripted import Script, dialogue


@asynccontextmanager
async def listening(server: WireServer, session: str, key: str) -> AsyncIterator[httpx2.Response]:
    headers = {"authorization": f"Bearer {key}"}
    path = f"/v1/agents/sessions/{session}/events"
    async with (
        httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http,
        http.stream("GET", path) as answer,
    ):
        assert answer.status_code == 200
        yield answer


@pytest.mark.parametrize("how", ["revoked", "over"])
async def test_a_stream_ends_with_its_key(tmp_path: Path, how: str) -> None:
    with serve(tmp_path / "a.db", agents=[Agent("support", model="scripted")]) as server:
        name, key, session = await asyncio.to_thread(server.do, lambda rt: _made(rt, 2.0 if how == "over" else None))
        async with listening(server, session, key) as theirs, listening(server, session, KEY) as ours:
            if how == "revoked":
                await asyncio.to_thread(server.do, lambda rt: revoke_key(rt.caller, name))
            async with asyncio.timeout(60):
                heard = [line async for line in theirs.aiter_lines()]  # it ends whole, not cut
            assert heard
            events = ours.aiter_lines()
            said = await asyncio.to_thread(server.do, lambda rt: _said(rt, session))
            async with asyncio.timeout(60):
                while said not in await anext(events):
                    pass
            async with httpx2.AsyncClient(base_url=server.url) as http:
                again = await http.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_api_key")


def slowly() -> Script:
    """A reply of two minutes."""
    return Script((dialogue("", Step("a b c d", piece_s=30.0)),))


async def test_a_chat_that_streams_ends_with_its_key(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", slowly()) as server:
        _, key = await asyncio.to_thread(server.do, lambda rt: create_key(rt.caller, "laptop", expires_s=2.0))
        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        async with (
            httpx2.AsyncClient(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=60) as http,
            http.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            assert answer.status_code == 200
            async with asyncio.timeout(30):
                heard = [line async for line in answer.aiter_lines()]
        assert heard
        assert "data: [DONE]" not in heard


@pytest.mark.parametrize("busy", [True, False])
async def test_a_web_socket_ends_with_its_key(tmp_path: Path, busy: bool) -> None:
    with serve(tmp_path / "a.db", slowly()) as server:
        _, key = await asyncio.to_thread(server.do, lambda rt: create_key(rt.caller, "laptop", expires_s=2.0))
        address = f"{server.url.replace('http', 'ws')}/v1/responses"
        async with (
            connect(address, open_timeout=60, additional_headers={"authorization": f"Bearer {key}"}) as socket,
            asyncio.timeout(30),
        ):
            if busy:
                await socket.send('{"type": "response.create", "model": "scripted", "input": "Hi"}')
            told: list[Any] = []
            with suppress(ConnectionClosedError):
                while True:
                    told.append(msgspec.json.decode(await socket.recv()))
        assert (told[-1]["type"], told[-1]["status"], told[-1]["error"]["code"]) == ("error", 401, "invalid_api_key")
        assert (len(told) > 1) is busy
        assert socket.close_code == 1008


async def _made(rt: Any, expires_s: float | None) -> tuple[str, str, str]:
    key, text = await create_key(rt.caller, "laptop", expires_s=expires_s)
    return key.id, text, (await rt.open("support")).id


async def _said(rt: Any, session: str) -> str:
    await sessions.send(rt.caller, session, "still here?")
    return "still here?"


async def test_each_key_is_checked_once_and_a_database_that_is_away_ends_nothing() -> None:
    clock, asked = FakeClock(), list[str | None]()
    fails: dict[str | None, RemanenceError] = {"away": StoreUnavailable("Away."), "gone": Unauthenticated("Revoked.")}

    async def check(authorization: str | None) -> None:
        asked.append(authorization)
        if authorization in fails:
            raise fails[authorization]

    held, loop = Held(check, clock), asyncio.get_running_loop()
    names = ("good", "good", "away", "gone", "gone")
    over = [loop.create_future() for _ in names]
    opened = [held.by(name, one) for name, one in zip(names, over, strict=True)]
    for one in opened:
        one.__enter__()
    await _passed(clock)
    assert [one.done() for one in over] == [False, False, False, True, True]
    assert sorted(map(str, asked)) == ["away", "gone", "good"]
    for one in opened:
        one.__exit__(None, None, None)
    await _passed(clock)
    assert len(asked) == 3


async def _passed(clock: FakeClock, turns: int = 50) -> None:
    """One interval goes by, and what it sets off is done."""
    for _ in range(turns):
        await asyncio.sleep(0)
    clock.advance(CHECK_EVERY_S + 0.01)
    for _ in range(turns):
        await asyncio.sleep(0)
