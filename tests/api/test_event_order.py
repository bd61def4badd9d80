"""The order of a stream's events, by the rules that clients build on, over every kind of event that is sent here.

Each item is announced once and done once, under one place and one id; its parts are announced before their deltas,
which add up to what is done, which is what the response says in the end. Every event fits the package's own model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp_world import Shop, shop_over_http
from openai.types.responses import ResponseStreamEvent
from priced_things import price, refund
from pydantic import TypeAdapter
from wire_server import WireServer

from remanence import Agent
from remanence.content import Part, Text, Thinking, ToolCall, ToolResult, Usage, text_of, with_logprobs
from remanence.errors import ModelError
from remanence.ports import ModelReply, ModelRequest, OnDelta

strict: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ENDS = ("response.completed", "response.incomplete", "response.failed")
LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": None}
ASKS: Any = {"type": "mcp", "server_label": "desk", "require_approval": "always"}


class Actor:
    """Does what it is told, word by word; `break` breaks off once in mid-sentence."""

    def __init__(self) -> None:
        self.broke = False

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        last = request.messages[-1]
        if last.role == "tool":
            told = [text_of(part.parts) for part in last.parts if isinstance(part, ToolResult)]
            return self._said(on_delta, Thinking("hm"), Text(f"It came to this: {told}"))
        words = text_of(last.parts)
        if words == "break" and not self.broke:
            self.broke = True
            self._said(on_delta, Thinking("let me see"), Text("It is ab"))
            raise ModelError("cut", kind="connection")
        if words == "fail":
            self._said(on_delta, Text("I can"))
            raise ModelError("it does not go", kind="invalid_request")
        if words == "long":
            return msgspec.structs.replace(self._said(on_delta, Text("And then, and th")), stop="length")
        if words == "silent":
            return self._said(on_delta, Thinking("", signature="s", provider="p"), Text("So."))
        if words == "likely":
            made = self._said(on_delta, Text("So."))
            token = {"token": "So.", "bytes": None, "logprob": -0.5, "top_logprobs": []}
            return msgspec.structs.replace(made, parts=(*made.parts, with_logprobs(0, [token])))
        if words.startswith("call "):
            made = [ToolCall(f"x{n}", *one.split("=")) for n, one in enumerate(words[5:].split("; "))]
            return self._said(on_delta, Thinking("which one"), Text("I will."), *made, stop="tool_calls")
        return self._said(on_delta, Thinking("a\nb"), Text(f"You said: {words}"))

    def _said(self, on_delta: OnDelta | None, *parts: Part, stop: Any = "stop") -> ModelReply:
        for index, part in enumerate(parts if on_delta else ()):
            assert on_delta is not None
            if isinstance(part, ToolCall):
                on_delta(index, "tool_name", part.name)
                for start in range(0, len(part.arguments), 4):
                    on_delta(index, "tool_arguments", part.arguments[start : start + 4])
            elif isinstance(part, Text | Thinking) and part.text:
                for start in range(0, len(part.text), 3):
                    kind: Any = "text" if isinstance(part, Text) else "thinking"
                    on_delta(index, kind, part.text[start : start + 3])
        return ModelReply(parts, Usage(3, 2), stop=stop)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_over_http(tmp_path_factory.mktemp("shop") / "book") as made:
        yield made


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    desk = Agent("desk", model="m", tools=[price, refund])
    server = WireServer(str(tmp_path / "a.db"), {"m": Actor()}, [desk], mcp_hosts=["127.0.0.1"])
    with server.client(timeout=60) as made:
        yield made
    server.stop()


def check(events: list[Any]) -> list[str]:
    """Hold a whole stream to the rules; answers its kinds of events, each once."""
    told = [event.to_dict() for event in events]
    for one in told:
        strict.validate_python(one, strict=True)
    numbers = [one["sequence_number"] for one in told]
    assert numbers == sorted(set(numbers))
    kinds = [one["type"] for one in told]
    assert kinds[0] == "response.created"
    assert kinds.index("response.in_progress") <= 2
    assert [kind for kind in kinds if kind in ENDS] == kinds[-1:]
    begun = [one for one in told if one["type"] == "response.output_item.added"]
    assert [one["output_index"] for one in begun] == list(range(len(begun))), "places are given one after the other"
    whole: list[Any] = []
    for place, one in enumerate(begun):
        mine = [other for other in told if other.get("output_index") == place]
        item = _check_item(one["item"]["id"], mine)
        if item.get("status") != "incomplete" or kinds[-1] == "response.incomplete":
            whole.append(item)
    assert told[-1]["response"]["output"] == whole, "the response is what its items were"
    assert told[-1]["response"]["status"] == kinds[-1].removeprefix("response.")
    return list(dict.fromkeys(kinds))


def _check_item(name: str, mine: list[Any]) -> Any:
    """The rules for one item; answers it as it was when it was done."""
    assert {other.get("item_id") or other["item"]["id"] for other in mine} == {name}
    kinds = [other["type"] for other in mine]
    assert (kinds[0], kinds[-1]) == ("response.output_item.added", "response.output_item.done")
    assert (kinds.count(kinds[0]), kinds.count(kinds[-1])) == (1, 1)
    first, last = mine[0]["item"], mine[-1]["item"]
    assert first["type"] == last["type"]
    given_up = last.get("status") == "incomplete"
    for part in ("output_text", "reasoning_summary_text", "function_call_arguments", "mcp_call_arguments"):
        deltas = [other["delta"] for other in mine if other["type"] == f"response.{part}.delta"]
        ends = [other for other in mine if other["type"] == f"response.{part}.done"]
        if not deltas and not ends:
            continue
        said = "".join(deltas)
        assert "" not in deltas
        assert said == _text_in(last), part
        if given_up and not ends:
            continue
        (end,) = ends
        assert (end.get("text") or end.get("arguments") or "") == said
        order = [kind for kind in kinds if kind in (f"response.{part}.delta", f"response.{part}.done")]
        assert order == [f"response.{part}.delta"] * len(deltas) + [f"response.{part}.done"]
    _check_parts(mine, kinds, last, given_up=given_up)
    return last


def _check_parts(mine: list[Any], kinds: list[str], last: Any, *, given_up: bool) -> None:
    for kind, index, held in (
        ("content_part", "content_index", "content"),
        ("reasoning_summary_part", "summary_index", "summary"),
    ):
        added = [other for other in mine if other["type"] == f"response.{kind}.added"]
        done = [other for other in mine if other["type"] == f"response.{kind}.done"]
        if last["type"] in ("message", "reasoning") and held in last:
            assert [other[index] for other in added] == list(range(len(last[held])))
        if not given_up:
            assert [other["part"] for other in done] == (last.get(held) or [] if added else [])
        if added:
            at = kinds.index(f"response.{kind}.added")
            assert not [one for one in kinds[:at] if one.endswith((".delta", ".done"))]


def _text_in(item: Any) -> str:
    match item["type"]:
        case "message":
            return "".join(part["text"] for part in item["content"])
        case "reasoning":
            return "".join(part["text"] for part in item["summary"])
        case _:
            return item["arguments"]


CASES: dict[str, dict[str, Any]] = {
    "words": {"input": "hello"},
    "words in the background": {"input": "hello", "background": True},
    "not stored": {"input": "hello", "store": False},
    "silent thoughts": {"input": "silent", "include": ["reasoning.encrypted_content"]},
    "how likely": {"input": "likely", "include": ["message.output_text.logprobs"]},
    "a function": {"input": 'call look={"at":"me"}', "tools": [LOOK]},
    "functions side by side": {"input": 'call look={"at":"me"}; look={}; look={"at":1}', "tools": [LOOK]},
    "functions, not stored": {"input": 'call look={"at":"me"}; look={}', "tools": [LOOK], "store": False},
    "a tool of an agent": {"model": "desk", "input": 'call price={"thing":"tea"}; price={"thing":"void"}'},
    "a question": {"model": "desk", "input": 'call price={"thing":"tea"}; refund={"cents":1}', "tools": [ASKS]},
    "too long": {"input": "long"},
    "broken off and tried again": {"input": "break"},
    "failed": {"input": "fail"},
    "failed, not stored": {"input": "fail", "store": False},
}


@pytest.mark.parametrize("name", CASES)
def test_a_stream_keeps_the_order(client: Any, name: str) -> None:
    with client.responses.create(**{"model": "m", "stream": True, **CASES[name]}) as stream:
        events = list(stream)
    check(events)
    made = events[-1].response
    if CASES[name].get("store") is not False:
        check_again(client, made, events)
        assert client.responses.retrieve(made.id).output == made.output


def check_again(client: Any, made: Any, heard: list[Any]) -> None:
    """Told again, it keeps the order, and after each of its events comes what follows, and nothing else. What comes
    after an event that was heard live makes a whole with what came before it."""
    with client.responses.retrieve(made.id, stream=True) as again:
        whole = list(again)
    check(whole)
    for at, event in enumerate(whole[:-1]):
        assert after(client, made, event) == whole[at + 1 :], event.sequence_number
    # Who was away while an attempt was lost is not told that what it had begun is given up.
    lost = {e.output_index for e in heard if getattr(e, "item", None) and getattr(e.item, "status", "") == "incomplete"}
    for at, event in enumerate(heard[:-1]):
        if not lost or heard[-1].type == "response.incomplete":
            check([*heard[: at + 1], *after(client, made, event)])


def after(client: Any, made: Any, event: Any) -> list[Any]:
    with client.responses.retrieve(made.id, stream=True, starting_after=event.sequence_number) as rest:
        return list(rest)


@pytest.mark.parametrize("approve", [True, False])
def test_an_answer_to_a_question_keeps_the_order(client: Any, approve: bool) -> None:
    asked = client.responses.create(model="desk", tools=[ASKS], input='call refund={"cents":1}; refund={"cents":2}')
    names = [item.id for item in asked.output if item.type == "mcp_approval_request"]
    answers = [{"type": "mcp_approval_response", "approval_request_id": name, "approve": approve} for name in names]
    more: Any = {"model": "desk", "tools": [ASKS], "input": answers, "previous_response_id": asked.id}
    with client.responses.create(**more, stream=True) as stream:
        events = list(stream)
    kinds = check(events)
    check_again(client, events[-1].response, events)
    assert f"response.mcp_call.{'completed' if approve else 'failed'}" in kinds


@pytest.mark.parametrize(
    "name", ["words", "functions side by side", "functions, not stored", "a tool of an agent", "failed"]
)
def test_a_web_socket_keeps_the_order(client: Any, name: str) -> None:
    with client.responses.connect() as socket:
        socket.send({"type": "response.create", "model": "m", **CASES[name]})
        events: list[Any] = []
        while not events or events[-1].type not in ENDS:
            events.append(socket.recv())
    check(events)


def test_tools_of_a_server_keep_the_order(client: Any, shop: Shop) -> None:
    server: Any = {"type": "mcp", "server_label": "shop", "server_url": shop.url, "require_approval": "never"}
    given = 'call look={}; price={"thing":"tea"}; buy={"thing":"void"}'
    with client.responses.create(model="m", input=given, tools=[server, LOOK], stream=True) as stream:
        events = list(stream)
    kinds = check(events)
    assert "response.mcp_list_tools.completed" in kinds
    asked = events[-1].response
    check_again(client, asked, events)
    call = next(item for item in asked.output if item.type == "function_call")
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "seen"}]
    more: Any = {"model": "m", "input": output, "tools": [server, LOOK], "previous_response_id": asked.id}
    with client.responses.create(**more, stream=True) as stream:
        check(list(stream))


def test_the_packages_own_reader_of_streams_is_content(client: Any) -> None:
    """`responses.stream` puts a response together from its events, and trips over those that come out of order."""
    for case in ("words", "functions side by side", "broken off and tried again", "silent thoughts"):
        fields = {key: value for key, value in CASES[case].items() if key != "tools"}
        with client.responses.stream(model="m", tools=CASES[case].get("tools", []), **fields) as stream:
            for _ in stream:
                pass
            assert stream.get_final_response().output
