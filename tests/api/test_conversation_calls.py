"""Calls in a conversation whose outputs come in a later request: the pair is closed then, and never sent before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from chat_server import Server, serving

from remanence import Agent, Remanence
from remanence.api.responses.conversations import conversations_router
from remanence.api.responses.responses import responses_router
from remanence.commands import forks, sessions
from remanence.commands.caller import state_of
from remanence.content import Part, Text, ToolCall, ToolResult, text_of
from remanence.events import CancelAsked, TurnEnded
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

TOOLS: Any = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": None}]


def user(text: str) -> Any:
    return {"type": "message", "role": "user", "content": text}


def bot(text: str) -> Any:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def called(name: str) -> Any:
    return {"type": "function_call", "call_id": name, "name": "f", "arguments": f'{{"of":"{name}"}}'}


def output(name: str, told: str = "") -> Any:
    return {"type": "function_call_output", "call_id": name, "output": told or f"came of {name}"}


def script(request: ModelRequest) -> ModelReply:
    """Calls the tool there is when it is told to; else says how much it was sent."""
    last = request.messages[-1]
    if last.role == "user" and text_of(last.parts) == "call":
        return ModelReply((ToolCall("x", request.tools[0].name, "{}"),), stop="tool_calls")
    return ModelReply((Text(f"{len(request.messages)}"),))


@asynccontextmanager
async def served(database: str, model: Scripted) -> AsyncIterator[Server]:
    faces = [("/v1", responses_router), ("/v1", conversations_router)]
    agents = [Agent("clerk", model="m", instructions="Help.")]
    async with Remanence(database, agents=agents, models={"m": model}) as rt, serving(rt, faces) as server:
        yield server


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
async def server(database: str, model: Scripted) -> AsyncIterator[Server]:
    async with served(database, model) as made:
        yield made


def sent(model: Scripted) -> list[str]:
    """What the model was sent last, a word for each part."""
    return [f"{one.role}: {' '.join(map(_word, one.parts))}" for one in model.requests[-1].messages]


def _word(part: Part) -> str:
    match part:
        case ToolCall(arguments=arguments):
            return arguments
        case ToolResult(call=call, parts=parts):
            return f"{call}={text_of(parts)}"
        case Text(text=text):
            return text
        case _:
            return ""


async def listed(server: Server, talk: str) -> list[str]:
    items = [item async for item in server.client().conversations.items.list(talk, order="asc", limit=2)]
    assert len({item.id for item in items}) == len(items)
    down = [item async for item in server.client().conversations.items.list(talk, order="desc", limit=2)]
    assert down[::-1] == items
    assert all(getattr(item, "status", "completed") == "completed" for item in items)
    return [_line(item) for item in items]


def _line(item: Any) -> str:
    match item.type:
        case "message":
            return f"{item.role}: {item.content[0].text}"
        case "function_call":
            return f"call {item.call_id}"
        case _:
            return f"{item.call_id}: {item.output}"


async def test_an_output_comes_in_the_next_request(server: Server, model: Scripted) -> None:
    conversations = server.client().conversations
    talk = (await conversations.create(items=[user("go"), called("c1")])).id
    added = await conversations.items.create(talk, items=[output("c1")])
    assert [_line(item) for item in added.data] == ["c1: came of c1"]
    assert await listed(server, talk) == ["user: go", "call c1", "c1: came of c1"]
    made = await server.client().responses.create(model="m", input="so?", conversation=talk)
    assert made.output_text == "4"
    assert sent(model) == ["user: go", 'assistant: {"of":"c1"}', "tool: c1=came of c1", "user: so?"]


async def test_an_output_comes_as_the_input_of_a_response(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = (await client.conversations.create()).id
    await client.conversations.items.create(talk, items=[called("c1")])
    made = await client.responses.create(model="m", input=[output("c1")], conversation=talk, tools=TOOLS)
    assert made.output_text == "2"
    assert sent(model) == ['assistant: {"of":"c1"}', "tool: c1=came of c1"]
    assert await listed(server, talk) == ["call c1", "c1: came of c1", "assistant: 2"]
    inputs = (await client.responses.input_items.list(made.id)).data
    assert [item.type for item in inputs] == ["function_call_output"]


async def test_no_model_is_asked_while_a_call_is_unanswered(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = (await client.conversations.create(items=[user("go"), called("c1"), called("c2")])).id
    for wrong in ("so?", [user("so?")], [output("c1")]):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="m", input=wrong, conversation=talk)
        missing = "c1" if wrong != [output("c1")] else "c2"
        assert f"No tool output found for function call {missing}." in refused.value.message
        assert (refused.value.param, refused.value.type) == ("input", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call c1"):
        await client.responses.create(model="clerk", input="so?", conversation=talk)
    assert not model.requests
    with pytest.raises(openai.BadRequestError, match="No tool call found for function call output with call_id c3"):
        await client.conversations.items.create(talk, items=[output("c3")])
    await client.conversations.items.create(talk, items=[output("c2")])
    with pytest.raises(openai.BadRequestError, match="No tool call found for function call output with call_id c2"):
        await client.conversations.items.create(talk, items=[output("c2")])
    await client.responses.create(model="m", input=[output("c1"), user("so?")], conversation=talk)
    assert sent(model) == [
        "user: go",
        'assistant: {"of":"c1"} {"of":"c2"}',
        "tool: c2=came of c2",
        "tool: c1=came of c1",
        "user: so?",
    ]


@pytest.mark.parametrize("at_once", [False, True])
async def test_items_one_by_one_or_at_once_are_the_same_window(server: Server, model: Scripted, at_once: bool) -> None:
    """Whatever stands between a call and its output is heard after it; replies beside it are one step with it."""
    client = server.client()
    items = [user("go"), called("c1"), called("c2"), output("c2"), user("and?"), bot("wait"), output("c1"), bot("done")]
    talk = (await client.conversations.create(items=items if at_once else [])).id
    for item in () if at_once else items:
        await client.conversations.items.create(talk, items=[item])
    assert await listed(server, talk) == [
        "user: go", "call c1", "call c2", "c2: came of c2", "user: and?", "assistant: wait", "c1: came of c1",
        "assistant: done",
    ]  # fmt: skip
    await client.responses.create(model="m", input="so?", conversation=talk)
    assert sent(model) == [
        "user: go",
        'assistant: {"of":"c1"} {"of":"c2"} wait',
        "tool: c2=came of c2",
        "tool: c1=came of c1",
        "user: and?",
        "assistant: done",
        "user: so?",
    ]


async def test_a_call_that_is_told_twice_is_refused(server: Server) -> None:
    conversations = server.client().conversations
    talk = (await conversations.create(items=[called("c1")])).id
    with pytest.raises(openai.BadRequestError, match="c1 is there already"):
        await conversations.items.create(talk, items=[called("c1")])
    assert await listed(server, talk) == ["call c1"]


async def test_an_output_of_a_response_is_added_as_an_item(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = (await client.conversations.create()).id
    asked: Any = await client.responses.create(model="m", input="call", tools=TOOLS, conversation=talk)
    name = asked.output[0].call_id
    with pytest.raises(openai.BadRequestError, match=f"No tool output found for function call {name}"):
        await client.responses.create(model="m", input="so?", conversation=talk)
    await client.conversations.items.create(talk, items=[user("hurry"), output(name, "done")])
    s = await state_of(server.rt.caller, talk)
    assert s.turn is None
    records = await server.rt.database.store.read(talk)
    ended = [record.event for record in records if isinstance(record.event, TurnEnded)]
    assert [len(one.happened) for one in ended] == [1], "what the client ran is told"
    await client.responses.create(model="m", input="so?", conversation=talk)
    assert [one.partition("=")[0] for one in sent(model)] == [
        "user: call", "assistant: {}", "tool: call_1_1_1", "user: hurry", "user: so?",
    ]  # fmt: skip


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("gone", ["call", "output", "words"])
async def test_what_is_deleted_leaves_no_half_of_a_pair(
    server: Server, model: Scripted, gone: str, answered: bool
) -> None:
    client = server.client()
    talk = (await client.conversations.create(items=[user("go"), called("c1"), called("c2")])).id
    await client.conversations.items.create(talk, items=[output("c2"), user("secret")])
    await client.conversations.items.create(talk, items=[output("c1")] if answered else [])
    items: list[Any] = [item async for item in client.conversations.items.list(talk, order="asc")]
    place = {"call": 1, "output": 3, "words": 4}[gone]
    await client.conversations.items.delete(items[place].id, conversation_id=talk)
    left = ["user: go", "call c1", "call c2", "c2: came of c2", "user: secret", "c1: came of c1"][
        : 6 if answered else 5
    ]
    after = {"call": ["user: go", "user: secret"], "output": [one for one in left if not one.startswith("c2")],
             "words": [one for one in left if "secret" not in one]}  # fmt: skip
    assert await listed(server, talk) == after[gone]
    last = [output("c1")] if not answered and gone != "call" else []
    await client.responses.create(model="m", input=[*last, user("so?")], conversation=talk)
    told = sent(model)
    assert [one.partition(":")[0] for one in told] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert ("secret" in str(told)) == (gone != "words")
    assert ("came of c2" in str(told)) == (gone == "words")


async def test_a_call_that_nobody_answers_can_be_deleted(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = (await client.conversations.create(items=[user("go"), called("c1")])).id
    await client.conversations.items.create(talk, items=[called("c2")])
    items: list[Any] = [item async for item in client.conversations.items.list(talk, order="asc")]
    await client.conversations.items.delete(items[1].id, conversation_id=talk)
    assert await listed(server, talk) == ["user: go", "call c2"]
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call c2"):
        await client.responses.create(model="m", input="so?", conversation=talk)
    await client.conversations.items.delete(items[2].id, conversation_id=talk)
    await client.responses.create(model="m", input="so?", conversation=talk)
    assert (await listed(server, talk))[:2] == ["user: go", "user: so?"]


async def test_a_cancel_in_between_asks_no_model(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = (await client.conversations.create(items=[user("go"), called("c1"), user("and?")])).id
    caller = server.rt.caller
    await sessions.tell(caller, talk, CancelAsked(caller.actor, "", 1))
    while (s := await state_of(caller, talk)).turn is not None:  # noqa: ASYNC110 - the worker tells nobody
        await asyncio.sleep(0.01)
    assert (s.queue, s.turns) == ((), 1)
    await client.responses.create(model="m", input="so?", conversation=talk)
    assert [one.partition(":")[0] for one in sent(model)] == ["user", "assistant", "tool", "user", "user"]


async def test_a_fork_in_between_has_no_open_call(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = (await client.conversations.create(items=[user("go"), called("c1"), user("and?")])).id
    forked = await forks.fork(server.rt.caller, talk)
    s = await state_of(server.rt.caller, forked)
    assert (s.turn, s.queue) == (None, ())
    await client.responses.create(model="m", input=[output("c1")], conversation=talk)
    assert sent(model)[-2:] == ["tool: c1=came of c1", "user: and?"]


async def test_another_agent_takes_over_with_the_calls_that_wait(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = (await client.conversations.create(items=[user("go"), called("c1")])).id
    await client.conversations.items.create(talk, items=[user("and?")])
    counted = await client.responses.input_tokens.count(model="m", conversation=talk, input=[output("c1")])
    assert counted.input_tokens > 20
    made = await client.responses.create(model="clerk", input=[output("c1")], conversation=talk)
    assert made.status == "completed"
    assert sent(model) == ["user: go", 'assistant: {"of":"c1"}', "tool: c1=came of c1", "user: and?"]


async def test_a_call_waits_through_a_restart(database: str, model: Scripted) -> None:
    async with served(database, model) as server:
        talk = (await server.client().conversations.create(items=[user("go"), called("c1")])).id
    async with served(database, model) as server:
        await server.client().conversations.items.create(talk, items=[output("c1")])
        await server.client().responses.create(model="m", input="so?", conversation=talk)
    assert sent(model)[1:3] == ['assistant: {"of":"c1"}', "tool: c1=came of c1"]
