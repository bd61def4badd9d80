"""The HTTP application: what passes, what is refused, and that every refusal is a sentence in one shape."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from remanence import Remanence
from remanence.api.app import Serving, build_app
from remanence.api.bodies import JsonRoute
from remanence.api.guard import IMPORT_BYTES_MAX, IMPORT_PATH, is_ours
from remanence.errors import BudgetExceeded, Conflict, NotFound, StoreFull, StoreUnavailable

HOME = "http://127.0.0.1:7410"


class Order(BaseModel):
    """What one of the test's own routes takes."""

    order: str
    cents: int


def face() -> APIRouter:
    """Routes that do what the real faces will: take bodies, raise our errors, and once break."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/orders")
    async def orders(order: Order) -> Order:
        return order

    errors = {
        "missing": NotFound("There is no session 's1'."),
        "taken": Conflict("Somebody was first."),
        "away": StoreUnavailable("The database is away."),
        "full": StoreFull("No space is left."),
        "broke": BudgetExceeded("No money is left.", scope="all", unit="tokens", limit=1, used=1, needed=1),
        "bug": ZeroDivisionError("a secret in a message"),
    }

    @router.get("/errors/{name}")
    async def fails(name: str) -> None:
        raise errors[name]

    return router


@asynccontextmanager
async def client(tmp_path: Path, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the application over a real database."""
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=options.pop("worker", False)) as rt:
        app = build_app(rt, faces=[face()], **options)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=HOME) as http:
            yield http


def error_of(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a response, which must have the one shape."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"type", "code", "message", "param", "doc_url", "request_id"}
    assert body["error"]["code"] == code
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return body["error"]


async def test_what_it_answers(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/version")).json() == {"name": "remanence", "version": "0.1.0"}
        document = (await http.get("/openapi.json")).json()
        assert {"/health", "/ready", "/version"} <= document["paths"].keys()
        assert "422" not in str(
            [list(one["responses"]) for path in document["paths"].values() for one in path.values()]
        )
        assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_its_description_is_made_once_and_not_on_the_event_loop(tmp_path: Path) -> None:
    """It takes a second of the processor: in the way of every turn and stream, if it were."""
    makers: set[int] = set()
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False) as rt:
        app = build_app(rt)
        make = app.openapi

        def made() -> dict[str, Any]:
            if app.openapi_schema is None:
                makers.add(threading.get_ident())
            return make()

        app.openapi = made
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=HOME) as http:
            asked = await asyncio.gather(*(http.get(path) for path in ("/openapi.json", "/docs", "/openapi.json")))
            under = httpx2.ASGITransport(app=app, root_path="/agents")
            async with httpx2.AsyncClient(transport=under, base_url=HOME) as proxied:
                servers = (await proxied.get("/agents/openapi.json")).json()["servers"]
    assert {answer.status_code for answer in asked} == {200}
    assert len(makers) == 1
    assert makers.isdisjoint({threading.get_ident()})
    assert servers == [{"url": "/agents"}]


async def test_the_docs_need_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Every path and schema is on the page, and the page loads nothing and runs nothing."""
    async with client(tmp_path) as http:
        document = (await http.get("/openapi.json")).json()
        page = await http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(r"<script|<link|<img|@import|url\(|src=", page.text)
    assert not [link for link in re.findall(r"https?://[^\s<'\"]+", page.text) if not link.startswith(HOME)]
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page.text
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in page.text
    assert set(re.findall(r'href="?#([^">]+)', page.text)) <= set(re.findall(r'id="?([^">]+)', page.text))


async def test_ready_says_what_is_wrong(tmp_path: Path) -> None:
    serving = Serving()
    async with client(tmp_path, serving=serving) as http:
        found = await http.get("/ready")
        assert (found.status_code, found.json()["ready"]) == (200, True)
        assert found.json()["checks"] == {
            "database": "ok",
            "schema": found.json()["checks"]["schema"],
            "worker": "ok: none in this process",
            "process": "ok",
        }
        serving.draining = True
        found = await http.get("/ready")
        assert (found.status_code, found.json()["ready"]) == (503, False)
        assert "shutting down" in found.json()["checks"]["process"]
        assert (await http.get("/health")).status_code == 200


async def test_ready_knows_a_worker_and_a_database_that_stopped(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/a.db") as rt:
        app = build_app(rt)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=HOME) as http:
            assert (await http.get("/ready")).json()["checks"]["worker"] == "ok: 0 sessions"
            assert rt.worker is not None
            await rt.worker.stop()
            found = await http.get("/ready")
            assert (found.status_code, found.json()["checks"]["worker"][:14]) == (503, "it has stopped")
            await rt.database.close()
            found = await http.get("/ready")
            assert (found.status_code, "was closed" in found.json()["checks"]["database"]) == (503, True)


# --- hosts ------------------------------------------------------------------------------------------------------------


OURS = """127.0.0.1 127.0.0.1:7410 127.9.9.9 localhost LOCALHOST:80 app.localhost:1 [::1] [::1]:7410 10.0.0.7:7410
agents.example.com agents.example.com:443 Agents.Example.com."""
FOREIGN = """evil.example 127.0.0.1.evil.example localhost.evil.example xlocalhost agents.example.com.evil 0.0.0.0
0.0.0.0:7410 10.0.0.8 [::] localhost: localhost:x localhost/x a@localhost 127.0.0.1,evil.example
evil.example#localhost 2130706433 0x7f.1 [::1 [::ffff:127.0.0.1%25]"""


@pytest.mark.parametrize("host", OURS.split())
def test_hosts_that_are_ours(host: str) -> None:
    assert is_ours(host, frozenset({"agents.example.com", "10.0.0.7"}))


@pytest.mark.parametrize("host", ["", *FOREIGN.split()])
def test_hosts_that_are_not(host: str) -> None:
    assert not is_ours(host, frozenset({"agents.example.com", "10.0.0.7"}))


async def test_a_foreign_host_is_refused(tmp_path: Path) -> None:
    async with client(tmp_path, hosts=["agents.example.com"]) as http:
        for path in ("/health", "/docs", "/nothing"):
            refused = await http.get(path, headers={"host": "evil.example"})
            error = error_of(refused, 421, "misdirected")
            assert "'evil.example'" in error["message"]
            assert "setting `hosts`" in error["message"]
        assert (await http.get("/health", headers={"host": "agents.example.com"})).status_code == 200


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_over_the_limit_is_refused_however_it_comes(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"order": "'
        for _ in range(20):
            yield b"x" * 100
        yield b'", "cents": 1}'

    async with client(tmp_path, body_bytes_max=1_000) as http:
        fits = {"order": "x" * 900, "cents": 1}
        assert (await http.post("/orders", json=fits)).json() == fits
        told = error_of(await http.post("/orders", json={"order": "x" * 2_000, "cents": 1}), 413, "too_large")
        assert "1,000 bytes. Nothing was written" in told["message"]
        error_of(await http.post("/orders", content=pieces()), 413, "too_large")
        error_of(await http.post("/health", content=b"x" * 2_000), 413, "too_large")


async def test_a_file_that_is_imported_has_a_limit_of_its_own(tmp_path: Path) -> None:
    async with client(tmp_path, body_bytes_max=1_000) as http:
        error_of(await http.post(IMPORT_PATH, content=b"x" * 2_000), 404, "not_found")  # no such route here, but read
        more = {"content-length": str(IMPORT_BYTES_MAX + 1)}
        told = error_of(await http.post(IMPORT_PATH, content=b"x", headers=more), 413, "too_large")
        assert "--direct" in told["message"]
        error_of(await http.put(IMPORT_PATH, content=b"x" * 2_000), 413, "too_large")


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"{", "body", "not valid JSON"),
        (b"", "body", ""),
        (b"[]", "body", ""),
        (b'{"order": "42"}', "cents", "Field required"),
        (b'{"order": "42", "cents": "many"}', "cents", "valid integer"),
        (b'{"order": "42", "cents": 1e999}', "", ""),
        (b"\xff\xfe", "", ""),
        (b"[" * 100_000, "", ""),
        (b'{"order": "\\ud800", "cents": 1}', "", ""),
    ],
)
async def test_bad_bodies_are_400_never_500(body: bytes, param: str, says: str, tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        answer = await http.post("/orders", content=body, headers={"content-type": "application/json"})
        error = error_of(answer, 400, "invalid_input")
        assert says in error["message"]
        assert param in (error["param"], "")


async def test_a_body_that_is_not_said_to_be_json_is_told_the_header(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = await http.post("/orders", content=b'{"order": "42", "cents": 1}', headers=form)
        assert "`content-type: application/json`" in error_of(answer, 400, "invalid_input")["message"]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("missing", 404, "not_found"),
        ("taken", 409, "conflict"),
        ("away", 503, "store_unavailable"),
        ("full", 507, "store_full"),
        ("broke", 402, "budget_exceeded"),
        ("bug", 500, "internal_error"),
    ],
)
async def test_errors_have_one_shape_and_the_right_status(name: str, status: int, code: str, tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        answer = await http.get(f"/errors/{name}")
        error_of(answer, status, code)
        assert ("retry-after" in answer.headers) == (status == 503)
        assert "secret" not in answer.text


async def test_paths_and_methods_that_are_not_there(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        assert "/docs" in error_of(await http.get("/nothing"), 404, "not_found")["message"]
        answer = await http.delete("/health")
        error_of(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD"


async def test_a_request_keeps_its_own_id_when_it_is_one(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        assert (await http.get("/health", headers={"x-request-id": "mine-1"})).headers["x-request-id"] == "mine-1"
        for bad in ("", "a b", "x" * 200, "a\tb", "<script>"):
            given = (await http.get("/health", headers={"x-request-id": bad})).headers["x-request-id"]
            assert re.fullmatch(r"req_[0-9a-f]+", given)
        assert (await http.get("/health")).headers["x-content-type-options"] == "nosniff"
