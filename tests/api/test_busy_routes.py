"""What an input does while a turn runs, on every route that takes one: as it says, else as the agent says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from agents_client import message
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wire_server import KEY, WireServer, serve

from remanence import Agent, tool


@tool(replay="never", approval="cents > 10")
def refund(cents: int) -> str:
    """Refund money."""
    return "refunded"


support = Agent("support", model="scripted", tools=[refund], if_busy="reject")
BEGIN = '/tool refund {"cents": 99}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WireServer]:
    with serve(tmp_path / "a.db", agents=[support]) as running:
        yield running


def responses(server: WireServer) -> Callable[[str], Any]:
    create = server.client().responses.create
    first = create(model="support", input=BEGIN)
    assert first.waiting_on["kind"] == "approval"

    def say(if_busy: str) -> Any:
        headers = {"x-if-busy": if_busy} if if_busy else {}
        return create(
            model="support", input="more", background=True, previous_response_id=first.id, extra_headers=headers
        )

    return say


def over_a_socket(server: WireServer) -> Callable[[str], Any]:
    first = server.client().responses.create(model="support", input=BEGIN)
    url = server.url.replace("http", "ws") + "/v1/responses"

    def say(if_busy: str) -> Any:
        headers = {"authorization": f"Bearer {KEY}"} | ({"x-if-busy": if_busy} if if_busy else {})
        with connect(url, additional_headers=headers) as socket:
            wanted = {"type": "response.create", "model": "support", "input": "more", "previous_response_id": first.id}
            socket.send(json.dumps(wanted))
            frame = json.loads(socket.recv(timeout=60))
        if frame["type"] == "error":
            request = httpx2.Request("GET", url)
            raise openai.ConflictError("busy", response=httpx2.Response(frame["status"], request=request), body=None)
        return frame

    return say


def chat(server: WireServer) -> Callable[[str], Any]:
    create = server.client().chat.completions.with_raw_response.create
    opened = server.do(_opened)

    def say(if_busy: str) -> Any:
        headers = {"x-session-id": opened} | ({"x-if-busy": if_busy} if if_busy else {})
        messages = [{"role": "user", "content": BEGIN}, {"role": "user", "content": "more"}]
        return create(model="support", messages=messages, stream=True, extra_headers=headers)

    return say


async def _opened(rt: Any) -> str:
    session = await rt.open("support")
    await session.submit(BEGIN)
    async for record in session.events():
        if type(getattr(record, "event", None)).__name__ == "CallJudged":
            return session.id
    raise AssertionError("a session has no end")


def agents(server: WireServer) -> Callable[[str], Any]:
    client, opened = server.client(), server.do(_opened)

    def say(if_busy: str) -> Any:
        headers = {"x-if-busy": if_busy} if if_busy else {}
        return client.beta.agents.sessions.events.create(opened, events=[message("more")], extra_headers=headers)

    return say


def native(server: WireServer) -> Callable[[str], Any]:
    opened = server.do(_opened)

    def say(if_busy: str) -> Any:
        body = {"text": "more"} | ({"if_busy": if_busy} if if_busy else {})
        headers = {"authorization": f"Bearer {KEY}"}
        answer = httpx2.post(f"{server.url}/admin/v1/sessions/{opened}/send", json=body, headers=headers, timeout=60)
        if answer.status_code == 409:
            raise openai.ConflictError("busy", response=answer, body=answer.json())
        return answer.raise_for_status()

    return say


@pytest.mark.parametrize("route", [responses, over_a_socket, chat, agents, native])
def test_as_the_agent_says_or_as_the_request_says(route: Callable[[WireServer], Any], server: WireServer) -> None:
    say = route(server)
    with pytest.raises(openai.ConflictError):
        say("")
    with pytest.raises(openai.ConflictError):
        say("reject")
    if route is not chat:  # its answer would be that of a turn that waits for a person
        say("queue")


def test_a_word_nobody_knows_is_refused(server: WireServer) -> None:
    for create in (server.client().responses.create, server.client().chat.completions.create):
        said = {"messages": []} if "completions" in str(create) else {"input": "x"}
        with pytest.raises(openai.BadRequestError):
            create(model="support", extra_headers={"x-if-busy": "perhaps"}, **said)
    url = server.url.replace("http", "ws") + "/v1/responses"
    headers = {"authorization": f"Bearer {KEY}", "x-if-busy": "perhaps"}
    with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers=headers):
        pass
    assert caught.value.response.status_code == 400
