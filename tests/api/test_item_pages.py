"""Lists of items, page by page: the same items whatever the pages are, at a cost that does not grow with the past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import openai
import pytest
from chat_server import Server, serving
from msgspec.structs import replace

from remanence import Agent, Remanence, tool
from remanence.api.agents.history import item_page
from remanence.api.lists import Order, Page
from remanence.api.responses.conversations import conversations_router
from remanence.api.responses.item_pages import items_said
from remanence.api.responses.item_references import with_items
from remanence.api.responses.responses import responses_router
from remanence.app import Options, open_database
from remanence.commands.caller import state_of
from remanence.content import Text, ToolCall, text_of
from remanence.events import Recorded
from remanence.models.scripted import Scripted
from remanence.ports import Database, ModelReply, ModelRequest

FACES = [("/v1", responses_router), ("/v1", conversations_router)]
USER: Any = {"type": "message", "role": "user", "content": "my name is Ada"}
BOT: Any = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello Ada"}]}
BRIEF: Any = {"type": "message", "role": "developer", "content": "be brief"}
SYSTEM: Any = {"type": "message", "role": "system", "content": "be kind"}
CALL: Any = {"type": "function_call", "call_id": "c", "name": "elsewhere", "arguments": "{}"}
OUTPUT: Any = {"type": "function_call_output", "call_id": "c", "output": "there"}
PEEK: Any = {"type": "function", "name": "peek", "parameters": {}, "strict": None}


WATCHED = 12
"""Turns of ten records each: more of them than are read at once."""


class Counting:
    """A database that counts the records that are read of it."""

    def __init__(self, part: object, count: list[int]) -> None:
        self._part, self._count = part, count

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name == "store":
            return Counting(found, self._count)
        if name not in ("read", "load"):
            return found

        async def ask(*args: Any, **kwargs: Any) -> Any:
            answer = await found(*args, **kwargs)
            records: Sequence[Recorded] = answer if name == "read" else answer.records
            self._count[0] += len(records)
            return answer

        return ask


@tool(replay="safe")
async def look() -> str:
    """Look."""
    return "a cat"


def script(request: ModelRequest) -> ModelReply:
    last = request.messages[-1]
    if request.tools and last.role == "user":
        return ModelReply((Text("I look"), ToolCall("x", request.tools[0].name, "{}")), stop="tool_calls")
    return ModelReply((Text(f"{len(request.messages)}: {text_of(last.parts)}"),))


async def pages(listing: Any, name: str, order: str, limit: int) -> list[Any]:
    return [item.to_dict() async for item in listing(name, order=order, limit=limit)]


async def test_pages_of_any_size_show_the_same_items(database: str) -> None:
    rt = Remanence(database, agents=[Agent("watcher", model="m", tools=[look])], models={"m": Scripted(script)})
    async with rt, serving(rt, FACES) as server:
        client = server.client()
        talk = (await client.conversations.create(items=[USER, BOT, CALL, OUTPUT])).id
        await say(client, talk, "one", model="m", tools=[PEEK])
        await client.conversations.items.create(talk, items=[USER, USER, BOT])
        for _ in range(WATCHED):
            await say(client, talk, "two", model="watcher")
        await client.conversations.items.create(talk, items=[SYSTEM, USER, BRIEF])
        await client.conversations.items.create(talk, items=[CALL, OUTPUT, USER])
        listing = client.conversations.items.list
        whole = await pages(listing, talk, "asc", 100)
        kinds = [item["type"] for item in whole]
        assert kinds.count("mcp_call") == WATCHED
        assert kinds.count("function_call") == kinds.count("function_call_output") == 3
        assert {item["output"] for item in whole if item["type"] == "mcp_call"} == {"a cat"}
        for limit in (1, 3, 7, len(whole), 100):
            assert await pages(listing, talk, "asc", limit) == whole
            assert await pages(listing, talk, "desc", limit) == whole[::-1]
        for item in whole:
            found = await client.conversations.items.retrieve(item["id"], conversation_id=talk)
            assert found.to_dict() == item
        await client.conversations.items.delete(whole[3]["id"], conversation_id=talk)
        following = await listing(talk, after=whole[3]["id"], order="asc", limit=1)
        assert following.data[0].id == (await pages(listing, talk, "asc", 100))[3]["id"]
        for name in (f"msg_{talk}_999", f"msg_{talk}_77_1_0", "msg_another_1", "nothing"):
            with pytest.raises(openai.BadRequestError, match="there is no item"):
                await listing(talk, after=name)


async def say(client: Any, talk: str, text: str, **options: Any) -> None:
    """Say something in a conversation, and answer the calls of it that are the client's."""
    made = await client.responses.create(input=text, conversation=talk, **options)
    outputs = [{**OUTPUT, "call_id": item.call_id} for item in made.output if item.type == "function_call"]
    if outputs:
        made = await client.responses.create(input=outputs, conversation=talk, **options)
    assert made.status == "completed"


async def filled(server: Server, count: int) -> str:
    conversations = server.client().conversations
    talk = (await conversations.create()).id
    items: Any = [USER, BOT] * 5
    for _ in range(count // 10):
        await conversations.items.create(talk, items=items)
    return talk


async def session_page(rt: Remanence, session: str, order: Order) -> None:
    """What the Agents API shows of the same session, from the beginning or the end on and then after that."""
    s = await state_of(rt.caller, session)
    first, more = await item_page(rt.caller, s, Page(order=order))
    assert len(first) == 20
    assert more
    await item_page(rt.caller, s, Page(first[-1]["id"], order=order))


async def test_a_page_of_a_conversation_costs_the_same_however_long_it_is(database: str) -> None:
    count = [0]
    inner = await open_database(database)
    rt = Remanence(database, worker=False, options=Options(database=cast("Database", Counting(inner, count))))
    costs: list[list[int]] = []
    async with rt, serving(rt, FACES) as server:
        items = server.client().conversations.items
        for size in (200, 2_000):
            talk = await filled(server, size)
            said = [item["id"] for item, _ in await items_said(rt.caller, await state_of(rt.caller, talk))]
            assert len(said) == size
            middle = said[size // 2]
            costs.append([])
            for ask in (
                lambda talk=talk: items.list(talk),
                lambda talk=talk: items.list(talk, order="asc"),
                lambda talk=talk, middle=middle: items.list(talk, after=middle),
                lambda talk=talk, middle=middle: items.list(talk, after=middle, order="asc"),
                lambda talk=talk, middle=middle: items.retrieve(middle, conversation_id=talk),
                lambda talk=talk: items.create(talk, items=[USER]),
                lambda middle=middle: with_items(rt.caller, [{"type": "item_reference", "id": middle}]),
                lambda said=said: with_items(rt.caller, [{"id": name} for name in said[40:140]]),
                lambda talk=talk, middle=middle: items.delete(middle, conversation_id=talk),
                lambda talk=talk: items.list(talk, limit=1),
                lambda talk=talk: session_page(rt, talk, "desc"),
                lambda talk=talk: session_page(rt, talk, "asc"),
            ):
                count[0] = 0
                await ask()
                costs[-1].append(count[0])
            # Another process, which has not seen the conversation yet.
            count[0] = 0
            await state_of(replace(rt.caller, states=None), talk)
            costs[-1].append(count[0])
    await inner.close()
    short, long = costs
    assert all(cost <= 700 for cost in long), costs
    # The place of an item that is named by its turn is found by halving: a few looks more.
    assert all(after <= 1.5 * before + 20 for before, after in zip(short, long, strict=True)), costs
