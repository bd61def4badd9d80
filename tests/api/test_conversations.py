"""Conversations through the vendor's client, strict; and what the model was sent of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import openai
import pytest
from chat_server import OTHER, Server, serving

from remanence import Remanence
from remanence.api.responses.conversations import conversations_router
from remanence.api.responses.responses import responses_router
from remanence.content import Text, ToolCall, text_of
from remanence.models.scripted import Scripted
from remanence.ports import EntryQuery, ModelReply, ModelRequest

USER: Any = {"type": "message", "role": "user", "content": "my name is Ada"}
BOT: Any = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello Ada"}]}


def script(request: ModelRequest) -> ModelReply:
    last = request.messages[-1]
    if request.tools and last.role == "user":
        return ModelReply((ToolCall("x", request.tools[0].name, "{}"),), stop="tool_calls")
    return ModelReply((Text(f"{len(request.messages)}"),))


@asynccontextmanager
async def served(database: str, model: Scripted) -> AsyncIterator[Server]:
    faces = [("/v1", responses_router), ("/v1", conversations_router)]
    async with Remanence(database, models={"m": model}) as rt, serving(rt, faces) as server:
        yield server


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
async def server(database: str, model: Scripted) -> AsyncIterator[Server]:
    async with served(database, model) as made:
        yield made


def window(model: Scripted) -> list[tuple[str, str]]:
    return [(message.role, text_of(message.parts)) for message in model.requests[-1].messages]


async def test_a_conversation_is_kept_and_changed(server: Server) -> None:
    conversations = server.client().conversations
    made = await conversations.create(metadata={"a": "b"})
    assert (made.object, made.metadata) == ("conversation", {"a": "b"})
    changed = await conversations.update(made.id, metadata={"c": "d"})
    assert changed.metadata == {"c": "d"}
    assert (await conversations.retrieve(made.id)).to_dict() == changed.to_dict()
    with pytest.raises(openai.NotFoundError):
        await server.client(OTHER).conversations.retrieve(made.id)
    assert (await conversations.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await conversations.retrieve(made.id)


async def test_the_model_is_sent_the_items_and_what_follows(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = await client.conversations.create(items=[USER, BOT])
    one = await client.responses.create(model="m", input="who am I?", conversation=talk.id)
    assert one.conversation is not None
    assert one.conversation.id == talk.id
    assert window(model) == [("user", "my name is Ada"), ("assistant", "Hello Ada"), ("user", "who am I?")]
    more: Any = [USER, {**USER, "content": "I am from Lyon"}]
    await client.conversations.items.create(talk.id, items=more)
    await client.responses.create(model="m", input="and now?", conversation={"id": talk.id})
    assert window(model)[-3:] == [("user", "my name is Ada"), ("user", "I am from Lyon"), ("user", "and now?")]
    items = [item async for item in client.conversations.items.list(talk.id, order="asc", limit=3)]
    assert len(items) == 8
    assert [item.type for item in items] == ["message"] * 8
    newest = await client.conversations.items.list(talk.id, limit=1)
    assert newest.data[0].id == items[-1].id


async def test_a_conversation_goes_on_after_a_restart(database: str, model: Scripted) -> None:
    async with served(database, model) as server:
        talk = await server.client().conversations.create(items=[USER, BOT])
    async with served(database, model) as server:
        await server.client().responses.create(model="m", input="who am I?", conversation=talk.id)
    assert window(model)[0] == ("user", "my name is Ada")


async def test_an_item_that_is_deleted_reaches_no_model(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = await client.conversations.create(items=[USER, BOT])
    secret: Any = {**USER, "content": "the secret is 42"}
    added = await client.conversations.items.create(talk.id, items=[secret])
    name: Any = added.data[0].id
    item = await client.conversations.items.retrieve(name, conversation_id=talk.id)
    assert item.id == name
    await client.responses.create(model="m", input="hi", conversation=talk.id)
    assert ("user", "the secret is 42") in window(model)
    answered = await client.conversations.items.delete(name, conversation_id=talk.id)
    assert (answered.id, answered.object) == (talk.id, "conversation")
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.retrieve(name, conversation_id=talk.id)
    await client.responses.create(model="m", input="hi again", conversation=talk.id)
    assert "42" not in str(window(model))


async def test_what_a_developer_said_counts_for_the_rest(server: Server, model: Scripted) -> None:
    client = server.client()
    brief: Any = {"role": "developer", "content": "be brief"}
    talk = await client.conversations.create(items=[brief])
    kind: Any = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    await client.responses.create(model="m", input=kind, conversation=talk.id, instructions="just now")
    assert model.requests[-1].instructions == "just now\n\nbe brief\n\nbe kind"
    await client.responses.create(model="m", input="again", conversation=talk.id)
    assert model.requests[-1].instructions == "be brief\n\nbe kind"
    roles: list[Any] = [item async for item in client.conversations.items.list(talk.id, order="asc")]
    assert [item.role for item in roles] == ["developer", "system", "user", "assistant", "user", "assistant"]
    await client.conversations.items.delete(roles[0].id, conversation_id=talk.id)
    await client.responses.create(model="m", input="and again", conversation=talk.id)
    assert model.requests[-1].instructions == "be kind"


async def test_outputs_of_functions_in_a_conversation(server: Server, model: Scripted) -> None:
    client = server.client()
    talk = await client.conversations.create()
    tools: Any = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": None}]
    asked = await client.responses.create(model="m", input="go", tools=tools, conversation=talk.id)
    call: Any = asked.output[0]
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "done"}]
    made = await client.responses.create(model="m", input=output, tools=tools, conversation=talk.id)
    assert made.output_text == "3"
    items = [item.type async for item in client.conversations.items.list(talk.id, order="asc")]
    assert items == ["message", "function_call", "function_call_output", "message"]


def test_the_sync_client(database: str, model: Scripted) -> None:
    async def main() -> None:
        async with served(database, model) as server:
            await anyio.to_thread.run_sync(drive, server)

    anyio.run(main)


def drive(server: Server) -> None:
    with server.sync_client() as client:
        talk = client.conversations.create(items=[USER])
        assert client.conversations.retrieve(talk.id).id == talk.id
        client.conversations.update(talk.id, metadata={"a": "b"})
        items = client.conversations.items.create(talk.id, items=[BOT])
        name: Any = items.data[0].id
        assert client.conversations.items.retrieve(name, conversation_id=talk.id).type == "message"
        assert len(list(client.conversations.items.list(talk.id))) == 2
        client.conversations.items.delete(name, conversation_id=talk.id)
        assert client.conversations.delete(talk.id).deleted


async def test_what_an_item_lacks_is_named_by_its_own_path(server: Server) -> None:
    conversations = server.client().conversations
    output: Any = {"type": "function_call_output", "call_id": "c1", "output": "x"}
    empty: Any = {"role": "user", "content": []}
    for item, param in ((output, "items"), (empty, "items[0].content")):
        with pytest.raises(openai.BadRequestError) as caught:
            await conversations.create(items=[item])
        assert caught.value.param == param
    # Nor is a conversation made that nobody was told of.
    assert not await server.rt.database.registry.list(EntryQuery("conversation"))


CITED: Any = [
    {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 5},
    {"type": "file_citation", "file_id": "file_1", "filename": "a.txt", "index": 2},
    {
        "type": "container_file_citation",
        "container_id": "c",
        "file_id": "f",
        "filename": "b",
        "start_index": 0,
        "end_index": 1,
    },
    {"type": "file_path", "file_id": "file_2", "index": 1},
]


async def test_what_stands_beside_a_text_is_shown_again(server: Server, model: Scripted) -> None:
    """It was dropped without a word. A model is told nothing of it, and what no client could read is refused."""
    client: Any = server.client()
    told: Any = {
        "type": "message", "role": "assistant", "phase": "commentary",
        "content": [{"type": "output_text", "text": "Hello Ada", "annotations": CITED}],
    }  # fmt: skip
    made = await client.conversations.create(items=[USER, told])
    kept = (await client.conversations.items.list(made.id, order="asc")).data[1]
    assert (kept.phase, [one.to_dict() for one in kept.content[0].annotations]) == ("commentary", CITED)
    assert (await client.conversations.items.retrieve(kept.id, conversation_id=made.id)).to_dict() == kept.to_dict()
    await client.responses.create(model="m", input="hi", conversation=made.id)
    assert window(model) == [("user", "my name is Ada"), ("assistant", "Hello Ada"), ("user", "hi")]
    assert len(model.requests[-1].messages[1].parts) == 1
    answer = await client.responses.create(model="m", input=[USER, told, USER])
    shown = (await client.responses.input_items.list(answer.id, order="asc")).data[1]
    assert [one.to_dict() for one in shown.content[0].annotations] == CITED
    for wrong in ({"type": "gossip"}, {"type": "file_path", "file_id": 3, "index": 1}, "x"):
        told["content"][0]["annotations"] = [wrong]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.conversations.items.create(made.id, items=[told])
        assert refused.value.param == "items[0].content[0].annotations"
