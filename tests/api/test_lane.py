"""The short way says what the long one says: every request, ordinary or odd, is answered alike by both."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from remanence import Agent, Remanence
from remanence.api.app import build_app
from remanence.api.auth import Access, Rate, development_principal
from remanence.api.faces import faces
from remanence.api.lane import Lane, Lanes
from remanence.commands.keys import Principal
from remanence.content import Text
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

OWNER, READER, ELSEWHERE = "rmn_owner_key", "rmn_reader_key", "rmn_elsewhere_key"
GOOD = {"authorization": f"Bearer {OWNER}", "content-type": "application/json"}
SAY = {"model": "m", "input": "hello"}
MESSAGE = {
    "type": "agent.session.input.message",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
}
UNSTABLE = re.compile(r'(?:resp|sess|msg|req|in|evt)_[A-Za-z0-9_]+|"(?:created|completed)_at":\d+|Date: .*')

CASES: list[tuple[str, Any, Mapping[str, str]]] = [
    ("/v1/responses", SAY, GOOD),
    ("/openai/v1/responses", SAY, GOOD),
    ("/v1/responses", {**SAY, "stream": True}, GOOD),
    ("/v1/responses", {**SAY, "store": False}, GOOD),
    ("/v1/responses", {**SAY, "nonsense": 1}, GOOD),
    ("/v1/responses", {**SAY, "temperature": "warm"}, GOOD),
    ("/v1/responses", {**SAY, "model": "unknown:x"}, GOOD),
    ("/v1/responses", {**SAY, "previous_response_id": "resp_none_1"}, GOOD),
    ("/v1/responses", {"input": "hello"}, GOOD),
    ("/v1/responses", [], GOOD),
    ("/v1/responses", b"", GOOD),
    ("/v1/responses", b"{", GOOD),
    ("/v1/responses", b'{"model":"m","input":"\xff"}', GOOD),
    ("/v1/responses", b"[" * 5_000, GOOD),
    ("/v1/responses", SAY, {**GOOD, "content-type": "application/json; charset=utf-8"}),
    ("/v1/responses", SAY, {**GOOD, "content-type": "text/plain"}),
    ("/v1/responses", SAY, {"authorization": GOOD["authorization"]}),
    ("/v1/responses", SAY, {"content-type": "application/json"}),
    ("/v1/responses", {**SAY, "nonsense": 1}, {**GOOD, "authorization": "Bearer rmn_no_key"}),
    ("/v1/responses", SAY, {**GOOD, "authorization": "Bearer rmn_no_key"}),
    ("/v1/responses", SAY, {**GOOD, "authorization": f"bearer  {OWNER}"}),
    ("/v1/responses", SAY, {**GOOD, "authorization": f"Basic {OWNER}"}),
    ("/v1/responses", SAY, {**GOOD, "authorization": OWNER}),
    ("/v1/responses", SAY, {**GOOD, "authorization": f"Bearer {READER}"}),
    ("/v1/responses", SAY, {**GOOD, "x-if-busy": "never"}),
    ("/v1/responses", SAY, {**GOOD, "x-if-busy": "reject"}),
    ("/v1/responses", SAY, {**GOOD, "idempotency-key": "k"}),
    ("/v1/responses", SAY, {**GOOD, "idempotency-key": ""}),
    ("/v1/responses", SAY, {**GOOD, "x-remanence-as": "ada"}),
    ("/v1/responses/", SAY, GOOD),
    ("/v1/responses?x=1", SAY, GOOD),
    ("/v1/agents/sessions/SESSION/events", {"events": [MESSAGE]}, GOOD),
    ("/v1/agents/sessions/SESSION/events", {"events": []}, GOOD),
    ("/v1/agents/sessions/SESSION/events", {"events": [{**MESSAGE, "input": []}]}, GOOD),
    ("/v1/agents/sessions/SESSION/events", {"events": [MESSAGE]}, {**GOOD, "authorization": f"Bearer {ELSEWHERE}"}),
    ("/v1/agents/sessions/nobody/events", {"events": [MESSAGE]}, GOOD),
    ("/v1/agents/sessions//events", {"events": [MESSAGE]}, GOOD),
    ("/v1/agents/sessions/a/b/events", {"events": [MESSAGE]}, GOOD),
]


def script(request: ModelRequest) -> ModelReply:
    return ModelReply((Text(f"{len(request.messages)} heard"),))


async def answer(app: FastAPI, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any, str]:
    """The status, the headers and the words of an answer, without what is different each time."""
    path, _, query = path.partition("?")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"127.0.0.1"), *given],
    }
    coming: list[Message] = [
        {"type": "http.request", "body": content[:7], "more_body": True},
        {"type": "http.request", "body": content[7:]},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        if not coming:
            await asyncio.Event().wait()  # who asks stays until it is answered
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    words = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    names = sorted((name, UNSTABLE.sub("_", value.decode())) for name, value in sent[0]["headers"])
    return sent[0]["status"], [one for one in names if one[0] != b"content-length"], UNSTABLE.sub("_", words)


def build(rt: Remanence, *, short: bool, rate: Rate | None = None) -> FastAPI:
    own = {
        OWNER: development_principal("default"),
        READER: Principal("reader", "key:reader", "default", frozenset(("read",))),
        ELSEWHERE: development_principal("elsewhere"),
    }
    mounted = faces()
    if not short:
        for face in mounted:
            getattr(face, "lanes", []).clear()
    return build_app(rt, faces=mounted, access=Access(rt.caller, own=own, rate=rate))


@pytest.mark.parametrize(("path", "body", "headers"), CASES)
async def test_both_ways_answer_alike(tmp_path: Path, path: str, body: Any, headers: Mapping[str, str]) -> None:
    agent = Agent("bench", model="m")
    async with Remanence(f"sqlite:///{tmp_path}/a.db", agents=[agent], models={"m": Scripted(script)}) as rt:
        path = path.replace("SESSION", (await rt.open("bench")).id)
        answers = [await answer(build(rt, short=short), path, body, headers) for short in (True, False)]
    assert answers[0] == answers[1]


async def test_the_routes_of_every_turn_have_a_short_way(tmp_path: Path) -> None:
    """Without the framework behind it, an ordinary request is answered, and only an ordinary one."""
    beyond: list[str] = []

    async def framework(scope: Scope, receive: Any, send: Any) -> None:
        beyond.append(scope["path"])

    agent = Agent("bench", model="m")
    async with Remanence(f"sqlite:///{tmp_path}/a.db", agents=[agent], models={"m": Scripted(script)}) as rt:
        app = build(rt, short=True)
        lanes: list[Lane] = [lane for face in faces() for lane in getattr(face, "lanes", [])]
        short = Lanes(framework, lanes=lanes)

        async def whole(scope: Scope, receive: Any, send: Any) -> None:
            await short({**scope, "app": app}, receive, send)

        session = (await rt.open("bench")).id
        for prefix in ("/v1", "/openai/v1"):
            assert (await answer(whole, f"{prefix}/responses", SAY, GOOD))[0] == 200  # pyright: ignore[reportArgumentType]
            said = f"{prefix}/agents/sessions/{session}/events"
            assert (await answer(whole, said, {"events": [MESSAGE]}, GOOD))[0] == 202  # pyright: ignore[reportArgumentType]
    assert beyond == []


async def test_a_rate_holds_on_both_ways(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/a.db", models={"m": Scripted(script)}) as rt:
        app = build(rt, short=True, rate=Rate(per_minute=1, burst=2))
        statuses = [(await answer(app, "/v1/responses", SAY, GOOD))[0] for _ in range(2)]
        statuses.append((await answer(app, "/v1/responses", SAY, GOOD))[0])
        statuses.append((await answer(app, "/v1/responses", SAY, {**GOOD, "x-if-busy": "queue"}))[0])
    assert statuses == [200, 200, 429, 429]
