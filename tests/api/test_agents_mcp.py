"""MCP servers that an agent of the Agents API declares: a real server, the vendors' client, what ran and how often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from agents_client import LOOK, decision, follow, message, opened, said_in, send
from mcp_world import Shop, shop_over_http
from test_response_mcp import script
from wire_server import WireServer

from remanence import Agent, tool
from remanence.events import ToolStarted
from remanence.models.scripted import Scripted
from remanence.spec import MemoryUse


@tool(replay="safe")
async def price(thing: str) -> str:
    """What a thing costs, as far as this house knows."""
    return f"{thing} is priceless"


KEEPER = Agent("keeper", model="m", instructions="Keep.", tools=[price], memory=MemoryUse())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_over_http(tmp_path_factory.mktemp("shop") / "book") as made:
        yield made


@contextmanager
def served(database: object, *hosts: str) -> Iterator[WireServer]:
    models = {"m": Scripted(script)}
    server = WireServer(str(database), models, [KEEPER], mcp_hosts=hosts or ("127.0.0.1",))
    try:
        yield server
    finally:
        server.stop()


def of(shop: Shop, **more: Any) -> Any:
    """The shop, as a client of the Agents API declares it."""
    return {"type": "mcp", "server_label": "shop", "transport": {"type": "http", "server_url": shop.url}, **more}


def with_tools(*tools: Any) -> Any:
    return {"agent": {"model": "m", "tools": list(tools)}}


def items(client: Any, session: str) -> list[Any]:
    return list(client.beta.agents.sessions.items.list(session, order="asc"))


def test_a_call_asks_and_runs_once_it_may(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path / "a.db") as server, server.client() as client:
        before = len(shop.ran)
        session = opened(client, "buy tea", **with_tools(of(shop), LOOK))
        assert [one.type for one in session.agent.tools] == ["mcp", "function"]
        assert session.agent.tools[0].transport.server_url == shop.url
        asked = follow(client, session.id, "requires_action")[-1].session
        (action,) = asked.required_actions
        assert (action.type, action.request.server_label, action.request.name) == (
            "mcp_approval_request",
            "shop",
            "buy",
        )
        assert action.request.arguments == {"thing": "tea"}
        assert len(shop.ran) == before, "nothing ran before somebody allowed it"
        send(client, session.id, decision(action, "approve"))
        told = follow(client, session.id, "turn.completed")
        (_, call, said) = items(client, session.id)
        assert (call.type, call.server_label, call.name, call.status) == ("mcp_call", "shop", "buy", "completed")
        assert (call.arguments, call.output, call.error) == ({"thing": "tea"}, "bought tea", None)
        assert said.output_text == "bought tea"
        seen = [event.item for event in told if event.type.endswith(("item.added", "item.done"))]
        assert [(one.id, one.status) for one in seen if one.type == "mcp_call"] == [
            (call.id, "in_progress"),
            (call.id, "completed"),
        ]
        assert len(shop.ran) == before + 1
        with pytest.raises(openai.BadRequestError) as late:
            send(client, session.id, decision(action, "approve"))
        assert late.value.param == "events[0].request_id"
        assert len(shop.ran) == before + 1, "an answer is used once"
        records = server.do(lambda rt: rt.database.store.read(session.id))
        started = [one.event for one in records if isinstance(one.event, ToolStarted)]
        assert [(one.tool, one.replay) for one in started] == [("buy", "never")]
        assert shop.ran[-1] == f"buy tea {started[0].effect_key}"


def test_what_is_denied_never_runs(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path / "a.db") as server, server.client() as client:
        before = len(shop.ran)
        session = opened(client, "buy a, buy b", **with_tools(of(shop)))
        with client.beta.agents.sessions.events.stream(session.id, extra_query={"starting_after": "0.0"}) as events:
            standing = (event.session for event in events if event.type == "agent.session.requires_action")
            asked = next(one.required_actions for one in standing if len(one.required_actions) == 2)
        first, second = sorted(asked, key=lambda action: action.request.arguments["thing"])
        send(client, session.id, decision(first, "deny"), decision(second, "approve"))
        follow(client, session.id, "turn.completed")
        calls = {one.arguments["thing"]: one for one in items(client, session.id) if one.type == "mcp_call"}
        assert (calls["a"].status, calls["a"].output) == ("incomplete", None)
        assert (calls["b"].status, calls["b"].output) == ("completed", "bought b")
        assert [line.split()[1] for line in shop.ran[before:]] == ["b"]


def test_a_saved_agent_pins_what_its_servers_offer(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path / "a.db") as server, server.client() as client:
        some = of(shop, allowed_tools=["price", "reserve"], require_approval="never", request_metadata={"desk": 7})
        key = {"Idempotency-Key": "k"}
        made = client.beta.agents.create(model="m", tools=[some], extra_headers=key)
        (shown,) = made.tools
        assert (shown.allowed_tools, shown.required, shown.request_metadata) == (
            ["price", "reserve"],
            False,
            {"desk": 7},
        )
        assert (shown.connection_origin, shown.transport.headers) == ("service", {})
        assert client.beta.agents.retrieve(made.id).tools == made.tools
        session = opened(client, "price tea", agent_id=made.id)
        follow(client, session.id, "turn.completed")
        assert said_in(client, session.id) == ["tea costs 3 euros"]
        renamed = client.beta.agents.update(made.id, instructions="Sell.")
        assert renamed.tools == made.tools, "what is not named stays"
        again = opened(client, "reserve ink", agent_id=made.id)
        follow(client, again.id, "turn.completed")
        assert [one.type for one in items(client, again.id)] == ["message", "mcp_call", "message"]
        assert shop.ran[-1] == "reserve ink at 7", "the metadata goes along"
        client.beta.agents.update(made.id, tools=[LOOK])
        without = opened(client, "price tea", agent_id=made.id)
        follow(client, without.id, "turn.completed")
        assert said_in(client, without.id) == ["I have look"]
        send(client, session.id, message("price gold"))
        follow(client, session.id, "idle", after="12.0")
        assert said_in(client, session.id)[-1] == "gold costs 4 euros", "sessions keep their version"


def test_a_session_changes_its_servers(tmp_path: Path, shop: Shop) -> None:
    """Earlier items stay what they were: a page of them says the same in every version."""
    with served(tmp_path / "a.db") as server, server.client() as client:
        session = opened(client, "price tea", **with_tools(of(shop, require_approval="never")))
        follow(client, session.id, "turn.completed")
        before = items(client, session.id)
        client.beta.agents.sessions.update(session.id, agent={"tools": [LOOK]})
        send(client, session.id, message("price tea"))
        follow(
            client, session.id, "idle", after=str(len(server.do(lambda rt: rt.database.store.read(session.id)))) + ".0"
        )
        assert said_in(client, session.id)[-1] == "I have look"
        assert items(client, session.id)[:3] == before
        client.beta.agents.sessions.update(
            session.id, agent={"tools": [of(shop, require_approval={"never": {"read_only": True}})]}
        )
        send(client, session.id, message("price ink, buy ink"))
        asked = follow(client, session.id, "requires_action")[-1].session.required_actions
        assert [action.request.name for action in asked] == ["buy"]


def test_an_agent_in_code_keeps_its_own(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path / "a.db") as server, server.client() as client:
        own = {**LOOK, "name": "price"}
        more = {"agent": {"tools": [own, of(shop, require_approval="never")]}}
        session = opened(client, "price tea, shop__price tea", agent_id="keeper", **more)
        follow(client, session.id, "turn.completed")
        words = said_in(client, session.id)[0].split("; ")
        assert sorted(words) == ["tea costs 3 euros", "tea is priceless"]
        alone = opened(
            client, "shop__price ink", agent_id="keeper", agent={"tools": [of(shop, require_approval="never")]}
        )
        follow(client, alone.id, "turn.completed")
        assert said_in(client, alone.id) == ["ink costs 3 euros"], "the name stays the agent's, though it is left out"
        spec = server.do(lambda rt: _pinned(rt, alone.id))
        assert spec.memory == MemoryUse(), "a session with changes remembers like any other"


async def _pinned(rt: Any, session: str) -> Any:
    records = await rt.database.store.read(session, limit=1)
    return await rt.database.specs.get(records[0].event.version)


def test_what_cannot_be_honoured_is_named(tmp_path: Path, shop: Shop) -> None:
    process = {"type": "stdio", "command": "sh", "cwd": "/"}
    http = {"type": "http", "server_url": shop.url}
    elsewhere = {**http, "server_url": "http://elsewhere.example/mcp"}
    with served(tmp_path / "a.db") as server, server.client() as client:
        for wrong, param in (
            (of(shop, transport=process), "transport.type"),
            (of(shop, transport=elsewhere), "transport.server_url"),
            (of(shop, allowed_tools=["steal"]), "allowed_tools"),
            (of(shop, connection_origin="environment"), "connection_origin"),
            (of(shop, credential_id="cred_1"), "credential_id"),
            (of(shop, transport={**http, "authorization": "Bearer x"}), "transport.authorization"),
            (of(shop, transport={**http, "headers": {"x-key": "x"}}), "transport.headers"),
            (of(shop, transport={**http, "server_url": shop.url.replace("//", "//me:pass@")}), "transport.server_url"),
            (of(shop, transport={**http, "server_url": f"{shop.url}?api_key=x"}), "transport.server_url"),
            (of(shop, server_label="not a label"), "server_label"),
            (of(shop, colour="red"), "colour"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                opened(client, **with_tools(wrong))
            assert refused.value.param == f"agent.tools[0].{param}"
        with pytest.raises(openai.BadRequestError, match="two servers"):
            opened(client, **with_tools(of(shop), of(shop)))
        away = of(shop, transport={**http, "server_url": "http://127.0.0.1:9/mcp"})
        with pytest.raises(openai.APIStatusError) as gone:
            client.beta.agents.create(model="m", tools=[{**away, "required": True}])
        assert (gone.value.status_code, gone.value.code) == (424, "mcp_unreachable")
        assert list(client.beta.agents.sessions.list()) == []


def test_a_server_that_is_required_is_asked_again(tmp_path: Path) -> None:
    with served(tmp_path / "a.db") as server, server.client() as client:
        with shop_over_http(tmp_path / "book") as shop:
            needs = client.beta.agents.create(model="m", tools=[of(shop, required=True)])
            likes = client.beta.agents.create(model="m", tools=[of(shop)], extra_headers={"Idempotency-Key": "likes"})
            opened(client, agent_id=needs.id)
        with pytest.raises(openai.APIStatusError) as gone:
            opened(client, agent_id=needs.id)
        assert gone.value.status_code == 424
        assert opened(client, agent_id=likes.id).status == "idle"
        again = client.beta.agents.create(model="m", tools=[of(shop)], extra_headers={"Idempotency-Key": "likes"})
        assert again.id == likes.id, "the same request is the same agent, whoever is away by now"


def test_a_server_that_is_away_is_left_out_and_said_so(tmp_path: Path) -> None:
    """Unless it is required. Sessions that open later ask it again; one that found it keeps it."""
    with served(tmp_path / "a.db") as server, server.client() as client:
        with shop_over_http(tmp_path / "book") as shop:
            tools = [LOOK, of(shop, require_approval="never")]
        made = client.beta.agents.create(model="m", tools=tools)
        assert made.tools == client.beta.agents.retrieve(made.id).tools
        assert "did not say what it offers" in made.tools[1].unavailable
        without = opened(client, "price tea", agent_id=made.id)
        assert without.agent.tools[1].unavailable == made.tools[1].unavailable
        follow(client, without.id, "turn.completed")
        assert said_in(client, without.id) == ["I have look"]
        alone = opened(client, "price tea", **with_tools(*tools))
        assert alone.agent.tools[1].unavailable
        renamed = client.beta.agents.update(made.id, instructions="Sell.")
        assert renamed.tools == made.tools, "what is not named stays as it is, and is not asked again"
        with shop_over_http(tmp_path / "book", port_of(shop)) as shop:
            session = opened(client, "price tea", agent_id=made.id)
            assert not hasattr(session.agent.tools[1], "unavailable")
            follow(client, session.id, "turn.completed")
            assert said_in(client, session.id) == ["tea costs 3 euros"]
            changed = opened(client, "price ink", agent_id=made.id, agent={"instructions": "Sell."})
            follow(client, changed.id, "turn.completed")
            assert said_in(client, changed.id) == ["ink costs 3 euros"]
            again = client.beta.agents.sessions.update(without.id, agent={"tools": tools})
            assert not hasattr(again.agent.tools[1], "unavailable")
        assert not hasattr(client.beta.agents.sessions.retrieve(session.id).agent.tools[1], "unavailable")


def port_of(shop: Shop) -> int:
    return urlsplit(shop.url).port or 0


def test_over_postgresql(postgres_database: str, shop: Shop) -> None:
    with served(postgres_database) as server, server.client() as client:
        session = opened(client, "buy tea", **with_tools(of(shop)))
        (action,) = follow(client, session.id, "requires_action")[-1].session.required_actions
        send(client, session.id, decision(action, "approve"))
        follow(client, session.id, "turn.completed")
        assert [one.type for one in items(client, session.id)] == ["message", "mcp_call", "message"]
