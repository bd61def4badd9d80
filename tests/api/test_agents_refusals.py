"""Requests the Agents API cannot honour: refused with the path of the field, in a sentence, and nothing was done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from agents_client import LOOK, NONE
from wire_server import KEY, WireServer, serve

from remanence.api.auth import Rate


def agent(**fields: Any) -> Any:
    """A session whose agent has these fields."""
    return {"environment": NONE, "agent": {"model": "scripted", **fields}}


def session(**fields: Any) -> Any:
    """A session with these fields."""
    return {**agent(), **fields}


PICTURE = {"type": "input_image", "image_url": "file:///etc/passwd"}
HERE = {"type": "self_hosted", "workspace_directory": "here"}
WRONG: list[tuple[str, Any]] = [
    ("environment", {"agent": {"model": "scripted"}}),
    ("agent.model", {"environment": NONE}),
    ("agent.model", {"environment": NONE, "agent": {"instructions": "x"}}),
    ("agent.model", agent(model="nobody:knows")),
    ("agent.model", agent(model=None)),
    ("agent.tools[1].description", agent(tools=[LOOK, {"type": "function", "name": "x", "parameters": {}}])),
    ("agent.tools[0].type", agent(tools=[{"type": "computer_use"}])),
    ("agent.tools[0].type", agent(tools=[{"type": "magic"}])),
    ("agent.tools[0].defer_loading", agent(tools=[{**LOOK, "defer_loading": True}])),
    ("agent.tools", agent(tools=[LOOK, LOOK])),
    ("agent.reasoning.effort", agent(reasoning={"effort": "huge"})),
    ("agent.reasoning.summary", agent(reasoning={"summary": "long"})),
    ("agent.text.verbosity", agent(text={"verbosity": "loud"})),
    ("agent.service_tier", agent(service_tier="scale")),
    ("agent.multi_agent.enabled", agent(multi_agent={"enabled": True})),
    ("agent.compaction.async", agent(compaction={"async": True})),
    ("agent.experimental.time_awareness", agent(experimental={"time_awareness": True})),
    ("colour", session(colour="red")),
    ("review", session(review="auto_review")),
    ("input", session(stream=True)),
    ("input", session(input="")),
    ("input", session(input="  ")),
    ("input[0].content[0].image_url", session(input=[{"role": "user", "content": [PICTURE]}])),
    ("stream_options", session(stream_options={})),
    ("spend_control.limit", session(spend_control={"limit": 0})),
    ("metadata.k", session(metadata={"k": "v" * 513})),
    ("metadata", session(metadata={str(number): "" for number in range(17)})),
    ("environment.env", session(environment={"type": "openai_hosted", "env": {"A": "B"}})),
    ("environment.workspace_directory", session(environment=HERE)),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("refusals") / "a.db") as running:
        yield running


def ask(server: WireServer, method: str, path: str, **more: Any) -> httpx2.Response:
    """A request with a good key."""
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    return httpx2.request(method, f"{server.url}{path}", headers=headers, timeout=60, **more)


@pytest.mark.parametrize(("path", "body"), WRONG, ids=[f"{number}-{path}" for number, (path, _) in enumerate(WRONG)])
def test_what_is_wrong_is_named(server: WireServer, path: str, body: Any) -> None:
    """Status 400 with the path of the field; nothing was opened."""
    answer = ask(server, "POST", "/v1/agents/sessions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, path, "invalid_request_error"), error
    assert "othing was" in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert ask(server, "GET", "/v1/agents/sessions").json()["data"] == []
    page = httpx2.get(f"{server.url}/docs", timeout=60).text
    assert f'id="{error["doc_url"].partition("#")[2]}"' in page


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "an object"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"", "Field required"),
    ],
)
def test_a_body_that_is_none(server: WireServer, body: bytes, message: str) -> None:
    answer = ask(server, "POST", "/v1/agents/sessions", content=body)
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/agents?limit=0", "limit"),
        ("/v1/agents?limit=101", "limit"),
        ("/v1/agents?order=up", "order"),
        ("/v1/agents?after=agent_nobody", "after"),
        ("/v1/agents/sessions?after=sess_nobody", "after"),
        ("/v1/agents/sessions?metadata[]=x", "metadata[]"),
        (f"/v1/agents/sessions?metadata[{'k' * 65}]=x", f"metadata[{'k' * 65}]"),
        (f"/v1/agents/sessions?metadata[k]={'x' * 513}", "metadata[k]"),
        ("/v1/agents/sessions?metadata[k]=x&metadata[k]=y", "metadata[k]"),
        ("/v1/agents/sessions?" + "&".join(f"metadata[{number}]=x" for number in range(17)), "metadata[16]"),
    ],
)
def test_lists_that_cannot_be(server: WireServer, path: str, param: str) -> None:
    answer = ask(server, "GET", path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_body_over_the_limit(server: WireServer) -> None:
    answer = ask(server, "POST", "/v1/agents/sessions", json=session(input="x" * 9_000_000))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    answer = ask(server, "POST", "/v1/agents/sessions", json=session(input="x" * 5_000_000))
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "input")


def test_too_many_requests(tmp_path_factory: pytest.TempPathFactory) -> None:
    rate = Rate(per_minute=60, burst=3)
    with serve(tmp_path_factory.mktemp("rate") / "a.db", rate=rate) as server:
        statuses = [ask(server, "GET", "/v1/agents").status_code for _ in range(3)]
        last = ask(server, "GET", "/v1/agents")
        assert (statuses, last.status_code, last.headers["retry-after"]) == ([200] * 3, 429, "1")
        error = last.json()["error"]
        assert (error["type"], error["message"].endswith("ask again in 1 s.")) == ("rate_limit_error", True)
        assert httpx2.get(f"{server.url}/health", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("beta", "served"),
    [
        ("agents=v1", True),
        ("responses_multi_agent=v1, agents=v1", True),
        ("", True),
        ("agents=v2", False),
        ("agents=v10", False),
        ("assistants=v2", False),
    ],
)
def test_another_version_of_the_api_is_refused(server: WireServer, beta: str, served: bool) -> None:
    """Whatever way a request takes; and only by who has a key is it heard at all."""
    headers = {"authorization": f"Bearer {KEY}", "openai-beta": beta}
    session = {"agent": {"model": "scripted"}, "environment": NONE}
    with httpx2.Client(base_url=f"{server.url}/v1", headers=headers, timeout=60) as http:
        asked = [http.get("/agents"), http.post("/agents/sessions", json=session), http.get("/agents/sessions/none")]
        assert [answer.status_code for answer in asked] == ([200, 200, 404] if served else [400, 400, 400])
        if not served:
            error = asked[0].json()["error"]
            assert (error["type"], error["code"], error["param"]) == (
                "invalid_request_error",
                "unsupported",
                "openai-beta",
            )
        http.headers["authorization"] = "Bearer none"
        assert http.get("/agents").status_code == 401
        assert http.post("/agents/sessions", json=session).status_code == 401
