"""When an `Idempotency-Key` is free again: its request was refused before it did anything, and nobody else has it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import Request
from wire_server import WireServer

from remanence import Agent
from remanence.api.bound_keys import bind_key, free_key, keep_key
from remanence.app import make_id, open_database
from remanence.commands.caller import Caller
from remanence.content import Text, text_of
from remanence.errors import KeyReused
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.runtime.live import Hub
from remanence.testing.clock import FakeClock

USER: Any = [{"role": "user", "content": "hello"}]
NO_PLACE: Any = {"type": "none"}


class Slow(Scripted):
    """A model that answers `first` only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        said = text_of(request.messages[-1].parts)
        if said == "first":
            self.begun.set()
            await asyncio.to_thread(self.go_on.wait, 30)
        return ModelReply((Text(f"reply to {said}"),))


@pytest.fixture
def model() -> Slow:
    return Slow()


@pytest.fixture
def server(tmp_path: Path, model: Slow) -> Iterator[WireServer]:
    made = WireServer(str(tmp_path / "a.db"), {"test": model}, [Agent("support", model="test")])
    yield made
    model.go_on.set()
    made.stop()


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    with server.client() as made:
        yield made


def keyed(key: str, **headers: str) -> Any:
    return {"extra_headers": {"Idempotency-Key": key, **headers}}


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(openai.ConflictError) as caught:
        call()
    assert caught.value.code == "idempotency_key_reused"


WRONG: dict[str, Callable[[Any, str], Any]] = {
    "a shape": lambda client, key: client.responses.create(model="test", input=7, **keyed(key)),
    "a value": lambda client, key: client.responses.create(model="nobody", input="hello", **keyed(key)),
    "a place": lambda client, key: client.conversations.items.create("conv_none", items=USER, **keyed(key)),
    "a chat": lambda client, key: client.chat.completions.create(model="nobody", messages=USER, **keyed(key)),
    "a session": lambda client, key: client.beta.agents.sessions.create(
        agent_id="nobody", environment=NO_PLACE, **keyed(key)
    ),
    "a freeze": lambda client, key: client.responses.create(model="test", input="hello", **keyed(key)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_request_that_was_refused_frees_its_key(server: WireServer, client: Any, wrong: str) -> None:
    if wrong == "a freeze":
        server.do(lambda rt: rt.freeze("all"))
    with pytest.raises(openai.APIStatusError) as caught:
        WRONG[wrong](client, "one")
    assert 400 <= caught.value.status_code < 500
    if wrong == "a freeze":
        server.do(lambda rt: rt.thaw("all"))
    assert client.conversations.create(metadata={"a": "b"}, **keyed("one")).metadata == {"a": "b"}
    refused(lambda: client.responses.create(model="test", input="hello", **keyed("one")))


def test_what_a_busy_session_refused_is_said_later_under_the_same_key(client: Any, model: Slow) -> None:
    """The session is in a turn, then it is not: the same request under the same key is not refused for ever."""
    talk = client.conversations.create()
    first = client.responses.create(model="test", input="first", conversation=talk.id, background=True)
    assert model.begun.wait(60)

    def say(named: str = "test") -> Any:
        more = keyed("one", **{"x-if-busy": "reject"})
        return client.responses.create(model=named, input="second", conversation=talk.id, **more)

    def add() -> Any:
        return client.conversations.items.create(talk.id, items=USER, **keyed("two"))

    for asked in (say, add, lambda: say("other")):
        with pytest.raises(openai.APIStatusError) as caught:
            asked()
        assert caught.value.code in ("busy", "model_not_found")
        assert caught.value.code != "idempotency_key_reused"
    model.go_on.set()
    with client.responses.retrieve(first.id, stream=True) as events:
        assert [event.type for event in events][-1] == "response.completed"
    second = say()
    assert second.output_text == "reply to second"
    assert say().id == second.id
    assert [item.id for item in add().data] == [item.id for item in add().data]
    refused(lambda: client.conversations.create(**keyed("one")))


def asking(path: str, key: str) -> Request:
    headers = [(b"idempotency-key", key.encode())]
    return Request({"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers})


async def test_a_key_is_not_freed_by_one_that_failed_when_another_may_have_succeeded(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/a.db")
    caller = Caller(database, Hub(clock := FakeClock()), clock, make_id)
    try:
        first, again = asking("/v1/responses", "1"), asking("/v1/responses", "1")
        await bind_key(caller, first)
        await bind_key(caller, again)
        await free_key(again)  # it did not bind it
        await free_key(first)
        with pytest.raises(KeyReused):
            await bind_key(caller, asking("/v1/conversations", "1"))
        done = asking("/v1/responses", "2")
        await bind_key(caller, done)
        keep_key(done)
        await free_key(done)
        with pytest.raises(KeyReused):
            await bind_key(caller, asking("/v1/conversations", "2"))
        alone = asking("/v1/responses", "3")
        await bind_key(caller, alone)
        await free_key(alone)
        await free_key(alone)
        await bind_key(caller, asking("/v1/conversations", "3"))
        with pytest.raises(KeyReused):
            await bind_key(caller, asking("/v1/responses", "3"))
    finally:
        await database.close()
