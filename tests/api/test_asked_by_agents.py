"""What an agent of the Agents API asks of its model, on the wire of the provider; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from asked_world import SCHEMA, world

from remanence import Agent
from remanence.spec import ModelSettings
from remanence.testing.wire import Answer

ASKS: dict[str, Any] = {
    "reasoning": {"effort": "low", "summary": "concise"},
    "service_tier": "ultrafast",
    "text": {"format": {"type": "json_schema", "schema": SCHEMA}, "verbosity": "high"},
}


async def answered(sessions: Any, **fields: Any) -> Any:
    """A new session whose first turn is over."""
    stream = await sessions.create(environment={"type": "none"}, input="hi", stream=True, **fields)
    told = [event async for event in stream]
    assert "agent.session.turn.completed" in [event.type for event in told]
    return next(event.session for event in told if event.type == "agent.session.created")


async def test_an_agent_asks_for_all_of_it(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="{}", thinking="Let me see."), Answer(text="{}"), Answer(text="{}")) as it:
        agents = it.client.beta.agents
        made = await agents.create(model="responses", **ASKS)
        session = await answered(agents.sessions, agent_id=made.id)
        assert (it.asked["service_tier"], it.asked["text"]["verbosity"]) == ("ultrafast", "high")
        assert (it.asked["reasoning"]["effort"], it.asked["reasoning"]["summary"]) == ("low", "concise")
        for shown in (made, session.agent, (await agents.sessions.retrieve(session.id)).agent):
            assert (shown.service_tier, shown.text.verbosity) == ("ultrafast", "high")
            assert (shown.reasoning.effort, shown.reasoning.summary) == ("low", "concise")
        items = [item async for item in agents.sessions.items.list(session.id, order="asc")]
        assert "Let me see." in [part.text for item in items if item.type == "reasoning" for part in item.summary]
        changed = await agents.sessions.update(
            session.id, agent={"reasoning": {"effort": "high"}, "service_tier": None}
        )
        assert (changed.agent.reasoning.effort, changed.agent.reasoning.summary) == ("high", "concise")
        assert changed.agent.service_tier == "auto"
        await answered(agents.sessions, agent_id=made.id, agent={"text": None, "reasoning": {"effort": None}})
        assert "service_tier" in it.asked
        assert "verbosity" not in it.asked.get("text", {})
        assert "summary" not in it.asked.get("reasoning", {})


async def test_an_agent_in_code_keeps_what_it_asks_for(tmp_path: Path) -> None:
    settings = ModelSettings(verbosity="low", service_tier="scale", reasoning_summary="detailed", prompt_cache_key="k")
    agent = Agent("terse", model="responses", settings=settings)
    async with world(tmp_path, agents=[agent]) as it:
        sessions = it.client.beta.agents.sessions
        shown = (await answered(sessions, agent_id="terse", agent={"instructions": "Be kind."})).agent
        assert (shown.text.verbosity, shown.reasoning.summary, shown.service_tier) == ("low", "detailed", "auto")
        assert (it.asked["text"]["verbosity"], it.asked["service_tier"]) == ("low", "scale")
        assert (it.asked["reasoning"]["summary"], it.asked["prompt_cache_key"]) == ("detailed", "k")


AGENT_NOT_THERE: list[tuple[dict[str, Any], str]] = [
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"service_tier": "fast"}, "service_tier"),
    ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
]


@pytest.mark.parametrize(("fields", "param"), AGENT_NOT_THERE)
async def test_what_a_model_cannot_do_for_an_agent_is_refused(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    """When the agent is saved or changed, when a session opens and when it is changed."""
    async with world(tmp_path) as it:
        agents = it.client.beta.agents
        plain = await agents.create(model="anthropic")
        session = await agents.sessions.create(environment={"type": "none"}, agent_id=plain.id)
        asks: list[tuple[str, Any]] = [
            ("", agents.create(model="anthropic", **fields)),
            ("", agents.update(plain.id, **fields)),
            ("agent.", agents.sessions.create(environment={"type": "none"}, agent={"model": "anthropic", **fields})),
            ("agent.", agents.sessions.create(environment={"type": "none"}, agent_id=plain.id, agent=fields)),
        ]
        if "text" not in fields:
            asks.append(("agent.", agents.sessions.update(session.id, agent=fields)))
        for prefix, asking in asks:
            with pytest.raises(openai.BadRequestError) as refused:
                await asking
            assert refused.value.param == prefix + param
        assert await it.sessions() == 1
        assert it.provider.requests == []
