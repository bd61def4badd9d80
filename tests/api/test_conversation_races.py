"""Several clients on one conversation at once: what was acknowledged is there, what was deleted stays deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import openai
import pytest
from chat_server import Server, serving

from remanence import Agent, Remanence
from remanence.api.responses.conversations import conversations_router
from remanence.api.responses.responses import responses_router
from remanence.app import Options, open_database
from remanence.content import Text, text_of
from remanence.events import InputReceived
from remanence.models.scripted import Scripted
from remanence.ports import Appended, Entry, ModelReply, ModelRequest, OnDelta, Registry, Store, Write
from remanence.runtime.around import DatabaseAround

AT_ONCE = 12


def script(request: ModelRequest) -> ModelReply:
    return ModelReply((Text(f"{len(request.messages)}"),))


@asynccontextmanager
async def served(database: str, model: Scripted, options: Options | None = None) -> AsyncIterator[Server]:
    agents = [Agent(name, model="m", instructions=f"I am {name}.") for name in ("ada", "bob")]
    faces = [("/v1", responses_router), ("/v1", conversations_router)]
    models = {"m": model}
    async with Remanence(database, agents=agents, models=models, options=options) as rt, serving(rt, faces) as server:
        yield server


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
async def server(database: str, model: Scripted) -> AsyncIterator[Server]:
    async with served(database, model) as made:
        yield made


def said(role: str, text: str) -> Any:
    return {"type": "message", "role": role, "content": text}


async def texts_of(client: openai.AsyncOpenAI, name: str) -> list[str]:
    items: list[Any] = [item async for item in client.conversations.items.list(name, order="asc", limit=100)]
    return [item.content[0].text for item in items]


@pytest.mark.parametrize("role", ["user", "system"])
async def test_items_that_are_added_at_once_are_all_there(server: Server, role: str) -> None:
    client = server.client(max_retries=0)
    talk = await client.conversations.create()
    words = [f"word {number}" for number in range(AT_ONCE)]
    added = await asyncio.gather(
        *(client.conversations.items.create(talk.id, items=[said(role, word)]) for word in words)
    )
    named: list[Any] = [item for page in added for item in page.data]
    assert [item.content[0].text for item in named] == words  # each is answered with what it added, and no more
    assert sorted(await texts_of(client, talk.id)) == sorted(words)
    assert len({item.id for item in named}) == AT_ONCE


async def test_what_is_attached_while_items_are_added_stays(server: Server) -> None:
    client = server.client(max_retries=0)
    talk = await client.conversations.create()
    both = [said("system", "be kind"), said("user", "hello")]
    for number in range(4):
        adding = [client.conversations.items.create(talk.id, items=both) for _ in range(3)]
        await asyncio.gather(*adding, client.conversations.update(talk.id, metadata={"n": str(number)}))
        now = await client.conversations.retrieve(talk.id)
        assert now.metadata == {"n": str(number)}
    assert len(await texts_of(client, talk.id)) == 4 * 3 * 2


@pytest.mark.parametrize("role", ["user", "system"])
async def test_what_was_deleted_meanwhile_does_not_come_back(server: Server, role: str) -> None:
    client = server.client(max_retries=0)
    for _ in range(6):
        talk = await client.conversations.create()
        adding = client.conversations.items.create(talk.id, items=[said(role, "hello")])
        added, deleted = await asyncio.gather(adding, client.conversations.delete(talk.id), return_exceptions=True)
        assert not isinstance(deleted, BaseException)
        assert not isinstance(added, BaseException) or isinstance(added, openai.NotFoundError)
        with pytest.raises(openai.NotFoundError):
            await client.conversations.retrieve(talk.id)


async def test_an_item_keeps_its_id_when_another_is_deleted(server: Server, model: Scripted) -> None:
    client = server.client(max_retries=0)
    talk = await client.conversations.create(items=[said("system", word) for word in ("one", "two", "three")])
    items: list[Any] = [item async for item in client.conversations.items.list(talk.id, order="asc")]
    await client.conversations.items.delete(items[0].id, conversation_id=talk.id)
    left: Any = await client.conversations.items.retrieve(items[1].id, conversation_id=talk.id)
    assert left.content[0].text == "two"
    await client.conversations.items.delete(items[1].id, conversation_id=talk.id)
    assert await texts_of(client, talk.id) == ["three"]
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.delete(items[0].id, conversation_id=talk.id)
    more: Any = await client.conversations.items.create(talk.id, items=[said("system", "four")])
    assert more.data[0].id not in {item.id for item in items}
    await client.responses.create(model="m", input="hi", conversation=talk.id)
    assert model.requests[-1].instructions == "three\n\nfour"


async def test_two_agents_that_take_over_at_once_are_both_heard(server: Server, model: Scripted) -> None:
    client = server.client(max_retries=0)
    talk = await client.conversations.create(items=[said("user", "my name is Ada")])
    await client.responses.create(model="m", input="hello", conversation=talk.id)
    asking = [client.responses.create(model=name, input=f"to {name}", conversation=talk.id) for name in ("ada", "bob")]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    answered = [name for name, answer in zip(("ada", "bob"), answers, strict=True) if not isinstance(answer, Exception)]
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert answered
    assert all(isinstance(error, openai.ConflictError) for error in refused)
    words = await texts_of(client, talk.id)
    assert [name for name in ("ada", "bob") if f"to {name}" in words] == answered
    await client.responses.create(model="m", input="and now?", conversation=talk.id)
    window = [text_of(message.parts) for message in model.requests[-1].messages]
    assert all(f"to {name}" in window for name in answered)


class Meanwhile:
    """A registry where something happens when the first conversation that is there already is about to be moved."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.happens: Callable[[], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    async def put(self, entry: Entry, *, expect: int | None = None) -> Entry:
        happens = self.happens
        if happens is not None and entry.kind == "conversation":
            self.happens = None
            await happens()
        return await self._registry.put(entry, expect=expect)


async def test_who_takes_over_from_who_is_just_taking_over_loses_nobodys_words(database: str, model: Scripted) -> None:
    """Between telling a session what was said and saying something in it, the conversation may go on elsewhere."""
    inner = await open_database(database)
    around = DatabaseAround(inner)
    meanwhile = Meanwhile(inner.registry)
    around.registry = cast("Registry", meanwhile)
    async with served(database, model, Options(database=around)) as server:
        client = server.client(max_retries=0)
        talk = await client.conversations.create(items=[said("user", "my name is Ada")])
        await client.responses.create(model="m", input="hello", conversation=talk.id)
        meanwhile.happens = lambda: client.responses.create(model="ada", input="to ada", conversation=talk.id)
        await client.responses.create(model="bob", input="to bob", conversation=talk.id)
        assert meanwhile.happens is None
        assert {"my name is Ada", "hello", "to ada", "to bob"} <= set(await texts_of(client, talk.id))
    await inner.close()


class Held(Scripted):
    """A model that answers `wait` when it is let."""

    def __init__(self, script: Callable[[ModelRequest], ModelReply]) -> None:
        super().__init__(script)
        self.begun, self.held = asyncio.Event(), asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if text_of(request.messages[-1].parts) == "wait":
            self.begun.set()
            await self.held.wait()
        return await super().reply(request, on_delta)


class Late:
    """A store where something happens when a certain input is about to be written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.happens: Callable[[], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, write: Write) -> Appended:
        happens, said = self.happens, [event for event in write.events if isinstance(event, InputReceived)]
        if happens is not None and any(text_of(event.parts) == "late" for event in said):
            self.happens = None
            await happens()
        return await self._store.append(write)


async def test_what_is_said_as_a_turn_ends_stays_in_the_conversation(database: str) -> None:
    """It was to wait for the end of the turn; before it was written the turn had ended, and another agent went on."""
    model = Held(script)
    inner = await open_database(database)
    around = DatabaseAround(inner)
    late = Late(inner.store)
    around.store = cast("Store", late)
    async with served(database, model, Options(database=around)) as server:
        client = server.client(max_retries=0)
        talk = await client.conversations.create()
        waiting = asyncio.create_task(client.responses.create(model="m", input="wait", conversation=talk.id))
        await model.begun.wait()

        async def taken_over() -> None:
            model.held.set()
            await waiting
            await client.responses.create(model="ada", input="to ada", conversation=talk.id)

        late.happens = taken_over
        made = await client.responses.create(model="m", input="late", conversation=talk.id)
        assert (made.status, late.happens) == ("completed", None)
        assert {"wait", "to ada", "late"} <= set(await texts_of(client, talk.id))
    await inner.close()


@pytest.mark.parametrize("roles", [("user",), ("system",), ("system", "user")])
async def test_one_request_that_comes_many_times_at_once_is_one(server: Server, roles: tuple[str, ...]) -> None:
    client = server.client(max_retries=0)
    talk = await client.conversations.create()
    items = [said(role, f"from a {role}") for role in roles]
    again: Any = {"extra_headers": {"idempotency-key": "one"}}
    adding = [client.conversations.items.create(talk.id, items=items, **again) for _ in range(AT_ONCE)]
    pages = await asyncio.gather(*adding)
    assert len({tuple(item.id for item in page.data) for page in pages}) == 1
    assert sorted(await texts_of(client, talk.id)) == sorted(f"from a {role}" for role in roles)
    with pytest.raises(openai.ConflictError, match="used before with another request"):
        await client.conversations.items.create(talk.id, items=[said(roles[0], "something else")], **again)


@pytest.mark.parametrize("busy", ["queue", "reject"])
async def test_one_question_that_comes_many_times_at_once_is_one(server: Server, model: Scripted, busy: str) -> None:
    """To a conversation, to a response and to a session of chats, each at rest; the first of them makes it busy."""
    client = server.client(max_retries=0)
    for number in range(6):
        talk = await client.conversations.create()
        first = await client.responses.create(model="m", input="before")
        again: Any = {"extra_headers": {"idempotency-key": f"{number}", "x-if-busy": busy}}
        given: Any = [[said("user", "hello")], [said("system", "be kind"), said("user", "hello")], "hello"][number % 3]
        asked = len(model.requests)
        asking = [
            client.responses.create(model="m", input=given, conversation=talk.id, **again) for _ in range(AT_ONCE)
        ]
        assert len({answer.id for answer in await asyncio.gather(*asking)}) == 1
        assert len(model.requests) == asked + 1
        assert (await texts_of(client, talk.id)).count("be kind") == (number % 3 == 1)
        again["extra_headers"]["idempotency-key"] += " next"
        after = first.id
        going = [client.responses.create(model="m", input=given, previous_response_id=after, **again) for _ in range(8)]
        assert len({answer.id for answer in await asyncio.gather(*going)}) == 1
        assert len(model.requests) == asked + 2
