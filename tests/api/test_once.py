"""An `Idempotency-Key` on everything that makes something: the same request once, another one refused, for a day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from fastapi import Request, Response
from wire_server import KEY, OTHER, WireServer

from remanence import Agent, Remanence
from remanence.api.bound_keys import BOUND_S, bind_key
from remanence.api.bound_keys import KIND as BOUND
from remanence.api.once import DEAD_S, KEPT_S, KIND, only_once
from remanence.app import make_id, open_database
from remanence.commands.caller import Caller
from remanence.content import Text, text_of
from remanence.errors import Conflict, InvalidInput, KeyReused, ModelError
from remanence.models.scripted import Scripted
from remanence.ports import EntryQuery, ModelReply, ModelRequest
from remanence.runtime.live import Hub
from remanence.testing.clock import FakeClock

USER: Any = [{"role": "user", "content": "hello"}]
NO_PLACE: Any = {"type": "none"}


class Talker:
    """A model that says how often it was asked. It fails on `break`, the first time."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken = False
        self.model = Scripted(self.reply)

    def reply(self, request: ModelRequest) -> ModelReply:
        said = text_of(request.messages[-1].parts)
        self.asked += 1
        if "break" in said and not self.broken:
            self.broken = True
            raise ModelError("It broke.", kind="invalid_request")
        return ModelReply((Text(f"reply {self.asked} to {said}"),))


class Server(WireServer):
    """A server whose clients are closed with it."""

    def client(self, key: str = KEY, **options: Any) -> Any:
        made = super().client(key, **options)
        self.clients = [*getattr(self, "clients", []), made]
        return made

    def stop(self) -> None:
        for client in getattr(self, "clients", []):
            client.close()
        super().stop()


def keyed(key: str, **headers: str) -> Any:
    return {"extra_headers": {"Idempotency-Key": key, **headers}}


@pytest.fixture
def talker() -> Talker:
    return Talker()


@pytest.fixture
def start(tmp_path: Path, talker: Talker) -> Iterator[Callable[[], WireServer]]:
    """Starts a server over the same database, ending the one before."""
    running: list[Server] = []

    def begin() -> WireServer:
        while running:
            running.pop().stop()
        running.append(Server(str(tmp_path / "a.db"), {"test": talker.model}, [Agent("support", model="test")]))
        return running[-1]

    yield begin
    while running:
        running.pop().stop()


@pytest.fixture
def server(start: Callable[[], WireServer]) -> WireServer:
    return start()


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(openai.ConflictError) as caught:
        call()
    assert caught.value.code == "idempotency_key_reused"
    assert "Nothing of this one was done" in caught.value.message


def test_a_conversation_is_made_once(server: WireServer) -> None:
    conversations = server.client().conversations
    made = conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "hello"}], **keyed("one"))
    again = conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "hello"}], **keyed("one"))
    assert again.to_dict() == made.to_dict()
    assert len(conversations.items.list(made.id).data) == 1
    refused(lambda: conversations.create(metadata={"a": "c"}, **keyed("one")))
    refused(lambda: server.client().responses.compact(model="test", input="hello", **keyed("one")))
    assert conversations.create(metadata={"a": "b"}, **keyed("two")).id != made.id
    assert server.client(OTHER).conversations.create(metadata={"x": "y"}, **keyed("one")).id != made.id


async def _unanswered(rt: Remanence) -> None:
    """What a server leaves that died after it wrote and before it answered; its claims are no longer believed."""
    for entry in await rt.database.registry.list(EntryQuery(KIND)):
        await rt.database.registry.remove(KIND, entry.id)


@pytest.mark.parametrize(
    "items", [[], [{"role": "user", "content": "hello"}, {"role": "system", "content": "be short"}]]
)
def test_a_conversation_is_made_once_by_a_server_that_died(server: WireServer, items: Any) -> None:
    conversations = server.client().conversations
    made = conversations.create(metadata={"a": "b"}, items=items, **keyed("one"))
    server.do(_unanswered)
    again = conversations.create(metadata={"a": "b"}, items=items, **keyed("one"))
    assert again.to_dict() == made.to_dict()
    assert len(conversations.items.list(made.id).data) == len(items)
    assert conversations.create(metadata={"a": "b"}, items=items, **keyed("two")).id != made.id
    assert conversations.create(metadata={"a": "b"}, items=items).id != made.id
    conversations.delete(made.id)
    server.do(_unanswered)
    fresh = conversations.create(metadata={"a": "b"}, items=items, **keyed("one"))
    assert len(conversations.items.list(fresh.id).data) == len(items)


def test_an_agent_is_changed_once_by_a_server_that_died(server: WireServer) -> None:
    agents = server.client().beta.agents
    made = agents.create(model="test")
    first = agents.update(made.id, instructions="Be short.", **keyed("one"))
    server.do(_unanswered)
    assert agents.update(made.id, instructions="Be short.", **keyed("one")).to_dict() == first.to_dict()
    later = agents.update(made.id, instructions="Be long.", **keyed("two"))
    server.do(_unanswered)
    # What was asked for before stays done before: it does not come back over what was asked for since.
    assert agents.update(made.id, instructions="Be short.", **keyed("one")).to_dict() == later.to_dict()
    versions = server.do(lambda rt: rt.database.specs.versions("default", made.id))
    assert len(versions) == 3


def test_items_are_added_once(server: WireServer, start: Callable[[], WireServer]) -> None:
    conversations = server.client().conversations
    talk = conversations.create()
    items: Any = [{"role": "user", "content": "hello"}, {"role": "developer", "content": "be short"}]
    made = conversations.items.create(talk.id, items=items, **keyed("one"))
    conversations.items.create(talk.id, items=[{"role": "user", "content": "later"}])
    conversations = start().client().conversations
    again = conversations.items.create(talk.id, items=items, **keyed("one"))
    assert [item.to_dict() for item in again.data] == [item.to_dict() for item in made.data]
    assert len(conversations.items.list(talk.id).data) == 3
    refused(lambda: conversations.items.create(talk.id, items=items[:1], **keyed("one")))
    conversations.items.delete(made.data[1].id, conversation_id=talk.id)
    # What was deleted does not live on under the key.
    kept = conversations.items.create(talk.id, items=items, **keyed("one"))
    assert "hello" not in str(kept.to_dict())


def test_a_model_is_asked_once(server: WireServer, talker: Talker, start: Callable[[], WireServer]) -> None:
    made = server.client().chat.completions.create(model="test", messages=USER, **keyed("one"))
    again = start().client().chat.completions.with_raw_response.create(model="test", messages=USER, **keyed("one"))
    assert again.parse().to_dict() == made.to_dict()
    assert (talker.asked, again.headers["idempotent-replayed"]) == (1, "true")
    client = start().client()
    refused(lambda: client.chat.completions.create(model="test", messages=[*USER, *USER], **keyed("one")))
    refused(lambda: client.chat.completions.create(model="test", messages=USER, stream=True, **keyed("one")))
    assert client.chat.completions.create(model="test", messages=USER).id != made.id


def test_a_stream_is_given_again_as_it_was(server: WireServer, talker: Talker) -> None:
    def chunks() -> list[Any]:
        stream = server.client().chat.completions.create(model="test", messages=USER, stream=True, **keyed("one"))
        return [chunk.to_dict() for chunk in stream]

    first = chunks()
    assert first
    assert chunks() == first
    assert talker.asked == 1


def test_a_turn_of_a_session_is_answered_from_its_journal(
    server: WireServer, talker: Talker, start: Callable[[], WireServer]
) -> None:
    def ask(client: Any, key: str, session: str, messages: Any = USER) -> tuple[str, str]:
        headers = keyed(key, **{"x-session-id": session})
        raw = client.chat.completions.with_raw_response.create(model="test", messages=messages, **headers)
        return raw.parse().choices[0].message.content, raw.headers["x-session-id"]

    said, session = ask(server.client(), "one", "new")
    assert ask(start().client(), "one", "new") == (said, session)
    client = start().client()
    refused(lambda: ask(client, "one", session))
    further = [*USER, {"role": "assistant", "content": said}, {"role": "user", "content": "more"}]
    second = ask(client, "two", session, further)
    assert ask(client, "two", session, further) == second

    def stream() -> str:
        headers = keyed("three", **{"x-session-id": session})
        chunks = client.chat.completions.create(model="test", messages=further, stream=True, **headers)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert stream() == stream() == "reply 3 to more"  # asked again without the same key, it is a fork
    assert talker.asked == 3


def test_a_summary_is_written_once(server: WireServer, talker: Talker) -> None:
    compact = server.client().responses.compact
    made = compact(model="test", input="hello", **keyed("one"))
    assert compact(model="test", input="hello", **keyed("one")).to_dict() == made.to_dict()
    refused(lambda: compact(model="test", input="other", **keyed("one")))
    assert talker.asked == 1


def test_what_failed_is_tried_again(server: WireServer, talker: Talker) -> None:
    messages: Any = [{"role": "user", "content": "break"}]
    create = server.client().chat.completions.create
    with pytest.raises(openai.BadRequestError):
        create(model="test", messages=messages, **keyed("one"))
    assert "reply 2" in create(model="test", messages=messages, **keyed("one")).choices[0].message.content


def test_what_is_not_stored_cannot_be_given_again(server: WireServer, talker: Talker) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().responses.create(model="test", input="hello", store=False, **keyed("one"))
    assert caught.value.param == "idempotency-key"
    assert talker.asked == 0


def opened(client: Any, key: str) -> Any:
    return client.beta.agents.sessions.create(agent_id="support", environment=NO_PLACE, **keyed(key))


OPERATIONS: dict[str, Callable[[Any, str], Any]] = {
    "responses": lambda client, key: client.responses.create(model="test", input="hello", **keyed(key)),
    "compact": lambda client, key: client.responses.compact(model="test", input="hello", **keyed(key)),
    "conversations": lambda client, key: client.conversations.create(**keyed(key)),
    "chat": lambda client, key: client.chat.completions.create(model="test", messages=USER, **keyed(key)),
    "agents": lambda client, key: client.beta.agents.create(model="test", **keyed(key)),
    "sessions": lambda client, key: opened(client, key),
}


@pytest.mark.parametrize("first", OPERATIONS)
def test_a_key_is_good_for_one_operation(server: WireServer, talker: Talker, first: str) -> None:
    client = server.client()
    client.base_url = f"{server.url}/openai/v1/"
    OPERATIONS[first](client, "one")
    client.base_url = f"{server.url}/v1/"
    asked = talker.asked
    for other in OPERATIONS.keys() - {first}:
        refused(lambda other=other: OPERATIONS[other](client, "one"))
    assert talker.asked == asked
    OPERATIONS[first](client, "one")  # the same under both mounts
    assert talker.asked == asked
    server.client(OTHER).conversations.create(**keyed("one"))  # another project's is another key


def test_each_session_has_keys_of_its_own(server: WireServer) -> None:
    client = server.client()
    made = [opened(client, f"s{number}") for number in range(2)]
    said = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    say: Any = [{"type": "agent.session.input.message", "input": said}]
    for session in (*made, *made):
        client.beta.agents.sessions.events.create(session.id, events=say, idempotency_key="turn-1")
    for session in made:
        turns = client.beta.agents.sessions.turns.list(session.id).data
        assert len(turns) == 1


def test_agents_and_sessions_are_changed_once(server: WireServer) -> None:
    agents = server.client().beta.agents
    agent = agents.create(model="test")
    session = agents.sessions.create(agent_id=agent.id, environment=NO_PLACE)
    first = agents.update(agent.id, instructions="one", **keyed("a")).to_dict()
    assert agents.sessions.update(session.id, metadata={"a": "1"}, **keyed("s")).metadata == {"a": "1"}
    agents.update(agent.id, instructions="two")
    agents.sessions.update(session.id, metadata={"a": "2"})
    assert agents.update(agent.id, instructions="one", **keyed("a")).to_dict() == first
    assert agents.sessions.update(session.id, metadata={"a": "1"}, **keyed("s")).metadata == {"a": "1"}
    assert agents.retrieve(agent.id).instructions == "two"
    assert agents.sessions.retrieve(session.id).metadata == {"a": "2"}
    refused(lambda: agents.update(agent.id, instructions="three", **keyed("a")))
    refused(lambda: agents.sessions.update(session.id, metadata={}, **keyed("s")))


def asking(path: str, key: str) -> Request:
    headers = [(b"idempotency-key", key.encode())]
    return Request({"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers})


async def test_a_bound_key_is_free_again_after_a_day_and_is_forgotten(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/a.db")
    caller = Caller(database, Hub(clock := FakeClock()), clock, make_id)

    try:
        for number in range(100):
            await bind_key(caller, asking("/v1/responses", f"{number}"))
        with pytest.raises(KeyReused, match="POST /v1/responses"):
            await bind_key(caller, asking("/v1/conversations", "7"))
        clock.advance(BOUND_S + 1)
        await bind_key(caller, asking("/v1/conversations", "7"))
        with pytest.raises(KeyReused):
            await bind_key(caller, asking("/v1/responses", "7"))
        for number in range(200, 300):
            await bind_key(caller, asking("/v1/responses", f"{number}"))
        assert len(await database.registry.list(EntryQuery(BOUND, limit=1000))) <= 110
    finally:
        await database.close()


def test_native_routes(server: WireServer) -> None:
    session = server.do(_opened)
    headers = {"authorization": f"Bearer {KEY}", "idempotency-key": "one"}
    with httpx2.Client(base_url=f"{server.url}/admin/v1", headers=headers, timeout=60) as http:
        made = http.post(f"/sessions/{session}/fork", json={"title": "copy"})
        again = http.post(f"/sessions/{session}/fork", json={"title": "copy"})
        assert (made.status_code, again.status_code, again.json()) == (201, 201, made.json())
        other = http.post(f"/sessions/{session}/fork", json={"title": "another"})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
        raised = {"scope": f"session:{session}", "unit": "tokens"}
        http.put("/budgets", json={**raised, "limit": 100}, headers={"idempotency-key": "two"})
        for _ in range(2):
            answer = http.put("/budgets", json={**raised, "raise_by": 10}, headers={"idempotency-key": "three"})
            assert answer.json()["limit"] == 110
        assert http.post(f"/sessions/{session}/freeze", json={}, headers={"idempotency-key": "four"}).status_code == 200
        assert http.post(f"/sessions/{session}/freeze", json={}, headers={"idempotency-key": "four"}).status_code == 200
        assert http.post(f"/sessions/{session}/freeze", json={}, headers={"idempotency-key": "five"}).status_code == 409


async def _opened(rt: Any) -> str:
    return (await rt.open("support")).id


# --- claims -----------------------------------------------------------------------------------------------------------


async def sent(answer: Response) -> bytes:
    """What a client is sent."""
    pieces: list[bytes] = []

    async def send(message: Any) -> None:
        pieces.append(message.get("body", b""))

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await answer({"type": "http"}, receive, send)
    return b"".join(pieces)


async def passing(clock: FakeClock) -> None:
    """Time goes by, and not so much faster than here that a claim looks dead while it is being written down."""
    while True:
        await asyncio.sleep(0.001)
        clock.advance(0.002)


async def test_the_same_request_at_once_waits_for_the_answer(tmp_path: Path) -> None:
    made: list[int] = []

    async def make() -> Response:
        made.append(len(made))
        await clock.sleep(0.5)
        return Response(f"answer {len(made)}")

    async def ask(caller: Caller) -> bytes:
        return await sent(await only_once(caller, "one", "digest", make))

    database = await open_database(f"sqlite:///{tmp_path}/a.db")
    caller = Caller(database, Hub(clock := FakeClock()), clock, make_id)
    try:
        time = asyncio.create_task(passing(clock))
        answers = await asyncio.gather(*(ask(caller) for _ in range(5)))
        time.cancel()
        assert answers == [b"answer 1"] * 5
        assert made == [0]
    finally:
        await database.close()


async def test_for_a_day_and_a_dead_process_frees_its_key(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/a.db")
    caller = Caller(database, Hub(clock := FakeClock()), clock, make_id)

    async def make() -> Response:
        return Response("done")

    try:
        assert await sent(await only_once(caller, "one", "digest", make)) == b"done"
        with pytest.raises(KeyReused):
            await only_once(caller, "one", "other", make)
        clock.advance(KEPT_S + 1)
        assert await sent(await only_once(caller, "one", "other", make)) == b"done"

        async def never() -> Response:
            raise AssertionError("the process died here")

        # A process that dies leaves its claim behind.
        entry = (await database.registry.list(EntryQuery(KIND)))[0]
        claim = msgspec.json.encode({"request": "again"})
        await database.registry.put(msgspec.structs.replace(entry, updated_at=clock.now(), body=claim))
        with pytest.raises(KeyReused):
            await only_once(caller, "one", "digest", never)
        time = asyncio.create_task(passing(clock))
        began = clock.now()
        assert await sent(await only_once(caller, "one", "again", make)) == b"done"
        assert clock.now() - began >= DEAD_S * 1_000_000
        time.cancel()
    finally:
        await database.close()


async def test_who_waits_too_long_is_told(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/a.db")
    caller = Caller(database, Hub(clock := FakeClock()), clock, make_id)
    began, go = asyncio.Event(), asyncio.Event()

    async def make() -> Response:
        began.set()
        await go.wait()
        return Response("late")

    try:
        first = asyncio.create_task(only_once(caller, "one", "digest", make))
        await began.wait()
        time = asyncio.create_task(passing(clock))
        with pytest.raises(Conflict, match="still being worked on"):
            await only_once(caller, "one", "digest", make)
        go.set()
        assert await sent(await first) == b"late"
        time.cancel()
    finally:
        await database.close()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_process_that_was_stopped_for_long_does_not_take_the_answer_of_another_away(
    fails: bool, tmp_path: Path
) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/a.db")
    stopped, clock = FakeClock(), FakeClock()
    there, here = (Caller(database, Hub(its), its, make_id) for its in (stopped, clock))
    began, go = asyncio.Event(), asyncio.Event()

    async def make_late() -> Response:
        began.set()
        await go.wait()
        if fails:
            raise InvalidInput("It came to nothing.")
        return Response("first")

    async def make() -> Response:
        return Response("second")

    async def ask_late() -> bytes:
        return await sent(await only_once(there, "one", "digest", make_late))

    try:
        late = asyncio.create_task(ask_late())
        await began.wait()
        clock.advance(DEAD_S + 1)
        assert await sent(await only_once(here, "one", "digest", make)) == b"second"
        go.set()
        (outcome,) = await asyncio.gather(late, return_exceptions=True)
        assert isinstance(outcome, InvalidInput) if fails else outcome == b"first"

        async def never() -> Response:
            raise AssertionError("it was answered")

        assert await sent(await only_once(here, "one", "digest", never)) == b"second"
    finally:
        await database.close()
