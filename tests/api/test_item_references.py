"""Items that a client names by their id: what the model really hears of them, and which are not found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from wire_server import OTHER, WireServer

from remanence import Agent
from remanence.content import Part, Text, Thinking, ToolCall, ToolResult, text_of
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
GONE = "not found. Nothing was written"


def script(request: ModelRequest) -> ModelReply:
    last = request.messages[-1]
    if request.tools and last.role == "user":
        return ModelReply((ToolCall("x", "weather", "{}"),), stop="tool_calls")
    return ModelReply((Thinking("hm", signature="s1", provider="p"), Text(f"{len(request.messages)} messages")))


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
def server(tmp_path: Path, model: Scripted) -> Iterator[WireServer]:
    made = WireServer(str(tmp_path / "a.db"), {"m": model}, [Agent("support", model="m")])
    yield made
    made.stop()


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    with server.client() as made:
        yield made


def of(name: str) -> Any:
    return {"type": "item_reference", "id": name}


def heard(model: Scripted) -> list[tuple[str, tuple[Part, ...]]]:
    return [(message.role, message.parts) for message in model.requests[-1].messages]


def test_a_history_of_references_is_what_was_said(client: Any, model: Scripted) -> None:
    first = client.responses.create(model="m", input="hello")
    said = client.responses.input_items.list(first.id).data[0].id
    thought, reply = first.output
    history: list[Any] = [of(said), of(thought.id), {"id": reply.id}, {"role": "user", "content": "go on"}]
    client.responses.create(model="m", input=history)
    (_, told), (_, answered), (_, last) = heard(model)
    assert (text_of(told), text_of(last)) == ("hello", "go on")
    # What the provider wants back of its reasoning comes along, without being asked for as encrypted content.
    assert answered == (Thinking("hm", signature="s1", provider="p"), Text("1 messages"))


def test_a_call_by_reference_is_answered(client: Any, model: Scripted) -> None:
    asked = client.responses.create(model="m", input="weather?", tools=[WEATHER])
    call = asked.output[0]
    said = client.responses.input_items.list(asked.id).data[0].id
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    client.responses.create(model="m", input=[of(said), of(call.id), output], tools=[WEATHER])
    roles = [role for role, _ in heard(model)]
    assert roles == ["user", "assistant", "tool"]
    (made,), (result,) = heard(model)[1][1], heard(model)[2][1]
    assert isinstance(made, ToolCall)
    assert isinstance(result, ToolResult)
    assert made.call == result.call
    assert text_of(result.parts) == "rain"
    given = client.responses.input_items.list(
        client.responses.create(model="m", input=[of(said), of(call.id), output]).id, order="asc"
    ).data
    assert [item.type for item in given] == ["message", "function_call", "function_call_output"]


def test_in_conversations_and_what_a_developer_said(client: Any, model: Scripted) -> None:
    talk = client.conversations.create(
        items=[{"role": "developer", "content": "Be short."}, {"role": "user", "content": "hello"}]
    )
    rule, said = (item.id for item in client.conversations.items.list(talk.id, order="asc").data)
    copy = client.conversations.create(items=[of(rule), of(said)])
    texts = [item.content[0].text for item in client.conversations.items.list(copy.id, order="asc").data]
    assert texts == ["Be short.", "hello"]
    answer = client.responses.create(model="m", input=[of(rule), of(said)])
    assert "Be short." in model.requests[-1].instructions
    spoken = client.responses.input_items.list(answer.id, order="asc").data[0].id
    client.responses.create(model="m", input=[of(spoken), {"role": "user", "content": "and now"}])
    assert "Be short." in model.requests[-1].instructions
    client.conversations.items.delete(said, conversation_id=talk.id)
    client.conversations.items.delete(rule, conversation_id=talk.id)
    for name in (said, rule):
        with pytest.raises(openai.NotFoundError, match=GONE):
            client.responses.create(model="m", input=[of(name), {"role": "user", "content": "?"}])


def test_what_is_not_there_is_not_found(server: WireServer, client: Any, model: Scripted) -> None:
    first = client.responses.create(model="m", input="hello")
    private = client.responses.create(model="m", input="secret", store=False)
    names = [first.output[1].id, client.responses.input_items.list(first.id).data[0].id]
    asked = len(model.requests)
    with server.client(OTHER) as stranger:
        for who, name in (
            *((stranger, name) for name in names),
            *((client, item.id) for item in private.output),
            *((client, name) for name in ("", "x", "msg_1", "msg__", "msg_conv_x_system_0", "fc_" + "_" * 300)),
            (client, names[0] + "1"),
        ):
            with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as caught:
                who.responses.create(model="m", input=[{"role": "user", "content": "a"}, of(name)])
            assert caught.value.param == "input[1].id"
    assert len(model.requests) == asked


def test_too_many_are_refused(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="at most 1,000"):
        client.responses.create(model="m", input=[of("msg_x_1")] * 1001)


def test_what_may_be_included_and_is_never_there(client: Any) -> None:
    every: Any = ["web_search_call.action.sources", "code_interpreter_call.outputs", "file_search_call.results"]
    made = client.responses.create(model="m", input="hello", include=every)
    assert client.responses.retrieve(made.id, include=every).to_dict() == made.to_dict()
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input="hello", include=["message.everything"])


def test_pieces_are_padded_where_that_is_asked_for(client: Any) -> None:
    def padded(events: Any) -> set[int]:
        pieces = [event for event in events if event.type.endswith(".delta")]
        assert pieces
        return {len(piece.delta + getattr(piece, "obfuscation", "")) % 32 for piece in pieces}

    make = client.responses.create
    options: Any = {"include_obfuscation": True}
    assert padded(make(model="m", input="hello", stream=True, stream_options=options)) == {0}
    assert padded(make(model="m", input="hello", stream=True, stream_options=options, store=False)) == {0}
    assert padded(make(model="m", input="hello", stream=True)) != {0}
    made = make(model="m", input="hello")
    assert padded(client.responses.retrieve(made.id, stream=True, include_obfuscation=True)) == {0}
    talk: Any = [{"role": "user", "content": "hello"}]
    chunks = client.chat.completions.create(model="m", messages=talk, stream=True, stream_options=options)
    said = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert said
    assert {len(chunk.choices[0].delta.content + chunk.obfuscation) % 32 for chunk in said} == {0}


def test_the_name_of_who_speaks_is_told(client: Any, model: Scripted) -> None:
    talk: Any = [
        {"role": "system", "name": "rules", "content": "Be short."},
        {"role": "user", "name": "ada", "content": "hello"},
        {"role": "assistant", "name": "bot", "content": "Hi"},
        {"role": "user", "name": "bob", "content": [{"type": "text", "text": "hello too"}]},
    ]
    client.chat.completions.create(model="m", messages=talk)
    assert [text_of(parts) for _, parts in heard(model)] == ["ada: hello", "bot: Hi", "bob: hello too"]
    assert model.requests[-1].instructions.endswith("rules: Be short.")
