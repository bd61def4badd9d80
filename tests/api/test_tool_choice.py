"""`tool_choice` among functions and the tools of MCP servers: what the model was told, and that a forced call ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from mcp_world import Shop, shop_over_http
from wire_server import WireServer

from remanence import Agent, tool
from remanence.content import Text, ToolCall
from remanence.ports import ModelReply, ModelRequest
from remanence.spec import ModelSettings
from remanence.testing.scripted import Scripted, call, says, stalls

LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
FIND: Any = {**LOOK, "name": "find"}


def obedient(request: ModelRequest) -> ModelReply:
    """A model that calls a tool when it is told so, like those of providers; else it says how many calls it made."""
    settings = request.settings
    chosen = settings.tool_choice_among or tuple(one.name for one in request.tools)
    if settings.tool_choice not in (None, "auto", "none", "required"):
        chosen = (settings.tool_choice,)
    if settings.tool_choice not in (None, "auto", "none"):
        return ModelReply((ToolCall("x", chosen[0], msgspec.json.encode({"thing": "tea"}).decode()),))
    return ModelReply((Text(f"{sum(message.role == 'tool' for message in request.messages)} calls"),))


def told(model: Scripted) -> list[tuple[str | None, tuple[str, ...]]]:
    """Which tool the model was told to call, call by call."""
    return [(one.settings.tool_choice, one.settings.tool_choice_among) for one in model.requests]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_over_http(tmp_path_factory.mktemp("shop") / "book") as made:
        yield made


@contextmanager
def served(path: Path, model: Scripted, *agents: Agent) -> Iterator[Any]:
    """A client of a server with this model."""
    server = WireServer(f"{path}/a.db", {"m": model}, agents, mcp_hosts=("127.0.0.1",))
    try:
        with server.client(timeout=60) as client:
            yield client
    finally:
        server.stop()


def of(shop: Shop, **more: Any) -> Any:
    return {"type": "mcp", "server_label": "shop", "server_url": shop.url, "require_approval": "never", **more}


CHOICES: list[tuple[Any, tuple[str | None, tuple[str, ...]], str]] = [
    ({"type": "mcp", "server_label": "shop", "name": "reserve"}, ("reserve", ()), "reserve"),
    ({"type": "mcp", "server_label": "shop"}, ("required", ("price", "reserve")), "price"),
]


@pytest.mark.parametrize(("choice", "settings", "name"), CHOICES)
def test_a_forced_call_of_a_server_is_made_once(
    tmp_path: Path, shop: Shop, choice: Any, settings: tuple[str | None, tuple[str, ...]], name: str
) -> None:
    """What it came to can be answered: the model is not forced again, or the turn would never end."""
    model = Scripted(obedient)
    tools = [LOOK, of(shop, allowed_tools=["price", "reserve"])]
    with served(tmp_path, model) as client:
        made = client.responses.create(model="m", input="go", tools=tools, tool_choice=choice)
        assert [(item.type, getattr(item, "name", None)) for item in made.output][1:] == [
            ("mcp_call", name),
            ("message", None),
        ]
        assert made.output_text == "1 calls"
        assert made.tool_choice.to_dict() == choice
        assert told(model) == [settings, ("auto", ())]
        assert [one.name for one in model.requests[-1].tools] == ["look", "price", "reserve"], "all stay in sight"
        again = client.responses.create(
            model="m", input="and again", tools=tools, tool_choice=choice, previous_response_id=made.id
        )
        assert again.output_text == "2 calls"
        assert told(model)[2:] == [settings, ("auto", ())], "a new input is forced anew"


def test_required_among_a_servers_tools(tmp_path: Path, shop: Shop) -> None:
    model = Scripted(obedient)
    with served(tmp_path, model) as client:
        made = client.responses.create(model="m", input="go", tools=[of(shop)], tool_choice="required")
        assert made.output_text == "1 calls"
        assert told(model) == [("required", ()), ("auto", ())]


def test_a_client_says_with_each_result_what_it_wants(tmp_path: Path, shop: Shop) -> None:
    model = Scripted(obedient)
    with served(tmp_path, model) as client:
        made = client.responses.create(model="m", input="go", tools=[LOOK, of(shop)], tool_choice="required")
        result = {"type": "function_call_output", "call_id": made.output[-1].call_id, "output": "seen"}
        more: Any = {"model": "m", "input": [result], "previous_response_id": made.id, "tools": [LOOK, of(shop)]}
        again = client.responses.create(**more, tool_choice="required")
        assert again.output[-1].type == "function_call"
        assert told(model) == [("required", ()), ("required", ())]


def test_the_tools_that_may_be_called(tmp_path: Path, shop: Shop) -> None:
    model = Scripted(obedient)
    among: Any = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "find"}, {"type": "mcp", "server_label": "shop", "name": "price"}],
    }
    with served(tmp_path, model) as client:
        made = client.responses.create(model="m", input="go", tools=[LOOK, FIND, of(shop)], tool_choice=among)
        assert [one.name for one in model.requests[-1].tools] == ["find", "price"]
        assert (made.output[-1].name, made.tool_choice.to_dict()) == ("find", among)


WRONG: list[tuple[Any, str]] = [
    ({"type": "function", "name": "price"}, "tool_choice.name"),
    ({"type": "mcp", "server_label": "mall"}, "tool_choice.server_label"),
    ({"type": "mcp", "server_label": "shop", "name": "steal"}, "tool_choice.name"),
    (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "server_label": "mall"}]},
        "tool_choice.tools[0].server_label",
    ),
]


def test_a_tool_that_is_not_there_is_named(tmp_path: Path, shop: Shop) -> None:
    model = Scripted(obedient)
    with served(tmp_path, model) as client:
        for choice, param in WRONG:
            with pytest.raises(openai.BadRequestError) as refused:
                client.responses.create(model="m", input="go", tools=[LOOK, of(shop)], tool_choice=choice)
            assert refused.value.param == param
        with pytest.raises(openai.BadRequestError, match="tool_choice"):
            client.responses.create(model="m", input="go", tools=[LOOK], tool_choice={"type": "web_search_preview"})
        assert not model.requests


@tool(replay="safe")
async def peek(thing: str) -> str:
    """Peek at a thing."""
    return f"{thing}!"


def test_an_agent_that_must_call_a_tool_ends_its_turn(tmp_path: Path) -> None:
    model = Scripted(obedient)
    agent = Agent("peeker", model="m", tools=[peek], settings=ModelSettings(tool_choice="required"))
    with served(tmp_path, model, agent) as client:
        made = client.responses.create(model="peeker", input="go")
        assert (made.status, made.output_text) == ("completed", "1 calls")
        assert told(model) == [("required", ()), ("auto", ())]


# --- how many calls ---------------------------------------------------------------------------------------------------


def eager(request: ModelRequest) -> ModelReply:
    """Calls the tools it is told to, one reply for each, then says how each call ended."""
    said = next(message for message in request.messages if message.role == "user")
    orders = "".join(part.text for part in said.parts if isinstance(part, Text)).split(", ")
    done = sum(message.role == "tool" for message in request.messages)
    if done < len(orders):
        name, _, thing = orders[done].partition(" ")
        return ModelReply((ToolCall("x", name, msgspec.json.encode({"thing": thing}).decode()),))
    return ModelReply((Text("done"),))


def test_each_response_counts_its_own_calls(tmp_path: Path, shop: Shop) -> None:
    """A turn may go through several responses; what one of them ran is not counted against the next."""
    with served(tmp_path, Scripted(eager)) as client:
        more: Any = {"model": "m", "tools": [LOOK, of(shop)], "max_tool_calls": 1}
        first = client.responses.create(input="price a, look x, price b, price c", **more)
        call = first.output[-1]
        assert (call.type, [item.type for item in first.output][1:]) == ("function_call", ["mcp_call", "function_call"])
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "seen"}
        second = client.responses.create(input=[result], previous_response_id=first.id, **more)
        calls = [item for item in second.output if item.type == "mcp_call"]
        assert [(one.status, one.output) for one in calls] == [("completed", "b costs 1 euros"), ("failed", None)]
        assert "At most" in str(calls[1].error)


def test_an_answer_to_an_approval_counts_its_own_calls(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path, Scripted(eager)) as client:
        asks = of(shop, require_approval={"never": {"tool_names": ["price"]}})
        more: Any = {"model": "m", "tools": [asks]}
        first = client.responses.create(input="price a, buy tea, price b, price c", max_tool_calls=2, **more)
        request = first.output[-1]
        assert request.type == "mcp_approval_request"
        answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
        second = client.responses.create(input=[answer], previous_response_id=first.id, max_tool_calls=2, **more)
        calls = [item for item in second.output if item.type == "mcp_call"]
        assert [(one.name, one.status) for one in calls] == [
            ("buy", "completed"),
            ("price", "completed"),
            ("price", "failed"),
        ]


# --- after a crash ----------------------------------------------------------------------------------------------------


def test_what_was_asked_survives_a_crash(tmp_path: Path) -> None:
    """The worker dies while the model answers: the next one asks for the same, in another process's words."""
    first, second = Scripted([stalls()]), Scripted([says("Yes.", call("look"))])
    asks: Any = {
        "service_tier": "flex",
        "prompt_cache_key": "shop",
        "reasoning": {"effort": "low", "summary": "detailed"},
        "text": {"verbosity": "low", "format": {"type": "json_object"}},
        "tools": [LOOK],
        "tool_choice": {"type": "function", "name": "look"},
    }
    server = WireServer(f"{tmp_path}/a.db", {"m": first})
    with server.client(timeout=60) as client:
        made = client.responses.create(model="m", input="go", background=True, **asks)
        deadline = time.monotonic() + 60
        while not first.requests:
            assert time.monotonic() < deadline
            client.responses.retrieve(made.id)
    server.kill()
    server = WireServer(f"{tmp_path}/a.db", {"m": second})
    try:
        with server.client(timeout=60) as client, client.responses.retrieve(made.id, stream=True) as events:
            ended = list(events)[-1].response
    finally:
        server.stop()
    assert (ended.status, ended.output_text, ended.text.verbosity) == ("completed", "Yes.", "low")
    assert (
        second.requests[-1].settings
        == first.requests[-1].settings
        == ModelSettings(
            service_tier="flex",
            prompt_cache_key="shop",
            reasoning_effort="low",
            reasoning_summary="detailed",
            verbosity="low",
            output_json=True,
            tool_choice="look",
        )
    )
