"""A model that calls what it was told not to call, or not what it was told to, through every face, streams too.

Nothing of such a call reaches a client, and nothing of it is in the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from agents_client import follow, opened
from wire_server import WireServer

from remanence import Agent, tool
from remanence.content import Text, ToolCall, Usage
from remanence.events import ModelFailed, ModelReplied
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import ModelReply, ModelRequest
from remanence.spec import ModelSettings

FUNCTION: Any = {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}
TOOLS: Any = [{"type": "function", **FUNCTION}, {"type": "function", **FUNCTION, "name": "find"}]
CHAT_TOOLS: Any = [
    {"type": "function", "function": FUNCTION},
    {"type": "function", "function": {**FUNCTION, "name": "find"}},
]
SAYS: Any = {
    "both": (Text("Well."), ToolCall("x", "look", '{"at": "secret"}'), ToolCall("y", "find", '{"at": "secret"}')),
    "calls": (ToolCall("x", "look", '{"at": "secret"}'), ToolCall("y", "find", '{"at": "secret"}')),
    "words": (Text("Well."),),
    "invents": (Text("Hm."), ToolCall("x", "steal", '{"at": "secret"}')),
    "looks": (ToolCall("x", "look", '{"at": "secret"}'),),
}
looked: list[str] = []


@tool(replay="safe")
async def look(at: str) -> str:
    """Look somewhere."""
    looked.append(f"look {at}")
    return "seen"


@tool(replay="safe")
async def find(at: str) -> str:
    """Find something."""
    looked.append(f"find {at}")
    return "found"


def wilful(request: ModelRequest) -> ModelReply:
    """Says what it likes, whatever it was told, until a tool has answered."""
    if request.messages[-1].role == "tool":
        return ModelReply((Text("Done."),))
    return ModelReply(SAYS[last_user_text(request)], Usage(7, 5), stop="tool_calls")


def agent(name: str, **settings: Any) -> Agent:
    return Agent(name, model="m", tools=[look, find], settings=ModelSettings(**settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    agents = [agent("one", parallel_tool_calls=False), agent("mute", tool_choice="none")]
    path = tmp_path_factory.mktemp("wilful") / "a.db"
    made = WireServer(str(path), {"m": Scripted(wilful)}, agents)
    yield made
    made.stop()


WAYS: list[Any] = [{}, {"store": False}, {"stream": True}, {"stream": True, "store": False}]


def respond(server: WireServer, said: str, asked: Any) -> tuple[Any, str]:
    """The response, and every piece of it that was told, as it was told."""
    with server.client(timeout=60) as client:
        answer = client.responses.create(model="m", input=said, tools=TOOLS, **asked)
        if not asked.get("stream"):
            return answer, ""
        events = list(answer)
        assert events[-1].type in ("response.completed", "response.failed")
        return events[-1].response, "".join(event.model_dump_json() for event in events)


@pytest.mark.parametrize("way", WAYS)
def test_one_call_of_a_response_stands(server: WireServer, way: Any) -> None:
    made, told = respond(server, "both", {**way, "parallel_tool_calls": False})
    assert [(item.type, getattr(item, "name", "")) for item in made.output] == [
        ("message", ""),
        ("function_call", "look"),
    ]
    assert made.status == "completed"
    assert told.count('"response.output_item.added"') == (2 if told else 0)
    if not way.get("store", True):
        return
    with server.client(timeout=60) as client:
        assert [item.type for item in client.responses.retrieve(made.id).output] == ["message", "function_call"]
        result = {"type": "function_call_output", "call_id": made.output[1].call_id, "output": "seen"}
        after = client.responses.create(model="m", input=[result], previous_response_id=made.id)
        assert after.output_text == "Done.", "nothing else is waited for"


@pytest.mark.parametrize("way", WAYS)
def test_no_call_of_a_response_stands(server: WireServer, way: Any) -> None:
    made, told = respond(server, "both", {**way, "tool_choice": "none"})
    assert [(item.type, made.status) for item in made.output] == [("message", "completed")]
    assert made.output_text == "Well."
    assert "secret" not in told


FAILED: list[tuple[str, Any, str]] = [
    ("calls", {"tool_choice": "none"}, "told to call none"),
    ("words", {"tool_choice": "required"}, "told to call a tool"),
    ("words", {"tool_choice": {"type": "function", "name": "find"}}, "told to call find"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("said", "asked", "why"), FAILED)
def test_a_response_of_which_nothing_is_left_fails(
    server: WireServer, said: str, asked: Any, why: str, way: Any
) -> None:
    made, told = respond(server, said, {**way, **asked})
    assert made.status == "failed"
    assert why in made.error.message
    assert "secret" not in told
    assert not [item for item in made.output if item.type == "function_call"]


def test_the_function_that_was_forced_is_the_one_that_is_called(server: WireServer) -> None:
    made, _ = respond(server, "both", {"tool_choice": {"type": "function", "name": "find"}})
    assert [getattr(item, "name", "") for item in made.output] == ["", "find"]


# --- chat -------------------------------------------------------------------------------------------------------------

CHATS: list[Any] = [{}, {"extra_headers": {"x-session-id": "new"}}]


def chat(server: WireServer, said: str, stream: bool, asked: Any) -> tuple[Any, list[str], str]:
    """The text, the names of the calls, and why it ended."""
    with server.client(timeout=60) as client:
        create = client.chat.completions.create
        answer = create(
            model="m", messages=[{"role": "user", "content": said}], tools=CHAT_TOOLS, stream=stream, **asked
        )
        if not stream:
            choice = answer.choices[0]
            calls = [call.function.name for call in choice.message.tool_calls or ()]
            return choice.message.content, calls, choice.finish_reason
        choices = [chunk.choices[0] for chunk in answer if chunk.choices]
        told = [call for choice in choices for call in choice.delta.tool_calls or ()]
        text = "".join(choice.delta.content or "" for choice in choices)
        return text, [call.function.name for call in told if call.function.name], choices[-1].finish_reason


@pytest.mark.parametrize("place", CHATS)
@pytest.mark.parametrize("stream", [False, True])
def test_chats_are_held_to_it_too(server: WireServer, place: Any, stream: bool) -> None:
    text, calls, ended = chat(server, "both", stream, {**place, "parallel_tool_calls": False})
    assert (text, calls, ended) == ("Well.", ["look"], "tool_calls")
    assert chat(server, "both", stream, {**place, "tool_choice": "none"}) == ("Well.", [], "stop")
    with pytest.raises(openai.APIError, match="told to call a tool"):
        chat(server, "words", stream, {**place, "tool_choice": "required"})


ALLOWED: Any = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "find"}}]},
}


@pytest.mark.parametrize("mode", ["auto", "required"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_held_to_the_tools_that_are_allowed(server: WireServer, stream: bool, mode: str) -> None:
    among = {**ALLOWED, "allowed_tools": {**ALLOWED["allowed_tools"], "mode": mode}}
    assert chat(server, "both", stream, {"tool_choice": among}) == ("Well.", ["find"], "tool_calls")
    if mode == "auto":
        assert chat(server, "invents", stream, {"tool_choice": among}) == ("Hm.", [], "stop")
    with pytest.raises(openai.APIError, match="find" if mode == "required" else "not allowed"):
        chat(server, "looks", stream, {"tool_choice": among})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["auto", "required"])
def test_a_response_that_is_not_stored_is_held_to_them_too(server: WireServer, stream: bool, mode: str) -> None:
    among = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "find"}]}
    made, told = respond(server, "both", {"tool_choice": among, "store": False, "stream": stream})
    assert [getattr(item, "name", "") for item in made.output] == ["", "find"]
    assert '"look"' not in told.replace('"name":"look","parameters"', "")
    assert made.tool_choice.mode == mode


# --- agents -----------------------------------------------------------------------------------------------------------


def test_an_agent_runs_one_call_after_the_other(server: WireServer) -> None:
    looked.clear()
    with server.client(timeout=60) as client:
        session = opened(client, "both", agent_id="one")
        told = follow(client, session.id, "idle", "failed")
        assert looked == ["look secret"]
        assert told[-1].type == "agent.session.idle"
        events = [record.event for record in server.do(lambda rt: rt.database.store.read(session.id))]
        replied = next(event for event in events if isinstance(event, ModelReplied))
        assert [part.name for part in replied.parts if isinstance(part, ToolCall)] == ["look"]


def test_a_mute_agent_fails_and_the_reply_is_paid_for(server: WireServer) -> None:
    looked.clear()
    with server.client(timeout=60) as client:
        session = opened(client, "calls", agent_id="mute")
        told = follow(client, session.id, "idle", "failed")
        assert "agent.session.turn.failed" in [event.type for event in told]
        assert looked == []
        events = [record.event for record in server.do(lambda rt: rt.database.store.read(session.id))]
        (failed,) = [event for event in events if isinstance(event, ModelFailed)]
        assert (failed.kind, failed.billed_tokens, failed.retry_at) == ("content", 12, None)
