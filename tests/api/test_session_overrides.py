"""A session may be opened with changes of its own to an agent: they are that session's, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from agents_client import NONE, Client
from wire_server import KEY, WireServer, serve

from remanence import Agent, Remanence
from remanence.commands.versions import standing, versions_of

PUSHED = Agent("helper", model="scripted", instructions="As it was pushed.").spec
OWN = {"instructions": "For one session alone."}


async def push(rt: Remanence) -> None:
    await rt.database.specs.put(PUSHED, project="default", at=rt.caller.clock.now())


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("overrides") / "a.db") as made:
        made.do(push)
        yield made


def saved(client: Client) -> str:
    made: str = client.beta.agents.create(name="saved", model="scripted", instructions="As it was saved.").id
    return made


@pytest.mark.parametrize("kind", ["pushed", "saved"])
def test_what_an_agents_name_stands_for_stays_what_it_was(kind: str, server: WireServer) -> None:
    """Also for the command line, for programs, for the admin's routes, and for whoever has not seen it yet."""
    words = f"As it was {kind}."
    with server.client() as client, httpx2.Client(base_url=server.url, timeout=60) as http:
        name = "helper" if kind == "pushed" else saved(client)
        sessions = client.beta.agents.sessions
        changed = sessions.create(environment=NONE, agent_id=name)
        sessions.update(changed.id, agent={"model": "scripted", "reasoning": None, "tools": []})
        own = sessions.create(environment=NONE, agent_id=name, agent=OWN)
        assert own.agent.instructions == OWN["instructions"]
        assert client.beta.agents.retrieve(name).instructions == words
        assert sessions.create(environment=NONE, agent_id=name).agent.instructions == words
        opened = http.post("/admin/v1/sessions", json={"agent": name}, headers={"authorization": f"Bearer {KEY}"})
        assert opened.status_code == 201
        assert sessions.retrieve(opened.json()["session"]).agent.instructions == words
        assert sessions.retrieve(own.id).agent.instructions == OWN["instructions"]

    async def meant(rt: Remanence) -> tuple[str, str]:
        known = await versions_of(rt.caller)
        return (await rt.spec_of(name)).instructions, standing(known)[name].spec.instructions

    assert server.do(meant) == (words, words)
    if kind == "pushed":
        assert server.client().responses.create(model=name, input="hello").instructions in (None, words)
