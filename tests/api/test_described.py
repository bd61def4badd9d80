"""The OpenAPI document says of every operation what it answers, and of what is not served that it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from wire_server import KEY, serve

from remanence.api.compatibility import OPERATIONS

JSON = "application/json"
REFUSED_429 = "#/components/responses/Refused_429"
STREAMS = {("post", "/v1/responses"), ("get", "/v1/responses/{response_id}"), ("post", "/v1/chat/completions")}
"""What answers with JSON, or with a stream when the request asks for one."""


@pytest.fixture
def http(tmp_path: Path) -> Iterator[httpx2.Client]:
    with serve(tmp_path / "a.db") as server, httpx2.Client(base_url=server.url, timeout=60) as made:
        made.headers["authorization"] = f"Bearer {KEY}"
        yield made


def operations(document: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield (method, path), operation


def test_every_answer_has_a_shape(http: httpx2.Client) -> None:
    document = http.get("/openapi.json").json()
    only_refuse: set[str] = set()
    for name, operation in operations(document):
        answers = {int(status): said for status, said in operation["responses"].items() if status.startswith("2")}
        if not answers:
            only_refuse.add(f"{name[0].upper()} {name[1].removeprefix('/v1')}")
        for status, said in answers.items():
            content = said.get("content", {})
            assert status in (202, 204) or content, name
            assert content.get(JSON) is None or content[JSON]["schema"], name
            assert ("text/event-stream" in content) >= (name in STREAMS), name
    not_served = {one.route for rows in OPERATIONS.values() for one in rows if one.state == "not yet" and one.route}
    assert only_refuse - {"GET /agents/environments/{environment_id}/connection"} == not_served


def test_the_shapes_are_those_of_the_answers(http: httpx2.Client) -> None:
    """And a shape can refuse: it is not one that everything fits."""
    document = http.get("/openapi.json").json()
    made = http.post("/v1/responses", json={"model": "scripted", "input": "hello"}).json()
    talk = http.post("/v1/conversations", json={"items": [{"role": "user", "content": "hello"}]}).json()
    asked = {
        "/v1/responses/{response_id}": f"/v1/responses/{made['id']}",
        "/v1/responses/{response_id}/input_items": f"/v1/responses/{made['id']}/input_items",
        "/v1/conversations/{conversation_id}": f"/v1/conversations/{talk['id']}",
        "/v1/conversations/{conversation_id}/items": f"/v1/conversations/{talk['id']}/items",
    }
    for path, url in asked.items():
        shape = document["paths"][path]["get"]["responses"]["200"]["content"][JSON]["schema"]
        judge = jsonschema_rs.Draft202012Validator({**shape, "components": document["components"]})
        answer = http.get(url).json()
        judge.validate(answer)
        assert not judge.is_valid({**answer, "object": "something else"}), path


def test_what_is_said_to_be_empty_is_empty(http: httpx2.Client) -> None:
    session = {"agent": {"model": "scripted"}, "environment": {"type": "none"}}
    opened = http.post("/v1/agents/sessions", json=session).json()
    content = [{"type": "input_text", "text": "hello"}]
    event = {"type": "agent.session.input.message", "input": [{"role": "user", "content": content}]}
    answer = http.post(f"/v1/agents/sessions/{opened['id']}/events", json={"events": [event]})
    said = http.get("/openapi.json").json()["paths"]["/v1/agents/sessions/{session_id}/events"]["post"]["responses"]
    assert (answer.status_code, answer.content) == (202, b"")
    assert "content" not in said["202"]


def test_what_all_operations_share_is_said_once(http: httpx2.Client) -> None:
    """The refusals, and the second mount, which is the first again. People still read each where it applies."""
    told = http.get("/openapi.json")
    document = told.json()
    assert len(told.content) < 550_000
    for kind, name in re.findall(r'"\$ref":"#/components/(\w+)/([^"]+)"', told.text):
        assert name in document["components"][kind], name
    assert not [path for path in document["paths"] if path.startswith("/openai")]
    busy = document["components"]["responses"]["Refused_429"]
    assert busy["content"][JSON]["schema"]
    refusing = [one for _, one in operations(document) if one["responses"].get("429") == {"$ref": REFUSED_429}]
    assert len(refusing) > 100
    assert http.get("/docs").text.count(busy["description"]) == len(refusing)


def test_a_query_parameter_that_nobody_knows_is_refused_everywhere(http: httpx2.Client) -> None:
    """Also where an operation takes none: it was misspelled, or meant for the body, and would be ignored."""
    ignored: list[str] = []
    for (method, path), operation in operations(http.get("/openapi.json").json()):
        if not operation.get("security"):
            continue
        place = re.sub(r"{[^}]*}", "x", path)
        body = b"{}" if method in ("post", "put", "patch") else None
        headers = {"content-type": JSON} if body else {}
        answer = http.request(method, place, params={"colour": "true"}, content=body, headers=headers)
        if answer.status_code < 400 or answer.json()["error"].get("param") is None:
            ignored.append(f"{method} {path}: {answer.status_code} {answer.text[:80]}")
    assert not ignored
    refused = http.post("/v1/conversations", json={}, params={"colour": "true"}).json()["error"]
    assert (refused["param"], "there are none" in refused["message"]) == ("colour", True)
