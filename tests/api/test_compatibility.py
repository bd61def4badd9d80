"""The table of what is served says what there is: of the installed package, of our routes, and of what they refuse.

A release of the package that brings an operation or a parameter fails here until somebody has said what becomes of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIWebSocketRoute
from openai import APIStatusError, AsyncOpenAI, BadRequestError, OpenAI
from openai._resource import AsyncAPIResource, SyncAPIResource
from wire_server import KEY, WireServer, serve

from remanence.api.compatibility import HEADERS, NOT_SERVED, OPERATIONS, PARAMETERS
from remanence.api.responses.socket import socket_router

TABLE = {one.name: one for rows in OPERATIONS.values() for one in rows}
ALIAS = "beta.chat"
"""Another way to `chat`."""
OF_THE_CALL = {"extra_headers", "extra_query", "extra_body", "timeout", "idempotency_key"}
OF_THE_CLIENT = {"output_type", "tool_handlers"}
"""Parameters that the package uses itself: they are on no wire."""


def operations(resource: Any, prefix: str = "") -> Iterator[str]:
    """The public methods of a client's resources, by their path; resources that are not served are left out."""
    for name in dir(type(resource)):
        path = f"{prefix}{name}"
        if name.startswith(("_", "with_")) or path in NOT_SERVED or path == ALIAS:
            continue
        member = inspect.getattr_static(type(resource), name)
        if inspect.isfunction(member):
            yield path
        elif hasattr(member, "func"):
            inner = getattr(resource, name)
            if isinstance(inner, SyncAPIResource | AsyncAPIResource):
                yield from operations(inner, f"{path}.")


def method_of(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


OF_THE_CLASS = {name for name, _ in inspect.getmembers(OpenAI, inspect.isfunction)}
"""Methods of the client itself (`close`, `post`, ...), which are no operations."""


@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI])
def test_every_operation_of_the_package_is_listed(kind: Any) -> None:
    client = kind(api_key="-", base_url="http://127.0.0.1/v1")
    found = {path for path in operations(client) if path not in OF_THE_CLASS}
    assert found == TABLE.keys()
    assert len(found) > 90, "the walk found next to nothing"
    assert type(client.beta.chat) is type(client.chat)


def test_resources_that_are_not_served_exist() -> None:
    client = OpenAI(api_key="-", base_url="http://127.0.0.1/v1", webhook_secret="-", admin_api_key="-")
    for path in NOT_SERVED:
        assert isinstance(method_of(client, path), SyncAPIResource), path


@pytest.mark.parametrize("path", PARAMETERS)
def test_every_parameter_of_the_package_is_listed(path: str) -> None:
    client = OpenAI(api_key="-", base_url="http://127.0.0.1/v1")
    assert {one.name for one in PARAMETERS[path]} == set(inspect.signature(method_of(client, path)).parameters) - (
        OF_THE_CALL
    )


# --- our routes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    path: Path = tmp_path_factory.mktemp("compatibility") / "a.db"
    with serve(path) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: WireServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def routes(http: httpx2.Client) -> dict[str, Any]:
    """What the OpenAPI document says of each `METHOD /path` under `/v1`."""
    paths = http.get("/openapi.json").json()["paths"]
    under = {path.removeprefix("/v1"): methods for path, methods in paths.items() if path.startswith("/v1/")}
    return {f"{method.upper()} {path}": said for path, methods in under.items() for method, said in methods.items()}


def test_what_is_served_has_a_route(routes: dict[str, Any]) -> None:
    sockets = {f"WS {route.path}" for route in socket_router.routes if isinstance(route, APIWebSocketRoute)}
    for one in TABLE.values():
        assert one.route in routes.keys() | sockets or (one.state == "not yet" and not one.route), one.name


def test_every_route_is_in_the_table(routes: dict[str, Any]) -> None:
    unlisted = routes.keys() - {one.route for one in TABLE.values()}
    assert unlisted == {"GET /agents/environments/{environment_id}/connection"}, "not for clients but for environments"


def test_no_shape_is_named_by_the_module_it_lies_in(http: httpx2.Client) -> None:
    """So it would be where two shapes had one name; and moving one would change what its name is to others."""
    assert not [
        name for name in http.get("/openapi.json").json()["components"]["schemas"] if name.startswith("remanence__")
    ]


def test_what_is_not_whole_says_what_is_missing() -> None:
    for one in (*TABLE.values(), *(one for rows in PARAMETERS.values() for one in rows if one.state == "partial")):
        assert (one.state == "full") != bool(one.missing), one.name


def test_headers_are_read_where_it_is_said(routes: dict[str, Any]) -> None:
    for header in HEADERS:
        told = {TABLE[path].route for path in header.read_by}
        assert told == {route for route, said in routes.items() if header.name.lower() in headers_of(said)}, header.name


def headers_of(said: dict[str, Any]) -> set[str]:
    return {one["name"].lower() for one in said.get("parameters", ()) if one["in"] == "header"}


@pytest.mark.parametrize("path", PARAMETERS)
def test_what_is_served_is_declared(path: str, http: httpx2.Client, routes: dict[str, Any]) -> None:
    body = routes[TABLE[path].route]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    declared = http.get("/openapi.json").json()["components"]["schemas"][body.rpartition("/")[2]]["properties"]
    assert {one.name for one in PARAMETERS[path] if one.state != "not yet"} - OF_THE_CLIENT <= declared.keys()


# --- what is refused --------------------------------------------------------------------------------------------------

SMALLEST: dict[str, dict[str, Any]] = {
    "beta.agents.create": {"model": "scripted"},
    "beta.agents.sessions.create": {"environment": {"type": "none"}, "agent": {"model": "scripted"}},
    "responses.create": {"model": "scripted", "input": "hi"},
    "chat.completions.create": {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]},
}
ASKED: dict[str, Any] = {
    "access_programs": ["a"],
    "audio": {"format": "mp3", "voice": "ash"},
    "background_options": {"completion_window": "24h"},
    "compaction": {"async": True},
    "context_management": [{"type": "compaction"}],
    "experimental": {"time_awareness": True},
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "image": {"quality": "high"},
    "modalities": ["text", "audio"],
    "moderation": {"model": "m"},
    "multi_agent": {"enabled": True},
    "prediction": {"type": "content", "content": "hi"},
    "prompt": {"id": "p"},
    "prompt_cache_options": {"mode": "explicit"},
    "store": True,
    "stream_options": {"include_obfuscation": True},
    "vault_ids": ["vault_1"],
    "web_search_options": {},
}
"""A value that asks for something, of each parameter that is not served."""

NOT_YET = [(path, one.name) for path, rows in PARAMETERS.items() for one in rows if one.state == "not yet"]


@pytest.mark.parametrize(("path", "name"), NOT_YET)
def test_a_parameter_that_is_not_served_is_refused(path: str, name: str, http: httpx2.Client) -> None:
    body = {**SMALLEST[path], name: ASKED[name]}
    answer = http.post(f"/v1{TABLE[path].route.removeprefix('POST ')}", json=body)
    error = answer.json()["error"]
    assert answer.status_code in (400, 404), answer.text
    assert error["param"].startswith(name), error


@pytest.mark.parametrize("path", PARAMETERS)
def test_without_it_the_request_is_taken(path: str, http: httpx2.Client) -> None:
    answer = http.post(f"/v1{TABLE[path].route.removeprefix('POST ')}", json=SMALLEST[path])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["responses.create", "responses.compact", "chat.completions.create"])
def test_of_the_cache_only_what_happens_anyway_is_taken(path: str, http: httpx2.Client) -> None:
    route, smallest = TABLE[path].route.removeprefix("POST "), SMALLEST.get(path, SMALLEST["responses.create"])
    answer = http.post(f"/v1{route}", json={**smallest, "prompt_cache_options": {"mode": "implicit"}})
    assert answer.status_code == 200, answer.text
    for name, value in (("mode", "explicit"), ("ttl", "30m"), ("prewarm", True)):
        answer = http.post(f"/v1{route}", json={**smallest, "prompt_cache_options": {name: value}})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, f"prompt_cache_options.{name}")


CALLED: dict[str, Any] = {
    "chat.completions.retrieve": lambda c: c.chat.completions.retrieve("x"),
    "chat.completions.update": lambda c: c.chat.completions.update("x", metadata={}),
    "chat.completions.list": lambda c: list(c.chat.completions.list()),
    "chat.completions.delete": lambda c: c.chat.completions.delete("x"),
    "chat.completions.messages.list": lambda c: list(c.chat.completions.messages.list("x")),
    "models.delete": lambda c: c.models.delete("scripted"),
}
"""Operations outside the Agents API that are not served; those in it are called by `test_agents_contract.py`."""


def test_the_beta_of_responses_is_answered_as_responses(server: WireServer) -> None:
    with server.client() as client:
        made = client.beta.responses.create(model="scripted", input="hi")
        assert client.beta.responses.retrieve(made.id) == made
        streamed = list(client.beta.responses.retrieve(made.id, stream=True))
        assert [streamed[0].type, streamed[-1].type] == ["response.created", "response.completed"]
        assert [item.type for item in client.beta.responses.input_items.list(made.id)] == ["message"]
        assert client.beta.responses.input_tokens.count(model="scripted", input="hi").input_tokens
        assert client.beta.responses.compact(model="scripted", input="hi").object == "response.compaction"
        with pytest.raises(BadRequestError, match="multi_agent"):
            client.beta.responses.create(model="scripted", input="hi", multi_agent={"enabled": True})
        client.beta.responses.delete(made.id)


def test_operations_that_are_not_served_are_refused(server: WireServer) -> None:
    outside = {path for path, one in TABLE.items() if one.state == "not yet" and not path.startswith("beta.agents.")}
    assert outside == CALLED.keys()
    with server.client() as client:
        for path, ask in CALLED.items():
            with pytest.raises(APIStatusError) as caught:
                ask(client)
            assert f"answers {caught.value.status_code}" in TABLE[path].missing, (path, caught.value)
