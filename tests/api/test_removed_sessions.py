"""A session that is removed while somebody hears it: every stream ends with a last event that says so, whole.

The reader and whoever removes it are at one process, or at two over one database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from agents_client import opened
from openai.types.beta import AgentSessionEvent
from pydantic import TypeAdapter
from websockets.sync.client import connect
from wire_server import KEY, WireServer

from remanence.models.scripted import Scripted, Step

HEADERS = {"authorization": f"Bearer {KEY}", "openai-beta": "agents=v1"}
SLOW = [Step(text=" ".join(["One two three", *["and more"] * 300]), piece_s=0.25)]
"""It goes on for minutes: whatever the machine does meanwhile, what is removed is removed in mid-speech."""
CANCELLED = ("response.incomplete", "cancelled")
event_of_agents: TypeAdapter[Any] = TypeAdapter(AgentSessionEvent)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WireServer, WireServer]]:
    path = str(tmp_path_factory.mktemp("removed") / "a.db")
    made = (WireServer(path, {"scripted": Scripted(SLOW)}), WireServer(path, {"scripted": Scripted(SLOW)}))
    yield made
    for server in made:
        server.stop()


@pytest.fixture(params=["one process", "two processes"])
def places(request: Any, servers: tuple[WireServer, WireServer]) -> tuple[str, str]:
    """Where the reader is, and where the session is removed."""
    return servers[0].url, servers[request.param == "two processes"].url


def removed(url: str, session: str) -> None:
    answer = httpx2.delete(f"{url}/v1/agents/sessions/{session}", headers=HEADERS, timeout=60)
    assert answer.status_code == 200, answer.text


def heard(places: tuple[str, str], method: str, path: str, body: Any, session: str = "", **more: str) -> list[Any]:
    """The events of a stream whose session is removed once it has said something. Each is a frame, whole, LF only."""
    reads, removes = places
    text = b""
    with httpx2.stream(method, f"{reads}/v1{path}", json=body, headers={**HEADERS, **more}, timeout=60) as answer:
        session, gone = session or answer.headers.get("x-session-id", ""), False
        for piece in answer.iter_raw():
            text += piece
            if not session and b'"session_id":"' in text:
                session = text.partition(b'"session_id":"')[2].partition(b'"')[0].decode()
            if b"two" in text and not gone:
                gone = True
                removed(removes, session)
    assert text.endswith(b"\n\n")
    assert b"\r" not in text
    frames = [frame for frame in text.decode().split("\n\n") if frame and not frame.startswith(":")]
    told = [frame.rpartition("data: ")[2] for frame in frames]
    return [data if data == "[DONE]" else json.loads(data) for data in told]


def test_a_response(places: tuple[str, str]) -> None:
    *_, last, done = heard(places, "POST", "/responses", {"model": "scripted", "input": "hi", "stream": True})
    assert (last["type"], last["response"]["status"], done) == (*CANCELLED, "[DONE]")


def test_a_response_of_a_conversation(places: tuple[str, str]) -> None:
    talk = httpx2.post(f"{places[0]}/v1/conversations", json={}, headers=HEADERS, timeout=60).json()["id"]
    body = {"model": "scripted", "input": "hi", "stream": True, "conversation": talk}
    *_, last, done = heard(places, "POST", "/responses", body)
    assert (last["type"], last["response"]["status"], done) == (*CANCELLED, "[DONE]")


def test_a_response_that_is_read_again(places: tuple[str, str]) -> None:
    made = httpx2.post(
        f"{places[0]}/v1/responses",
        json={"model": "scripted", "input": "hi", "background": True},
        headers=HEADERS,
        timeout=60,
    ).json()
    *_, last, done = heard(places, "GET", f"/responses/{made['id']}?stream=true", None)
    assert (last["type"], last["response"]["status"], done) == (*CANCELLED, "[DONE]")


def test_a_response_over_a_web_socket(places: tuple[str, str]) -> None:
    reads, removes = places
    with connect(f"{reads.replace('http', 'ws')}/v1/responses", open_timeout=60, additional_headers=HEADERS) as socket:
        socket.send(json.dumps({"type": "response.create", "model": "scripted", "input": "hi"}))
        while True:
            event = json.loads(socket.recv(timeout=60))
            if event.get("delta") == "two ":
                session = event["item_id"].removeprefix("msg_").partition("_1_1")[0]  # of whichever attempt
                removed(removes, session)
            if event["type"] == CANCELLED[0]:
                assert event["response"]["status"] == CANCELLED[1]
                break


def test_a_chat(places: tuple[str, str]) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    *_, last = heard(places, "POST", "/chat/completions", body, **{"x-session-id": "new"})
    assert last["error"]["code"] == "conflict"
    assert "(the session was deleted)" in last["error"]["message"]


NEW: Any = {"environment": {"type": "none"}, "agent": {"model": "scripted"}, "input": "hi", "stream": True}


@pytest.mark.parametrize("stays", [False, True])
def test_a_session_of_the_agents_api(places: tuple[str, str], stays: bool) -> None:
    """Its turn ends, it is at rest, and then nothing more comes: the last event says so."""
    if stays:
        made = httpx2.post(
            f"{places[0]}/v1/agents/sessions", json={**NEW, "stream": False}, headers=HEADERS, timeout=60
        ).json()
        events = heard(places, "GET", f"/agents/sessions/{made['id']}/events", None, made["id"])
    else:
        events = heard(places, "POST", "/agents/sessions", NEW)
    for event in events:
        event_of_agents.validate_python(event, strict=True)
    kinds = [event["type"] for event in events]
    assert kinds[-3:] == ["agent.session.turn.cancelled", "agent.session.idle", "error"]
    assert events[-1]["error"]["code"] == "session_deleted"
    assert "agent.session.turn.item.done" in kinds, "what was begun is ended"


def test_a_session_that_rests(servers: tuple[WireServer, WireServer]) -> None:
    with servers[0].client(timeout=60) as client:
        made = opened(client)
        with closing(client.beta.agents.sessions.events.stream(made.id)) as events:
            assert next(events).type == "agent.session.idle"
            servers[1].client().beta.agents.sessions.delete(made.id)
            assert [event.error.code for event in events] == ["session_deleted"]
        with pytest.raises(openai.NotFoundError):
            client.beta.agents.sessions.events.stream(made.id)


# --- nobody is there to cancel what ran -------------------------------------------------------------------------------


class _Faces(WireServer):
    works = False


@pytest.fixture(params=[False, True], ids=["queued", "in mid-speech"])
def left(request: Any, tmp_path: Path) -> Iterator[tuple[str, WireServer | None]]:
    """A server without a worker, and a worker that dies once it has spoken, if there was one."""
    reads = _Faces(f"{tmp_path}/a.db", {"scripted": Scripted(SLOW)})
    works = WireServer(f"{tmp_path}/a.db", {"scripted": Scripted(SLOW)}) if request.param else None
    yield reads.url, works
    reads.stop()


def last_heard(left: tuple[str, WireServer | None], path: str, body: Any, **more: str) -> list[str]:
    """The data of a stream whose session is removed when nobody works on it any more, which says so soon."""
    reads, works = left
    text = b""
    headers = {**HEADERS, **more}
    with httpx2.stream("POST", f"{reads}/v1{path}", json=body, headers=headers, timeout=60) as answer:
        session, gone = answer.headers.get("x-session-id", ""), False
        for piece in answer.iter_raw():
            text += piece
            found = re.search(rb'"(sess_[^"_]+)"', text)
            session = session or (found[1].decode() if found else "")
            if session and not gone and (works is None or b"two" in text):
                gone = True
                if works is not None:
                    works.kill()
                removed(reads, session)
    frames = [frame for frame in text.decode().split("\n\n") if frame and not frame.startswith(":")]
    return [frame.rpartition("data: ")[2] for frame in frames]


def test_the_last_event_of_a_response_waits_for_no_worker(left: Any) -> None:
    *_, last, done = last_heard(left, "/responses", {"model": "scripted", "input": "hi", "stream": True})
    response = json.loads(last)["response"]
    assert (json.loads(last)["type"], response["status"], done) == (*CANCELLED, "[DONE]")
    assert [item["status"] for item in response["output"]] == []
    with openai.OpenAI(base_url=f"{left[0]}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
        assert client.responses.retrieve(response["id"]).to_dict() == response
        with pytest.raises(openai.APIStatusError):
            client.responses.create(model="scripted", input="more", previous_response_id=response["id"])


@pytest.mark.parametrize("left", [True], ids=["in mid-speech"], indirect=True)  # it answers once it has begun
def test_the_last_event_of_a_chat_waits_for_no_worker(left: Any) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    *_, last = last_heard(left, "/chat/completions", body, **{"x-session-id": "new"})
    assert json.loads(last)["error"]["code"] == "conflict"
    assert "(the session was deleted)" in json.loads(last)["error"]["message"]


def test_the_last_event_of_the_agents_api_waits_for_no_worker(left: Any) -> None:
    events = [json.loads(data) for data in last_heard(left, "/agents/sessions", NEW)]
    for event in events:
        event_of_agents.validate_python(event, strict=True)
    kinds = [event["type"] for event in events]
    assert events[-1]["error"]["code"] == "session_deleted"
    ends = ["agent.session.turn.item.done", "agent.session.turn.cancelled"] if left[1] else []
    assert kinds[-2 - len(ends) :] == [*ends, "agent.session.idle", "error"]
