"""Agents that remember over the Agents API, with the vendors' client: what `metadata` says of it, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from agents_client import LOOK, Client, follow, message, opened, said_in, send
from openai import BadRequestError, ConflictError
from wire_server import KEY, WireServer

from remanence import Agent
from remanence.content import Text, ToolCall, ToolResult, text_of
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import ModelReply, ModelRequest

USER = "remanence.user"
MEMORY = "remanence.memory"
STORE = "remanence.memory.store"


def obedient(request: ModelRequest) -> ModelReply:
    """Calls the memory tool it is told to; else repeats everything in view, so that a test sees what was recalled."""
    last = request.messages[-1]
    if last.role == "tool":
        return ModelReply((Text("\n".join(text_of(p.parts) for p in last.parts if isinstance(p, ToolResult))),))
    name, _, arguments = last_user_text(request).partition(" ")
    if name.startswith("memory_"):
        return ModelReply((ToolCall("x", name, arguments or "{}"),))
    view = "\n".join(text_of(message.parts) for message in request.messages)
    tools = ",".join(tool.name for tool in request.tools)
    return ModelReply((Text(f"{view}\ntools: {tools}"),))


DECLARED = Agent("clerk", model="scripted", memory=True)


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WireServer]:
    where = str(tmp_path / "a.db") if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    running = WireServer(where, {"scripted": Scripted(obedient)}, [DECLARED])
    yield running
    running.stop()


@pytest.fixture
def client(server: WireServer) -> Iterator[Client]:
    with server.client() as made:
        yield made


def say(client: Client, text: str, *, session: str | None = None, **more: Any) -> tuple[str, str]:
    """The newest thing the agent said, in this session or a new one; and the session."""
    if session is None:
        session = str(opened(client, text, **more).id)
        follow(client, session, "idle")
    else:
        after = client.beta.agents.sessions.retrieve(session)
        assert after.status == "idle"
        send(client, session, message(text))
        follow(client, session, "turn.completed", after="0.0")
        while client.beta.agents.sessions.retrieve(session).status != "idle":
            follow(client, session, "idle")
    return said_in(client, session)[-1], session


def admin(server: WireServer, method: str, path: str, expected: int = 200, **options: Any) -> Any:
    headers = {"authorization": f"Bearer {KEY}"}
    answer = httpx2.request(method, f"{server.url}/admin/v1/memory{path}", headers=headers, timeout=60, **options)
    assert answer.status_code == expected, answer.text
    return answer.json()


def test_told_known_corrected_forgotten_and_never_another_users(client: Client, server: WireServer) -> None:
    agent = client.beta.agents.create(model="scripted", name="Shop", metadata={MEMORY: "write", "team": "a"}).id
    ada: Any = {"agent_id": agent, "metadata": {USER: "ada"}}
    ben: Any = {"agent_id": agent, "metadata": {USER: "ben"}}
    say(client, "My parcels go to the neighbour at number 12.", **ada)
    assert "neighbour at number 12" in say(client, "Where do my parcels go?", **ada)[0]
    assert "number 12" not in say(client, "Where do my parcels go?", **ben)[0]

    noted = say(client, 'memory_write {"text": "Ada drinks green tea."}', **ada)[0]
    memory = noted.split()[-1].rstrip(".")
    assert "Ada drinks green tea." in say(client, "What does Ada drink?", **ada)[0]
    say(client, f'memory_update {{"memory": "{memory}", "text": "Ada drinks black tea."}}', **ada)
    (found,) = admin(server, "GET", "/search", params={"query": "Ada tea", "kind": "note"})["data"]
    assert (found["memory"]["text"], found["memory"]["version"]) == ("Ada drinks black tea.", 2)
    assert found["memory"]["scope"] == "user:ada"
    say(client, f'memory_forget {{"memory": "{memory}"}}', **ada)
    assert admin(server, "GET", "/search", params={"query": "Ada tea", "kind": "note"})["data"] == []

    erased = admin(server, "POST", "/erasures", 201, json={"what": "user", "name": "ada", "reason": "she asked"})
    assert erased["records"]
    assert "number 12" not in say(client, "Where do my parcels go?", **ada)[0]


def test_an_agent_is_attached_to_a_store_by_an_administrator(client: Client, server: WireServer) -> None:
    agent = client.beta.agents.create(model="scripted", name="Plain", tools=[LOOK], metadata={"team": "a"}).id
    seen, _ = say(client, "What is there?", agent_id=agent)
    assert seen.endswith("tools: look")
    admin(server, "POST", "/stores", 201, json={"name": "team"})
    admin(server, "POST", "/memories", 201, json={"text": "Lunch is at noon.", "scope": "project", "store": "team"})
    made = admin(server, "PUT", "/attachments", json={"agent": agent, "access": "read", "store": "team"})
    assert (made["agent"], made["store"], made["writes"]) == (agent, "team", [])
    assert "noon" in say(client, "When is lunch?", agent_id=agent)[0]
    shown = client.beta.agents.retrieve(agent)
    assert shown.metadata == {"team": "a", MEMORY: "read", STORE: "team"}
    assert [tool.name for tool in shown.tools] == ["look"], "the memory's own tools are not the client's"
    admin(server, "PUT", "/attachments", json={"agent": agent, "access": "off"})
    assert "noon" not in say(client, "When is lunch?", agent_id=agent)[0]
    assert client.beta.agents.retrieve(agent).metadata == {"team": "a"}
    admin(server, "PUT", "/attachments", 404, json={"agent": "nobody", "access": "read"})
    admin(server, "PUT", "/attachments", 404, json={"agent": agent, "access": "read", "store": "never made"})
    admin(server, "PUT", "/attachments", json={"to": f"agent:{agent}", "access": "write", "store": "team"})
    assert "noon" in say(client, "When is lunch?", agent_id=agent)[0], "what was taken away is given back"
    both = {"agent": agent, "to": f"agent:{agent}", "access": "read"}
    admin(server, "PUT", "/attachments", 400, json=both)


def test_an_export_takes_any_cursor(server: WireServer) -> None:
    kept = {admin(server, "POST", "/memories", 201, json={"text": t, "scope": "project"})["memory"] for t in "abc"}
    page = admin(server, "GET", "/export", params={"limit": 2})
    rest = admin(server, "GET", "/export", params={"limit": 2, "after": page["next"]})
    assert {one["memory"] for one in (*page["data"], *rest["data"])} == kept
    assert rest["next"] is None
    assert admin(server, "GET", "/export", params={"after": "\uffff"})["data"] == []
    headers = {"authorization": f"Bearer {KEY}"}
    odd = httpx2.get(f"{server.url}/admin/v1/memory/export", params={"after": "\0"}, headers=headers)
    assert odd.status_code < 500, odd.text


def test_one_memory_is_redacted_with_a_receipt(server: WireServer) -> None:
    kept = admin(server, "POST", "/memories", 201, json={"text": "The code is 4711-0815-secret.", "scope": "project"})
    name = kept["memory"]
    admin(server, "PUT", "/memory", params={"id": name}, json={"text": "The code is 1234-5678-secret."})
    receipt = admin(server, "POST", "/redact", 201, params={"id": name, "reason": "it was a secret"})
    assert receipt["records"]
    admin(server, "GET", "/memory", 404, params={"id": name})
    assert all(check["holds"] for check in admin(server, "POST", "/erasures/verify", json=receipt)["data"])
    admin(server, "POST", "/redact", 400, params={"id": name})


def test_a_running_session_is_detached_at_its_next_call(client: Client, server: WireServer) -> None:
    agent = client.beta.agents.create(model="scripted", metadata={MEMORY: "write"}).id
    admin(server, "POST", "/memories", 201, json={"text": "Lunch is at noon.", "scope": "project"})
    seen, session = say(client, "When is lunch?", agent_id=agent, metadata={USER: "ada"})
    assert "noon" in seen
    admin(server, "PUT", "/attachments", json={"to": f"agent:{agent}", "access": "off"})
    refused, _ = say(client, 'memory_search {"query": "lunch"}', session=session)
    assert "no right to read" in refused
    admin(server, "PUT", "/attachments", json={"to": f"session:{session}", "access": "read"})
    assert "noon" in say(client, 'memory_search {"query": "lunch"}', session=session)[0]
    (one,) = admin(server, "GET", "/attachments", params={"to": f"session:{session}"})["data"]
    assert (one["store"], one["writes"]) == ("default", [])


def test_an_agent_in_code_is_granted_and_keeps_its_version(client: Client, server: WireServer) -> None:
    made = admin(server, "PUT", "/attachments", json={"agent": "clerk", "access": "off"})
    assert (made["to"], made["reads"], made["writes"]) == ("agent:clerk", [], [])
    say(client, "My cat is called Mitz.", agent_id="clerk", metadata={USER: "eve"})
    assert "Mitz" not in say(client, "What is my cat called?", agent_id="clerk", metadata={USER: "eve"})[0]
    admin(server, "PUT", "/attachments", json={"agent": "clerk", "access": "write"})
    say(client, "My dog is called Fido.", agent_id="clerk", metadata={USER: "eve"})
    assert "Fido" in say(client, "What is my dog called?", agent_id="clerk", metadata={USER: "eve"})[0]


def test_an_agent_of_one_session_says_it_in_the_session(client: Client) -> None:
    here: Any = {"agent": {"model": "scripted"}, "metadata": {MEMORY: "write", USER: "eve"}}
    say(client, "My cat is called Mitz.", **here)
    assert "Mitz" in say(client, "What is my cat called?", **here)[0]
    without: Any = {"agent": {"model": "scripted"}, "metadata": {USER: "eve"}}
    assert "Mitz" not in say(client, "What is my cat called?", **without)[0]


def test_a_declared_agent_keeps_its_memory_when_a_session_changes_it(client: Client) -> None:
    eve: Any = {"agent_id": "clerk", "metadata": {USER: "eve"}}
    say(client, "My cat is called Mitz.", **eve)
    changed: Any = {**eve, "agent": {"instructions": "Be brief.", "tools": [LOOK]}}
    seen, session = say(client, "What is my cat called?", **changed)
    assert "Mitz" in seen
    assert "memory_search" in seen
    client.beta.agents.sessions.update(session, agent={"tools": []})
    assert "memory_search" in say(client, "And now?", session=session)[0]


def test_what_cannot_be_meant_is_refused_with_its_path(client: Client, server: WireServer) -> None:
    for metadata, path in (
        ({MEMORY: "always"}, MEMORY),
        ({STORE: "team"}, STORE),
        ({"remanence.memroy": "write"}, "remanence.memroy"),
        ({USER: "ada"}, USER),
    ):
        with pytest.raises(BadRequestError) as refused:
            client.beta.agents.create(model="scripted", metadata=metadata)
        assert refused.value.param == f"metadata.{path}"
    agent = client.beta.agents.create(model="scripted", metadata={MEMORY: "write"}).id
    with pytest.raises(BadRequestError) as refused:
        opened(client, agent_id=agent, metadata={MEMORY: "read"})
    assert refused.value.param == f"metadata.{MEMORY}"
    session = opened(client, agent_id=agent, metadata={USER: "ada"}).id
    with pytest.raises(BadRequestError):
        client.beta.agents.sessions.update(session, metadata={USER: "ben"})
    with pytest.raises(BadRequestError):
        client.beta.agents.sessions.update(session, metadata={})
    kept = client.beta.agents.sessions.update(session, metadata={USER: "ada", "more": "x"})
    assert kept.metadata == {USER: "ada", "more": "x"}
    with pytest.raises(ConflictError):
        client.beta.agents.update("clerk", instructions="x")
