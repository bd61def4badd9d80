"""What is said of a request that does not fit: the path of the field that was meant, in the words of JSON."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wire_server import KEY, WireServer, serve

JSON = {"content-type": "application/json"}
HELLO: Any = {"role": "user", "content": "hello"}
TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("complaints") / "a.db") as made:
        yield made


@pytest.fixture
def http(server: WireServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as made:
        yield made


def response(**more: Any) -> Any:
    return "/v1/responses", {"model": "scripted", "input": "hello", **more}


def item(**more: Any) -> Any:
    return response(input=[more, HELLO])


def chat(**more: Any) -> Any:
    return "/v1/chat/completions", {"model": "scripted", "messages": [HELLO], **more}


def session(**more: Any) -> Any:
    return "/v1/agents/sessions", {"agent": {"model": "scripted"}, "environment": {"type": "none"}, **more}


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        # one of several things: the complaint about the thing that was meant
        (response(tool_choice={}), "tool_choice.type", "Field required"),
        (response(tool_choice="some"), "tool_choice", "Input should be 'none', 'auto' or 'required'"),
        (response(tool_choice={"type": "function"}), "tool_choice.name", "Field required"),
        (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content", "a valid string or a valid list"),
        (chat(messages=[{"role": "user", "content": [{"type": "x"}]}]), "messages[0].content[0].type", "'text'"),
        (session(input=[{"role": "nobody", "content": []}]), "input[0].role", "Input should be 'user'"),
        (session(input=[{"role": "user", "content": [{"type": "input_text"}]}]), "input[0].content[0].text", "Field"),
        # kinds that there are not, and what is not served
        (response(tools=[{"type": None}]), "tools[0].type", "Input should be one of 'function', 'mcp'"),
        (response(prompt={"id": "p"}), "prompt", "it is not served here; leave it out"),
        (chat(store=True), "store", "Input should be false"),
        (response(metadata={str(n): "" for n in range(17)}), "metadata", "Object should have at most 16 items. N"),
        (chat(messages=[]), "messages", "List should have at least 1 item. Nothing"),
        # numbers beyond any count
        (response(max_output_tokens=10**400), "max_output_tokens", "less than 9007199254740992"),
        (response(max_output_tokens=2**53), "max_output_tokens", "less than 9007199254740992"),
        (response(max_tool_calls=2**60), "max_tool_calls", "less than 9007199254740992"),
        # items
        (item(type=0, role="user", content="x"), "input[0].type", "items of type 0 are not served"),
        (item(type="", role="user", content="x"), "input[0].type", "items of type '' are not served"),
        (item(type="x" * 5_000), "input[0].type", "xxx..."),
        (item(role=None, content="x"), "input[0].role", "null is not one of user"),
        (item(role="user", content="x", id=5), "input[0].id", "a text is expected"),
        (item(role="user", content="x", status="done"), "input[0].status", "'done' is not one of in_progress"),
        (item(role="assistant", content="x", phase=[]), "input[0].phase", "[] is not one of commentary"),
        (item(role="user", content=[{"text": "x"}]), "input[0].content[0].type", "it is missing"),
        (item(type="reasoning", id="rs_1", summary="x"), "input[0].summary", "a list of parts is expected"),
        (item(type="reasoning", id=[], summary=[]), "input[0].id", "a text is expected"),
        # the same way to write a path on every face
        (chat(messages=[HELLO, {"role": "system", "content": "x"}]), "messages[1].role", "before all others"),
        (chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]),
         "tools[0].function.parameters", "type object"),
    ],
)  # fmt: skip
def test_the_path_of_what_was_meant(http: httpx2.Client, request_: Any, param: str, words: str) -> None:
    path, body = request_
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert len(error["message"]) < 400


def test_a_name_without_end_is_not_said_again(http: httpx2.Client) -> None:
    for path, body in (response(**{"x" * 50_000: 1}), item(role="user", content="x", **{"x" * 50_000: 1})):
        answer = http.post(path, json=body)
        assert answer.status_code == 400
        assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"model":"scripted","input":"a\\ud83d"}', "half of a character"),
        (b'{"model":"scripted","input":"a\\uDC00b"}', "half of a character"),
        (b'{"model":"scripted","input":"\\ud83d\\ude00', "truncated"),
        (b'{"input":' + b"[" * 50_000, "nested too deeply"),
        (
            b'{"model":"scripted","input":' + b"[" * 100 + b"]" * 100 + b"}",
            "nested too deeply: 100 levels are the most",
        ),
        (b'\xef\xbb\xbf{"model":"scripted","input":"a"}', "a byte order mark: send UTF-8 without one"),
    ],
)
def test_what_is_no_json_is_told_why(server: WireServer, http: httpx2.Client, body: bytes, words: str) -> None:
    answer = http.post("/v1/responses", content=body, headers=JSON)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    url = server.url.replace("http", "ws") + "/v1/responses"
    with connect(url, open_timeout=60, additional_headers={"authorization": f"Bearer {KEY}"}) as socket:
        socket.send(body.decode())
        assert words in httpx2.Response(200, content=str(socket.recv())).json()["error"]["message"]


def test_what_is_not_read_as_it_comes_is_told_so(http: httpx2.Client) -> None:
    body = b'{"model":"scripted","input":"hello"}'
    packed = http.post("/v1/responses", content=gzip.compress(body), headers={**JSON, "content-encoding": "gzip"})
    wide = http.post("/v1/responses", content=body.decode().encode("utf-16"), headers=JSON)
    plain = http.post("/v1/responses", content=body, headers={**JSON, "content-encoding": "identity"})
    assert [one.status_code for one in (packed, wide, plain)] == [400, 400, 200]
    assert packed.json()["error"]["param"] == "content-encoding"
    assert "compressed (gzip)" in packed.json()["error"]["message"]
    assert "byte order mark" in wide.json()["error"]["message"]


def nested(levels: int) -> Any:
    """A schema that is so many levels deep."""
    schema: Any = {"type": "object"}
    for _ in range(levels // 2):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


DEEP: list[Callable[[Any], tuple[str, Any]]] = [
    lambda schema: response(input="hello", tools=[{"type": "function", "name": "f", "parameters": schema}]),
    lambda schema: response(
        input="hello", store=False, tools=[{"type": "function", "name": "f", "parameters": schema}]
    ),
    lambda schema: response(input="hi", text={"format": {"type": "json_schema", "name": "n", "schema": schema}}),
    lambda schema: chat(
        messages=[HELLO], tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}]
    ),
    lambda schema: (
        "/v1/agents",
        {
            "model": "scripted",
            "tools": [{"type": "function", "name": "f", "description": "d", "parameters": schema}],
        },
    ),
]


@pytest.mark.parametrize("asked", DEEP)
def test_a_schema_is_served_or_refused_however_deep_it_is(
    http: httpx2.Client, asked: Callable[[Any], tuple[str, Any]]
) -> None:
    """What validates and what answers give up at depths of their own: that is never met."""
    for levels, status in ((80, 200), (120, 400), (260, 400), (900, 400)):
        path, body = asked(nested(levels))
        answer = http.post(path, json=body)
        assert answer.status_code == status, (levels, answer.text[:300])
        assert (status == 200) != ("nested too deeply" in answer.text)


@pytest.mark.parametrize("asked", DEEP)
def test_what_says_nothing_of_its_arguments_takes_none(
    http: httpx2.Client, asked: Callable[[Any], tuple[str, Any]]
) -> None:
    """An empty schema is one on every face."""
    path, body = asked({})
    http.post(path, json=body).raise_for_status()


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize("field", ["user", "safety_identifier"])
def test_a_name_that_some_databases_cannot_hold_is_refused_by_all(http: httpx2.Client, path: str, field: str) -> None:
    said: Any = {"messages": [HELLO]} if "chat" in path else {"input": "hello"}
    for kept in ({}, {"store": False} if "responses" in path else {}):
        answer = http.post(path, json={"model": "scripted", field: "a\x00b", **said, **kept})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


# --- the handshake of a web socket ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "status", "param"),
    [
        ("/v1/responses", {}, 401, None),
        ("/v1/nothing", {"authorization": f"Bearer {KEY}"}, 404, None),
        ("/v1/responses", {"authorization": f"Bearer {KEY}", "x-if-busy": "wait"}, 400, "x-if-busy"),
        ("/v1/responses", {"authorization": f"Bearer {KEY}", "origin": "http://elsewhere.example"}, 403, None),
    ],
)
def test_a_refused_handshake_is_an_answer_like_any_other(
    server: WireServer, path: str, headers: dict[str, str], status: int, param: str | None
) -> None:
    url = server.url.replace("http", "ws") + path
    with pytest.raises(InvalidStatus) as refused, connect(url, open_timeout=60, additional_headers=headers):
        pass
    answer = refused.value.response
    error = httpx2.Response(200, content=bytes(answer.body or b"")).json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert answer.headers["x-request-id"] == error["request_id"]
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_a_handshake_is_named_and_its_pieces_are_padded_when_that_is_asked_for(server: WireServer) -> None:
    with server.client().responses.connect() as socket:
        lengths: list[int] = []
        for asks in (True, False):
            options: Any = {"include_obfuscation": asks}
            socket.response.create(model="scripted", input="hello", stream_options=options)
            for event in socket:
                if event.type == "response.output_text.delta":
                    lengths.append(len(event.model_extra.get("obfuscation", "")))
                if event.type == "response.completed":
                    break
    assert any(lengths)
    assert not lengths[-1]
    url = server.url.replace("http", "ws") + "/v1/responses"
    with connect(
        url, open_timeout=60, additional_headers={"authorization": f"Bearer {KEY}", "x-request-id": "mine"}
    ) as named:
        assert named.response is not None
        assert named.response.headers["x-request-id"] == "mine"
