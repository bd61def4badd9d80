"""Answers to approvals by a response: all of them or none, once under a key; and calls by the ids that clients know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from wire_server import WireServer

from remanence import Agent, tool
from remanence.content import Text, ToolCall, Usage, text_of
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

LOOK: Any = {"type": "function", "name": "look", "parameters": {}, "strict": None}
refunds: list[int] = []


@tool(replay="never", approval="cents > 0")
async def refund(cents: int) -> str:
    """Refund."""
    refunds.append(cents)
    return "done"


def script(request: ModelRequest) -> ModelReply:
    """Calls the first tool twice at once, then says what came of it."""
    last = request.messages[-1]
    if last.role == "user":
        name = request.tools[0].name
        calls = tuple(ToolCall(f"c{cents}", name, f'{{"cents": {cents}}}') for cents in (1, 2))
        return ModelReply(calls, Usage(1, 1), stop="tool_calls")
    return ModelReply((Text(f"said: {text_of(last.parts)}"),), Usage(1, 1))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    refunds.clear()
    agents = [Agent("shop", model="test", tools=[refund])]
    server = WireServer(str(tmp_path / "a.db"), {"test": Scripted(script)}, agents)
    made = server.client()
    yield made
    made.close()
    server.stop()


def answers(*given: tuple[str, bool]) -> Any:
    return [{"type": "mcp_approval_response", "approval_request_id": name, "approve": yes} for name, yes in given]


def test_answers_to_approvals_hold_together_or_not_at_all(client: Any) -> None:
    create = client.responses.create
    asked = create(model="shop", input="two")
    first, second = (item.id for item in asked.output if item.type == "mcp_approval_request")

    def say(*given: tuple[str, bool], key: str) -> Any:
        headers = {"Idempotency-Key": key}
        return create(model="shop", previous_response_id=asked.id, input=answers(*given), extra_headers=headers)

    for bad, status in (("mcpr_nobodys", 400), (first, 409)):  # the second answer to one approval has nothing to answer
        with pytest.raises(openai.APIStatusError) as caught:
            say((first, True), (bad, True), key="one")
        assert caught.value.status_code == status
        assert "changed 8 times" not in caught.value.message
    assert refunds == []
    told = say((first, True), (second, False), key="one")
    assert (told.status, refunds) == ("completed", [1])
    assert say((first, True), (second, False), key="one").id == told.id
    kept = client.responses.input_items.list(told.id, order="asc").data
    assert [(item.approval_request_id, item.approve) for item in kept] == [(first, True), (second, False)]
    with pytest.raises(openai.ConflictError) as reused:
        say((first, True), key="one")
    assert (reused.value.code, refunds) == ("idempotency_key_reused", [1])


def test_a_call_without_an_output_is_named_as_the_client_knows_it(client: Any) -> None:
    create = client.responses.create
    asked = create(model="test", input="two", tools=[LOOK])
    first, second = (item.call_id for item in asked.output)
    given: Any = [{"type": "function_call_output", "call_id": first, "output": "seen"}]
    for brought, missing in ((given, second), ("never mind", first)):
        with pytest.raises(openai.BadRequestError) as caught:
            create(model="test", input=brought, tools=[LOOK], previous_response_id=asked.id)
        assert re.findall(r"call_\w+", caught.value.message)[-1] == missing


# --- a client that says that it answers -------------------------------------------------------------------------------

ASKS: Any = [{"type": "mcp", "server_label": "shop", "require_approval": "always"}]


@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_response_ends_where_its_client_has_to_say_yes(client: Any, stream: bool) -> None:
    """As with a server of tools that the request itself declares: the answer is the next response, and goes on."""
    create = client.responses.create

    def made(**body: Any) -> Any:
        answer = create(model="shop", tools=ASKS, stream=stream, **body)
        return list(answer)[-1].response if stream else answer

    asked = made(input="two")
    assert (asked.status, [item.type for item in asked.output]) == ("completed", ["mcp_approval_request"] * 2)
    assert [item.server_label for item in asked.output] == ["shop", "shop"]
    assert refunds == []
    first, second = (item.id for item in asked.output)
    told = made(input=answers((first, True), (second, False)), previous_response_id=asked.id)
    assert [(item.type, item.status) for item in told.output] == [
        ("mcp_call", "completed"),
        ("mcp_call", "failed"),
        ("message", "completed"),
    ]
    assert refunds == [1]
    assert client.responses.retrieve(asked.id).to_dict() == asked.to_dict(), "it has ended, and stays as it was"


def test_one_answer_after_the_other(client: Any) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="two")
    first, second = (item.id for item in asked.output)
    between = client.responses.create(
        model="shop", tools=ASKS, input=answers((first, True)), previous_response_id=asked.id
    )
    assert (between.status, [item.type for item in between.output]) == ("completed", ["mcp_call"])
    last = client.responses.create(
        model="shop", tools=ASKS, input=answers((second, True)), previous_response_id=between.id
    )
    assert [item.type for item in last.output] == ["mcp_call", "message"]
    assert sorted(refunds) == [1, 2]


@pytest.mark.parametrize(
    ("model", "given", "param"),
    [
        ("shop", {"server_label": "mall"}, "tools"),
        ("shop", {"server_label": "shop", "require_approval": "never"}, "tools"),
        ("shop", {"server_label": "shop", "server_url": "http://127.0.0.1:9/mcp"}, "tools"),
        ("test", {"server_label": "shop"}, "tools[0].server_url"),
    ],
)
def test_nothing_else_is_said_of_an_agents_tools(client: Any, model: str, given: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=model, tools=[{"type": "mcp", **given}], input="two")
    assert refused.value.param == param
