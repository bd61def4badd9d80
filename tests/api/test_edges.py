"""The edges of HTTP: methods, places in streams, parameters and ids that cannot be, and who is told what first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from wire_server import KEY, WireServer, serve

from remanence.models.scripted import Dialogue, Script, Step

SCRIPT = Script((Dialogue((Step(stall=True),), "stall"),), (Step("Hello you"),))
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("edges") / "a.db", SCRIPT) as made:
        yield made


@pytest.fixture
def http(server: WireServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def made(http: httpx2.Client) -> str:
    return http.post("/v1/responses", json={"model": "scripted", "input": "hi"}).json()["id"]


def error_of(answer: httpx2.Response) -> Any:
    return answer.json()["error"]


@pytest.mark.parametrize("place", ["²", "9" * 5000, "-1", "1.5", "x", "0x1"])
def test_a_place_in_a_stream_that_is_none(http: httpx2.Client, place: str) -> None:
    headers = {"last-event-id": place.encode("latin-1")}
    answer = http.get(f"/v1/responses/{made(http)}?stream=true", headers=headers)  # pyright: ignore[reportArgumentType]
    assert (answer.status_code, error_of(answer)["param"]) == (400, "last-event-id")


def test_a_stream_that_was_read_to_its_end_says_that_it_is_whole(http: httpx2.Client) -> None:
    name = made(http)
    assert http.get(f"/v1/responses/{name}?stream=true&starting_after={last_of(http, name)}").text == "data: [DONE]\n\n"


def last_of(http: httpx2.Client, name: str) -> int:
    """The number of a response's last event."""
    whole = http.get(f"/v1/responses/{name}?stream=true").text
    assert whole.endswith("data: [DONE]\n\n")
    return int(whole.rpartition("\nid: ")[2].partition("\n")[0])


def test_a_number_that_no_event_has_had_is_refused(http: httpx2.Client) -> None:
    """As a place of a session of the Agents API that is not there yet is."""
    name = made(http)
    for place in (-1, last_of(http, name) + 1, 10**17):
        answer = http.get(f"/v1/responses/{name}?stream=true&starting_after={place}")
        assert (answer.status_code, error_of(answer)["param"]) == (400, "starting_after"), place
        if place > 0:
            answer = http.get(f"/v1/responses/{name}?stream=true", headers={"last-event-id": str(place)})
            assert (answer.status_code, error_of(answer)["param"]) == (400, "last-event-id"), place


def test_a_number_that_a_running_response_cannot_have_come_to_is_refused(http: httpx2.Client) -> None:
    """What the call that runs may have said is not beyond it."""
    body = {"model": "scripted", "input": "stall", "background": True}
    name = http.post("/v1/responses", json=body).json()["id"]
    for place, status in ((2, 200), ((1 << 32) - 1, 200), (10 << 32, 400)):
        with http.stream("GET", f"/v1/responses/{name}?stream=true&starting_after={place}") as answer:
            assert answer.status_code == status, place
    http.post(f"/v1/responses/{name}/cancel", json={})


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/agents?limt=5", "limt"),
        ("/v1/agents/sessions?before=sess_1", "before"),
        ("/v1/agents/sessions?metadata=x", "metadata"),
        ("/v1/conversations/{conversation}/items?offset=5", "offset"),
        ("/v1/responses/{response}/input_items?before=x", "before"),
        ("/v1/responses/{response}?starting_at=1", "starting_at"),
        ("/admin/v1/sessions?stat=running", "stat"),
    ],
)
def test_a_parameter_nobody_knows_is_refused(http: httpx2.Client, path: str, param: str) -> None:
    talk = http.post("/v1/conversations", json={}).json()["id"]
    answer = http.get(path.format(conversation=talk, response=made(http)))
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


def test_parameters_that_are_known_in_other_ways(http: httpx2.Client) -> None:
    for path in ("/v1/agents/sessions?metadata[a]=b&limit=1", f"/v1/responses/{made(http)}?beta=true"):
        assert http.get(path).status_code == 200
    nameless = http.get("/v1/agents/sessions?metadata[]=b")  # which no session can have
    assert (nameless.status_code, error_of(nameless)["param"]) == (400, "metadata[]")


def test_who_may_not_ask_is_told_that_first(server: WireServer) -> None:
    with httpx2.Client(base_url=server.url, headers=JSON) as http:
        for body in (b"{", b"[]", b'{"nonsense": 1}', b'{"model": "scripted", "input": "\xff"}'):
            for key in ({}, {"authorization": "Bearer rmn_nobody"}):
                answer = http.post("/v1/responses", content=body, headers=key)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_two_keys_are_none(server: WireServer) -> None:
    """One of them was checked by whoever stands before the server, and perhaps the other."""
    own, other = ("authorization", f"Bearer {KEY}"), ("authorization", "Bearer rmn_nobody")
    with httpx2.Client(base_url=server.url) as http:
        for headers in ([own, other], [other, own]):
            answer = http.get("/v1/models", headers=headers)
            assert (answer.status_code, error_of(answer)["type"]) == (400, "invalid_request_error")
            assert "two keys" in error_of(answer)["message"]
        assert http.get("/v1/models", headers=[own, own]).status_code == 200


def test_methods_that_a_path_takes(http: httpx2.Client) -> None:
    name = made(http)
    for path, methods in {
        f"/v1/responses/{name}": "GET, HEAD, DELETE",
        "/v1/responses": "POST",
        "/openai/v1/agents": "GET, HEAD, POST",
        "/health": "GET, HEAD",
    }.items():
        answer = http.put(path, json={})
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    assert http.get(f"/v1/responses/{name}").status_code == 200


def test_whether_it_lives_is_answered_without_a_body_too(http: httpx2.Client) -> None:
    for path in ("/health", "/ready"):
        answer = http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_a_body_that_is_no_object(http: httpx2.Client) -> None:
    answer = http.post("/v1/responses", content=b"[]", headers=JSON)
    assert error_of(answer)["message"].startswith("body: Input should be an object.")


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_what_nothing_can_be_called_is_not_found(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = tmp_path / "a.db" if store == "sqlite" else request.getfixturevalue("postgres_database")
    with serve(database) as server, httpx2.Client(base_url=server.url) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        for path in (
            "/v1/responses/a%00b",
            "/v1/conversations/%00",
            "/v1/conversations/%00/items",
            "/v1/agents/%00",
            "/v1/agents/sessions/a%00",
            "/v1/agents/sessions/%00/items",
            "/v1/models/%00",
            "/admin/v1/sessions/%00",
            "/admin/v1/sessions/%00/records",
        ):
            assert (path, http.get(path).status_code) == (path, 404)
        said = {"model": "scripted", "input": "hi"}
        asked = http.post("/v1/responses", json=said | {"previous_response_id": "\0"})
        assert (asked.status_code, error_of(asked)["code"]) == (400, "previous_response_not_found")
        assert http.post("/v1/responses", json=said | {"conversation": "\0"}).status_code == 404


def test_a_path_that_lacks_its_beginning_is_told(http: httpx2.Client) -> None:
    for method, path in (("POST", "/responses"), ("GET", "/models"), ("GET", "/agents/sessions/asess_1/events")):
        answer = http.request(method, path)
        message = f"There is nothing at {path}. There is /v1{path}: a client's base URL ends in /v1."
        assert (answer.status_code, error_of(answer)["message"]) == (404, message)
    admin = "There is nothing at /metrics. There is /admin/v1/metrics: it wants a key of the scope admin."
    assert error_of(http.get("/metrics"))["message"] == admin
    assert error_of(http.get("/nowhere", headers={"accept": "application/json"}))["message"].endswith("what there is.")


LOOK: Any = {"type": "function", "name": "look", "parameters": None, "strict": False}


@pytest.mark.parametrize(
    ("nothing", "something"),
    [
        ({"async": False}, {"async": True}),
        ({"allowed_callers": ["direct"]}, {"allowed_callers": ["programmatic"]}),
        ({"output_schema": None}, {"output_schema": {"type": "object"}}),
        ({"defer_loading": False}, {"defer_loading": True}),
    ],
)
def test_what_asks_a_function_for_nothing_is_heard(http: httpx2.Client, nothing: Any, something: Any) -> None:
    """As with every other field that is not served: a client may send a tool back with all that its types know."""
    asked: Any = {"model": "scripted", "input": "hi"}
    answer = http.post("/v1/responses", json={**asked, "tools": [{**LOOK, **nothing}]})
    assert (answer.status_code, answer.json()["tools"]) == (200, [{**LOOK, "description": None}])
    answer = http.post("/v1/responses", json={**asked, "tools": [{**LOOK, **something}]})
    assert answer.status_code == 400
    assert error_of(answer)["param"].startswith(f"tools[0].{next(iter(something))}")
