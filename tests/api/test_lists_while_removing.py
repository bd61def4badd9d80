"""Lists that are read while what they show is removed, as whoever tidies up does it: page after page, by the client."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import openai
import pytest
from agents_client import NONE
from wire_server import OTHER, serve


def test_agents_are_removed_while_they_are_listed(tmp_path: Path) -> None:
    """The page after an agent that was removed goes on where it was; what was never there is refused as before."""
    with serve(tmp_path / "a.db") as server, server.client() as client, server.client(OTHER) as stranger:
        agents = client.beta.agents
        made = [agents.create(model="scripted", name=str(number)).id for number in range(9)]
        for agent in islice(agents.list(limit=2), 5):
            agents.delete(agent.id)
        assert [agent.id for agent in agents.list(limit=1, order="asc")] == made[:4]
        assert [agent.id for agent in agents.list(after=made[6]).data] == made[3::-1]
        for agent in agents.list(limit=2, order="asc"):
            agents.delete(agent.id)
        assert agents.list(after=made[0]).data == []
        for asker in (agents, stranger.beta.agents):
            with pytest.raises(openai.BadRequestError) as refused:
                asker.list(after=f"{made[0]}x")
            assert refused.value.param == "after"
        with pytest.raises(openai.BadRequestError):
            stranger.beta.agents.list(after=made[0])


def test_an_agent_that_was_removed_is_gone_for_everything_else(tmp_path: Path) -> None:
    """It is shown by nothing, opens nothing, and the request that made it makes it anew."""
    with serve(tmp_path / "a.db") as server, server.client() as client:
        agents = client.beta.agents
        once: dict[str, Any] = {"extra_headers": {"Idempotency-Key": "one"}}
        first = agents.create(model="scripted", name="ada", **once)
        later = agents.create(model="scripted")
        agents.update(first.id, name="eve")
        agents.delete(first.id)
        for attempt in (
            lambda: agents.retrieve(first.id),
            lambda: agents.update(first.id, name="bob"),
            lambda: agents.delete(first.id),
            lambda: client.beta.agents.sessions.create(environment=NONE, agent_id=first.id, input="hi"),
        ):
            with pytest.raises(openai.NotFoundError):
                attempt()
        again = agents.create(model="scripted", name="ada", **once)
        assert (again.id, again.name) == (first.id, "ada")
        assert [agent.id for agent in agents.list(order="asc")] == [later.id, first.id]


def test_items_of_a_conversation_are_deleted_while_they_are_listed(tmp_path: Path) -> None:
    """In both orders, over what people, developers and models said."""
    with serve(tmp_path / "a.db") as server, server.client() as client:
        conversations = client.conversations
        for order in ("asc", "desc"):
            talk = conversations.create(
                items=[{"role": role, "content": role} for role in ("system", "developer", "user", "assistant", "user")]
            )
            for said in ("one", "two"):
                client.responses.create(model="scripted", input=said, conversation=talk.id)
            items = [item.id for item in conversations.items.list(talk.id, order=order)]
            assert len(items) == 9
            for item in conversations.items.list(talk.id, limit=2, order=order):
                conversations.items.delete(item.id, conversation_id=talk.id)
            assert conversations.items.list(talk.id).data == []
            for gone in items:
                assert conversations.items.list(talk.id, after=gone, order=order).data == []
            with pytest.raises(openai.BadRequestError):
                conversations.items.list(talk.id, after=f"{items[0]}x", order=order)
