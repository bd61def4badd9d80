"""What an input does while a turn runs, on every route that takes one: as it says, else as the agent says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from agents_client import NONE, follow, message, send
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
        with connect(url, open_timeout=60, additional_headers=headers) as socket:
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


HELLO: Any = [{"role": "user", "content": "hello"}]
SUBMITS: list[tuple[str, Any, dict[str, str]]] = [
    ("/v1/responses", {"model": "support", "input": "hello"}, {}),
    ("/v1/responses", {"model": "scripted", "input": "hello", "store": False}, {}),
    ("/v1/chat/completions", {"model": "support", "messages": HELLO}, {}),
    ("/v1/chat/completions", {"model": "scripted", "messages": HELLO}, {}),
    ("/v1/chat/completions", {"model": "scripted", "messages": HELLO}, {"x-session-id": "new"}),
    ("/v1/agents/sessions", {"agent": {"model": "scripted"}, "environment": NONE, "input": "hello"}, {}),
]
"""Whatever gives somebody something to say, in a session of its own or in none."""


@pytest.mark.parametrize(("path", "body", "headers"), SUBMITS)
def test_where_no_turn_can_be_running_every_choice_holds(
    path: str, body: Any, headers: dict[str, str], server: WireServer
) -> None:
    """And a word that is no choice is refused there as everywhere."""
    with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}", **headers}, timeout=60) as ask:
        for choice in ("reject", "interrupt", "steer", "queue"):
            ask.post(path, json=body, headers={"x-if-busy": choice}).raise_for_status()
        for wrong in ("perhaps", "Reject", ""):
            refused = ask.post(path, json=body, headers={"x-if-busy": wrong})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-if-busy"), refused.text


def test_a_word_nobody_knows_is_refused_before_a_socket_opens(server: WireServer) -> None:
    url = server.url.replace("http", "ws") + "/v1/responses"
    headers = {"authorization": f"Bearer {KEY}", "x-if-busy": "perhaps"}
    with pytest.raises(InvalidStatus) as caught, connect(url, open_timeout=60, additional_headers=headers):
        pass
    error = msgspec.json.decode(caught.value.response.body or b"")["error"]
    assert (caught.value.response.status_code, error["code"], error["param"]) == (400, "invalid_value", "x-if-busy")


def test_every_submit_says_what_it_does_while_a_turn_runs(server: WireServer) -> None:
    """In the description: whatever takes an input names the header."""
    paths = httpx2.get(f"{server.url}/openapi.json", timeout=60).json()["paths"]
    named = {
        path
        for path, operations in paths.items()
        for one in operations.get("post", {}).get("parameters", ())
        if one["name"] == "x-if-busy"
    }
    assert named == {path for path, _, _ in SUBMITS} | {"/v1/agents/sessions/{session_id}/events"}


def test_messages_of_one_request_are_one_submission(server: WireServer) -> None:
    """The first of them does not keep the second out; what ran before the request does, and then none of it happens."""
    with server.client() as client:
        made = client.beta.agents.create(model="scripted", name="twice").id
        session = client.beta.agents.sessions.create(agent_id=made, environment=NONE).id
        headers = {"x-if-busy": "reject"}
        for _ in range(2):  # the same request again finds its own turn running, or over
            send(client, session, message("one"), message("two"), idempotency_key="k", extra_headers=headers)
        follow(client, session, "idle", after=follow(client, session, "turn.completed")[-1].event_id)
        assert heard_in(client, session) == ["one", "two"]
        busy = server.do(_opened)
        for events in ((message("three"), message("four")), (message("three"),)):
            with pytest.raises(openai.ConflictError) as caught:
                send(client, busy, *events, extra_headers=headers)
            assert caught.value.code == "busy"
        assert heard_in(client, busy) == [BEGIN]


def heard_in(client: Any, session: str) -> list[str]:
    items = client.beta.agents.sessions.items.list(session, order="asc")
    return [item.content[0].text for item in items if item.type == "message" and item.role == "user"]


@pytest.mark.parametrize("way", ["responses", "chat", "agents", "native"])
def test_what_was_accepted_is_not_refused_when_it_is_sent_again(way: str, server: WireServer) -> None:
    """Under its key: it is its own turn that keeps the session busy."""
    keyed = {"idempotency-key": "k", "x-if-busy": "reject"}
    with server.client() as client:
        opened = server.do(_idle)
        answers: list[Any] = []
        for _ in range(2):
            if way == "responses":
                talk = client.conversations.create(extra_headers={"idempotency-key": "t"}).id
                create = client.responses.create
                made = create(model="support", input=BEGIN, conversation=talk, extra_headers=keyed)
                answers.append((made.id, made.waiting_on["kind"]))
            elif way == "chat":
                said: Any = [{"role": "user", "content": BEGIN}]
                headers = {**keyed, "x-session-id": opened}
                with pytest.raises(openai.ConflictError) as caught:
                    client.chat.completions.create(model="support", messages=said, extra_headers=headers)
                answers.append((caught.value.code, caught.value.response.headers["x-session-id"]))
                assert "approv" in caught.value.message
            elif way == "agents":
                send(client, opened, message(BEGIN), extra_headers=keyed)
                answers.append(follow(client, opened, "requires_action")[-1].event_id)
            else:
                body = {"text": BEGIN, "if_busy": "reject"}
                headers = {"authorization": f"Bearer {KEY}", **keyed}
                url = f"{server.url}/admin/v1/sessions/{opened}/send"
                told = httpx2.post(url, json=body, headers=headers, timeout=60).raise_for_status().json()
                answers.append({**told, "replayed": False})
                follow(client, opened, "requires_action")
        assert answers[0] == answers[1]


async def _idle(rt: Any) -> str:
    return (await rt.open("support")).id
