"""Sessions over the Agents API: what the client asks for is what happens, and what the model is sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pydantic
import pytest
from agents_client import LOOK, NONE, Client, decision, follow, message, opened, result, said_in, send
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI
from wire_server import KEY, OTHER, READER, WireServer

from remanence import Agent, tool
from remanence.content import ToolResult, text_of
from remanence.ports import ModelRequest
from remanence.testing.scripted import Script, Scripted, call, calls, dialogue, fails, says, stalls
from remanence.tools import ask_human

SCRIPT = Script(
    (
        dialogue("^look twice", calls(call("look", at="a"), call("look", at="b")), says("I saw $result.")),
        dialogue("^look", says("Looking.", call("look", at="it")), says("I saw $result.")),
        dialogue("^refund little", calls(call("refund", order="42", cents=400)), says("$result!")),
        dialogue("^refund", calls(call("refund", order="42", cents=9000)), says("$result!")),
        dialogue("^ask", calls(call("ask_human", question="Which one?")), says("So it is $result.")),
        dialogue("^fail", fails(says("never"), "invalid_request", times=0)),
        dialogue("^stall", stalls()),
        dialogue("^json", says('{"city": "Lyon", "size": 3}')),
        dialogue("", says("You said $user.")),
    )
)
refunds: list[tuple[str, int]] = []


@tool(replay="never", approval="cents > 5000")
async def refund(order: str, cents: int, *, effect_key: str) -> str:
    """Refund an order."""
    refunds.append((order, cents))
    return f"refunded {cents}"


SHOP = Agent("shop", model="scripted", instructions="Be kind.", tools=[refund, ask_human])
MODEL = Scripted(SCRIPT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    running = WireServer(str(tmp_path_factory.mktemp("sessions") / "a.db"), {"scripted": MODEL}, [SHOP])
    yield running
    running.stop()


@pytest.fixture
def client(server: WireServer) -> Iterator[Client]:
    with server.client() as made:
        yield made


def sent_last() -> ModelRequest:
    """What the model was sent last."""
    return MODEL.requests[-1]


# --- functions the client runs ----------------------------------------------------------------------------------------


def test_functions_of_the_client_run_there(client: Client) -> None:
    session = opened(client, "look twice")
    events = follow(client, session.id, "requires_action")
    assert events[-1].session.status == "requires_action"
    waiting = follow(client, session.id, "requires_action", after=events[-1].event_id)[-1].session
    names = [(action.type, action.name, action.arguments) for action in waiting.required_actions]
    assert names == [("function_call", "look", {"at": "a"}), ("function_call", "look", {"at": "b"})]
    one, two = waiting.required_actions
    assert client.beta.agents.sessions.turns.retrieve(one.turn_id, session_id=session.id).status == "waiting"
    send(
        client,
        session.id,
        result(two, [{"type": "input_text", "text": "a tree"}]),
        result(one, None, success=False, error="fog"),
    )
    done = follow(client, session.id, "idle")
    statuses = [
        (e.item.call_id, e.item.status) for e in done if e.type.endswith("item.done") and e.item.type == "function_call"
    ]
    assert sorted(statuses) == sorted([(one.call_id, "failed"), (two.call_id, "completed")])
    outputs = {
        item.call_id: item
        for item in client.beta.agents.sessions.items.list(session.id)
        if item.type == "function_call_output"
    }
    assert (outputs[two.call_id].output, outputs[one.call_id].error) == ("a tree", "fog")
    results = [part for said in sent_last().messages for part in said.parts if isinstance(part, ToolResult)]
    assert [(part.error, text_of(part.parts)) for part in results] == [(False, "a tree"), (True, "fog")]


def test_a_result_nobody_waits_for(client: Client) -> None:
    """The vendors' client knows these words, and asks again when the call may be about to be registered."""
    session = opened(client, "look around")
    # Its package imports itself in a circle, which closes only when the client's own properties came first.
    from openai.lib.streaming.agents._tools import is_pending_call_race

    action = follow(client, session.id, "requires_action")[-1].session.required_actions[0]
    wrong = [
        result(action, call_id="call_9_9_9"),
        result(action, turn_id="turn_x_1"),
    ]
    for one in wrong:
        with pytest.raises(BadRequestError) as caught:
            send(client, session.id, one)
        assert (caught.value.code, caught.value.param) == ("invalid_request_error", "call_id")
        assert is_pending_call_race(caught.value, one["call_id"])
    for both in ({"success": False, "error": "no"}, {"success": False}, {"error": "no"}):
        with pytest.raises(BadRequestError) as caught:
            send(client, session.id, result(action, **both))
        assert caught.value.param == f"events[0].{'output' if 'success' in both else 'error'}"
    send(client, session.id, result(action), idempotency_key="once")
    send(client, session.id, result(action), idempotency_key="once")
    follow(client, session.id, "idle")
    send(client, session.id, result(action), idempotency_key="once")
    for key in (None, "twice"):
        with pytest.raises(BadRequestError):
            send(client, session.id, result(action), **({"idempotency_key": key} if key else {}))
    with pytest.raises(ConflictError) as reused:
        send(client, session.id, result(action, "other"), idempotency_key="once")
    assert reused.value.code == "idempotency_key_reused"


def test_results_that_race_each_other_all_land(client: Client) -> None:
    session = opened(client, "look twice")
    follow(client, session.id, "requires_action")
    actions = client.beta.agents.sessions.retrieve(session.id).required_actions
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda action: send(client, session.id, result(action)), actions))
    assert follow(client, session.id, "idle")[-1].session.status == "idle"


class City(pydantic.BaseModel):
    city: str
    size: int


def test_the_helper_of_the_vendors_client(client: Client) -> None:
    """`sessions.stream` runs the functions, follows the turn and parses what comes of it."""
    session = opened(client, agent={"model": "scripted", "tools": [LOOK]})
    stream = client.beta.agents.sessions.stream(
        session.id, input="look up", tool_handlers={"look": lambda given: {"saw": given["at"]}}
    )
    with stream as events:
        assert events.get_final_result().output_text == 'I saw {"saw":"it"}.'
    made = client.beta.agents.sessions.create(
        environment=NONE, agent={"model": "scripted"}, input="json", stream=True, output_type=City
    )
    with made as events:
        assert events.get_final_result().output_parsed == City(city="Lyon", size=3)
    schema = sent_last().settings.output_schema
    assert schema is not None
    assert sorted(schema["properties"]) == ["city", "size"]


# --- functions the server runs, and people ----------------------------------------------------------------------------


def test_tools_of_a_registered_agent_run_here_and_wait_for_people(client: Client) -> None:
    assert next(iter(client.beta.agents.list())).id == "shop"
    session = opened(client, "refund little", agent_id="shop")
    follow(client, session.id, "idle")
    assert (said_in(client, session.id), refunds.pop()) == (["refunded 400!"], ("42", 400))
    for word, told in (("approve", "refunded 9000!"), ("deny", "denied"), ("cancel", "dismissed")):
        session = opened(client, "refund much", agent_id="shop")
        waiting = follow(client, session.id, "requires_action")
        action = waiting[-1].session.required_actions[0]
        assert (action.type, action.request.name, action.request.arguments["cents"]) == (
            "mcp_approval_request",
            "refund",
            9000,
        )
        assert not [event for event in waiting if "item.added" in event.type and event.item.type == "function_call"]
        send(client, session.id, decision(action, word), idempotency_key=f"{word}")
        send(client, session.id, decision(action, word), idempotency_key=f"{word}")
        follow(client, session.id, "idle")
        assert told in said_in(client, session.id)[0]
        with pytest.raises((ConflictError, BadRequestError)):
            send(client, session.id, decision(action, word))
    assert refunds == [("42", 9000)]
    refunds.clear()


def test_a_question_is_answered_as_a_function_or_in_words(client: Client) -> None:
    for answer in ("result", "message"):
        session = opened(client, "ask me", agent_id="shop")
        action = follow(client, session.id, "requires_action")[-1].session.required_actions[0]
        assert (action.type, action.name, action.arguments) == (
            "function_call",
            "ask_human",
            {"question": "Which one?"},
        )
        send(client, session.id, result(action, "blue") if answer == "result" else message("blue"))
        follow(client, session.id, "idle")
        assert said_in(client, session.id) == ["So it is blue."]


# --- versions ---------------------------------------------------------------------------------------------------------


def test_sessions_keep_the_version_they_were_opened_with(client: Client) -> None:
    agents = client.beta.agents
    agent = agents.create(model="scripted", instructions="First.", name="one")
    before = opened(client, "hi", agent_id=agent.id)
    agents.update(agent.id, instructions="Second.", name="two")
    assert agents.update(agent.id, instructions="First.", name="one").instructions == "First."
    agents.update(agent.id, instructions="Third.")
    after = opened(client, "hi", agent_id=agent.id)
    for session, words in ((before, "First."), (after, "Third.")):
        follow(client, session.id, "idle")
        send(client, session.id, message("again"))
        follow(client, session.id, "idle", after=follow(client, session.id, "idle")[-1].event_id)
        assert (sent_last().instructions, client.beta.agents.sessions.retrieve(session.id).agent.instructions) == (
            words,
            words,
        )
    agents.delete(agent.id)
    send(client, before.id, message("still there?"))
    assert client.beta.agents.sessions.retrieve(before.id).agent.id == agent.id
    with pytest.raises(NotFoundError):
        opened(client, "hi", agent_id=agent.id)
    assert {one.id for one in agents.sessions.list(agent_id=agent.id)} == {before.id, after.id}


def test_an_agent_changed_for_one_session(client: Client) -> None:
    """What is not overridden is inherited; the agent's own tools stay the agent's."""
    session = opened(client, "refund little", agent_id="shop", agent={"instructions": "Be curt."})
    follow(client, session.id, "idle")
    assert sent_last().instructions == "Be curt."
    assert refunds.pop() == ("42", 400)
    own = {"type": "function", "name": "refund", "description": "", "parameters": {}}
    session = opened(client, "look around", agent_id="shop", agent={"tools": [own, LOOK]})
    assert follow(client, session.id, "requires_action")[-1].session.required_actions[0].name == "look"
    assert [(one.name, one.kind) for one in sent_last().tools] == [("refund", "function"), ("look", "client")]
    assert client.beta.agents.retrieve("shop").instructions == "Be kind."
    with pytest.raises(ConflictError):
        client.beta.agents.update("shop", instructions="Mine now.")


def test_a_session_is_changed_in_its_course(client: Client) -> None:
    session = opened(client, "hi")
    follow(client, session.id, "idle")
    sessions = client.beta.agents.sessions
    changed = sessions.update(session.id, agent={"tools": None, "reasoning": {"effort": "high"}}, metadata={"a": "b"})
    assert (changed.agent.tools, changed.agent.reasoning.effort, changed.metadata) == ([], "high", {"a": "b"})
    assert sessions.update(session.id, agent={"tools": [LOOK]}).agent.reasoning.effort == "high"
    assert sessions.update(session.id, metadata=None).metadata == {}
    send(client, session.id, message("look"))
    assert follow(client, session.id, "requires_action")[-1].session.agent.reasoning.effort == "high"
    assert (sent_last().settings.reasoning_effort, sent_last().tools[0].name) == ("high", "look")


def test_a_change_that_cannot_be_changes_nothing(client: Client) -> None:
    """Whichever of its fields is wrong, the others are left as they were."""
    sessions = client.beta.agents.sessions
    session = opened(client, metadata={"a": "b"})
    before = sessions.retrieve(session.id)
    fields = {"agent": {"tools": None}, "spend_control": {"limit": 5}, "metadata": {"c": "d"}}
    wrong = {"agent": {"model": "nobody:knows"}, "metadata": {"remanence.user": "eve"}, "review": "auto_review"}
    for name, value in wrong.items():
        with pytest.raises(BadRequestError):
            sessions.update(session.id, **{**fields, name: value})
        assert sessions.retrieve(session.id) == before


# --- turns that end otherwise -----------------------------------------------------------------------------------------


def test_messages_said_at_once_are_items_of_their_own(client: Client) -> None:
    texts = [{"role": "user", "content": [{"type": "input_text", "text": word} for word in words.split()]}
             for words in ("one two", "three")]  # fmt: skip
    session = opened(client, texts)
    follow(client, session.id, "idle")
    send(client, session.id, {"type": "agent.session.input.message", "input": [*texts, texts[0]]})
    follow(client, session.id, "turn.completed", after=str(follow(client, session.id, "idle")[-1].event_id))
    items = client.beta.agents.sessions.items.list(session.id, order="asc").data
    said = [[part.text for part in item.content] for item in items if item.type == "message" and item.role == "user"]
    assert said == [["one", "two"], ["three"], ["one", "two"], ["three"], ["one", "two"]]
    assert len({item.id for item in items}) == len(items)


def test_a_turn_is_cancelled(client: Client) -> None:
    session = opened(client, "stall")
    follow(client, session.id, "turn.in_progress")
    cancel: Any = {"type": "agent.session.input.cancel"}
    send(client, session.id, cancel, idempotency_key="stop")
    done = follow(client, session.id, "idle")
    assert [event.turn.status for event in done if event.type == "agent.session.turn.cancelled"] == ["cancelled"]
    send(client, session.id, cancel, idempotency_key="stop")
    with pytest.raises(ConflictError):
        send(client, session.id, cancel)
    session = opened(client, "look")
    follow(client, session.id, "requires_action")
    send(client, session.id, cancel, message("hello"))
    done = follow(client, session.id, "idle", after=follow(client, session.id, "turn.cancelled")[-1].event_id)
    assert (said_in(client, session.id), done[-1].session.required_actions) == (["Looking.", "You said hello."], [])


CANCEL: Any = {"type": "agent.session.input.cancel"}


def test_events_of_one_request_happen_together_or_not_at_all(client: Client) -> None:
    session = opened(client, "look")
    action = follow(client, session.id, "requires_action")[-1].session.required_actions[0]
    before = client.beta.agents.sessions.items.list(session.id).data
    contradiction = {**result(action), "error": "broke"}
    twice = (result(action), result(action))  # the second has nothing to answer once the first has
    unknown: Any = {"type": "agent.session.input.mcp_approval_request_result", "request_id": "call_9_9_9",
                    "response": {"decision": "approve"}}  # fmt: skip
    for bad in (contradiction, unknown, {**message("hello"), "input": []}):
        for events in ((bad,), (message("hello"), bad), (result(action), CANCEL, bad)):
            with pytest.raises(openai.APIStatusError) as caught:
                send(client, session.id, *events, idempotency_key="one")
            assert caught.value.status_code == 400
    with pytest.raises(BadRequestError, match="Unknown pending tool call"):
        send(client, session.id, *twice, idempotency_key="one")
    assert client.beta.agents.sessions.items.list(session.id).data == before
    assert client.beta.agents.sessions.retrieve(session.id).required_actions[0] == action
    for _ in range(2):
        send(client, session.id, message("hello"), result(action), idempotency_key="one")
    for other in ((message("hello"),), (result(action), message("hello")), (CANCEL,)):
        with pytest.raises(ConflictError) as reused:
            send(client, session.id, *other, idempotency_key="one")
        assert reused.value.code == "idempotency_key_reused"
    follow(client, session.id, "idle", after=follow(client, session.id, "turn.completed")[-1].event_id)
    assert said_in(client, session.id)[-1] == "You said hello."
    with pytest.raises(ConflictError, match="None of the 2 events of the request happened"):
        send(client, session.id, CANCEL, message("hello"))


def test_a_turn_that_fails_leaves_a_session_that_goes_on(client: Client) -> None:
    session = opened(client, "fail")
    done = follow(client, session.id, "idle")
    error, failed = [event for event in done if event.type in ("error", "agent.session.turn.failed")]
    assert error.error.code == failed.turn.error.code == "invalid_request"
    assert "model" in failed.turn.error.message
    send(client, session.id, message("hello"))
    follow(client, session.id, "idle", after=done[-1].event_id)
    assert said_in(client, session.id) == ["You said hello."]


def test_what_a_message_does_while_a_turn_runs(client: Client) -> None:
    session = opened(client, "look")
    follow(client, session.id, "requires_action")
    with pytest.raises(ConflictError) as busy:
        send(client, session.id, message("no"), extra_headers={"x-if-busy": "reject"})
    assert busy.value.code == "busy"
    send(client, session.id, message("and be quick"), extra_headers={"x-if-busy": "steer"})
    send(client, session.id, message("later"))
    turns = client.beta.agents.sessions.turns
    for order, statuses in (("desc", ["queued", "waiting"]), ("asc", ["waiting", "queued"])):
        told = [*turns.list(session.id, order=order), *turns.list(session.id, order=order, limit=1)]
        assert [turn.status for turn in told] == [*statuses, *statuses]
    waiting = turns.list(session.id).data[0]
    assert (waiting.started_at, turns.retrieve(waiting.id, session_id=session.id)) == (None, waiting)
    assert list(turns.items.list(waiting.id, session_id=session.id)) == []
    send(client, session.id, result(client.beta.agents.sessions.retrieve(session.id).required_actions[0]))
    last = follow(client, session.id, "idle")
    assert [event.turn.status for event in last if event.type == "agent.session.turn.completed"] == ["completed"] * 2
    turns = list(client.beta.agents.sessions.turns.list(session.id, order="asc"))
    items = client.beta.agents.sessions.turns.items.list(turns[0].id, session_id=session.id, order="asc")
    assert [item.content[0].text for item in items if item.type == "message" and item.role == "user"] == [
        "look",
        "and be quick",
    ]
    assert said_in(client, session.id)[-1] == "You said later."


# --- once, and only once ----------------------------------------------------------------------------------------------


def test_the_same_request_again_is_the_same_request(client: Client) -> None:
    key: Any = {"extra_headers": {"Idempotency-Key": "k1"}}
    opening: Any = {"extra_headers": {"Idempotency-Key": "k3"}}
    agents = client.beta.agents
    agent = agents.create(model="scripted", name="once", **key)
    agents.update(agent.id, name="renamed")
    assert agents.create(model="scripted", name="once", **key) == agent
    first = opened(client, "hello", agent_id=agent.id, metadata={"a": "1"}, spend_control={"limit": 7}, **opening)
    agents.update(agent.id, instructions="Otherwise.")
    again = opened(client, "hello", agent_id=agent.id, metadata={"a": "1"}, spend_control={"limit": 7}, **opening)
    assert (again.id, again.agent.instructions) == (first.id, None)
    follow(client, first.id, "idle")
    for _ in range(3):
        send(client, first.id, message("one"), message("two"), idempotency_key="k2")
    follow(client, first.id, "idle", after=follow(client, first.id, "idle")[-1].event_id)
    assert said_in(client, first.id) == ["You said hello.", "You said one.", "You said two."]
    for attempt in (
        lambda: agents.create(model="scripted", name="other", **key),
        lambda: opened(client, "other", agent_id=agent.id, **opening),
        lambda: send(client, first.id, message("other"), idempotency_key="k2"),
    ):
        with pytest.raises(ConflictError) as caught:
            attempt()
        assert caught.value.code == "idempotency_key_reused"
        assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_session_is_never_without_its_limit(tmp_path: Path) -> None:
    """It is written with the opening, in one transaction; the same request again leaves a raised one as it is."""
    once: Any = {"extra_headers": {"Idempotency-Key": "k1"}, "spend_control": {"limit": 7}}
    server = WireServer(str(tmp_path / "a.db"), {"scripted": MODEL})
    with server.client() as client:
        made = opened(client, "hello", **once)
        with closing(sqlite3.connect(tmp_path / "a.db")) as database:
            (opened_at,) = database.execute("SELECT opened_at FROM sessions WHERE name = ?", (made.id,)).fetchone()
            budgets = database.execute("SELECT scope, unit, ceiling, at FROM budgets").fetchall()
        assert budgets == [(f"session:{made.id}", "usd_micros", 70_000, opened_at)]
        client.beta.agents.sessions.update(made.id, spend_control={"limit": 500})
        assert opened(client, "hello", **once).id == made.id
        assert client.beta.agents.sessions.retrieve(made.id).spend_control.limit == 500
    server.stop()


# --- who may see what -------------------------------------------------------------------------------------------------


def test_projects_do_not_see_each_other(server: WireServer, client: Client) -> None:
    agent = client.beta.agents.create(model="scripted")
    session = opened(client, "hi", agent_id=agent.id)
    turn = follow(client, session.id, "turn.in_progress")[-1].turn_id
    with server.client(OTHER) as stranger:
        agents = stranger.beta.agents
        assert list(agents.list()) == list(agents.sessions.list()) == []
        for attempt in (
            lambda: agents.retrieve(agent.id),
            lambda: agents.update(agent.id, name="mine"),
            lambda: agents.delete(agent.id),
            lambda: opened(stranger, "hi", agent_id=agent.id),
            lambda: agents.sessions.retrieve(session.id),
            lambda: agents.sessions.update(session.id, metadata={}),
            lambda: agents.sessions.delete(session.id),
            lambda: send(stranger, session.id, message("hi")),
            lambda: follow(stranger, session.id),
            lambda: list(agents.sessions.items.list(session.id)),
            lambda: list(agents.sessions.turns.list(session.id)),
            lambda: agents.sessions.turns.retrieve(turn, session_id=session.id),
            lambda: list(agents.sessions.traces.list(session.id)),
        ):
            with pytest.raises(NotFoundError):
                attempt()
        with pytest.raises(BadRequestError):
            list(agents.sessions.list(after=session.id))


def test_keys_open_what_they_are_for(server: WireServer, client: Client) -> None:
    session = opened(client, "hi")
    with server.client(READER) as reader:
        assert reader.beta.agents.sessions.retrieve(session.id).id == session.id
        with pytest.raises(openai.PermissionDeniedError):
            send(reader, session.id, message("hi"))
    for key in ("", "rmn_nobody_nothing", "sk-123", "rmn_"):
        with server.client(key or "x") as nobody, pytest.raises(openai.AuthenticationError) as refused:
            nobody.beta.agents.list()
        assert refused.value.code == "invalid_api_key"
    bare = httpx2.get(f"{server.url}/v1/agents", timeout=60)
    assert (bare.status_code, bare.json()["error"]["type"]) == (401, "authentication_error")


def test_the_other_mount_is_the_same(server: WireServer, client: Client) -> None:
    agent = client.beta.agents.create(model="scripted")
    with OpenAI(base_url=f"{server.url}/openai/v1", api_key=KEY, _strict_response_validation=True) as hosted:
        assert hosted.beta.agents.retrieve(agent.id) == agent
