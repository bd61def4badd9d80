"""Ids that no address can name are refused where sessions are made; those that older releases took are found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from agents_client import follow, message, opened, said_in, send
from wire_server import KEY, WireServer, serve

from remanence.commands import forks, sessions
from remanence.commands.caller import state_of
from remanence.commands.sessions import Opening
from remanence.commands.transfer import export_session, import_session
from remanence.console.entry import Doors
from remanence.console.router import ROOMS, open_console
from remanence.errors import InvalidInput
from remanence.events import SessionOpened
from remanence.ports import Write

OLD = "desk/7/ann"
NEVER = ("a/b", "/", ".", "..", "a.json")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("ids") / "a.db", extra=ROOMS) as running:
        open_console(running.app, Doors())
        yield running


async def _laid_down(rt: Any, session: str, like: str) -> None:
    """As an older release would have opened it."""
    (first,) = await rt.database.store.read(like, limit=1)
    assert isinstance(first.event, SessionOpened)
    await rt.database.store.append(Write(session, (first.event,), rt.caller.clock.now(), "local", expect=0))


@pytest.fixture(scope="module")
def old(server: WireServer) -> str:
    with server.client() as client:
        like = opened(client)
    server.do(lambda rt: _laid_down(rt, OLD, like.id))
    return OLD


@pytest.mark.parametrize("name", NEVER)
def test_no_new_one(server: WireServer, name: str, tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with server.client() as client:
        source = opened(client, "Hello")
        follow(client, source.id, "idle")
    spec = server.do(lambda rt: _spec(rt, source.id))
    server.do(lambda rt: export_session(rt.caller, source.id, tmp_path / "s.zip"))
    for attempt in (
        lambda rt: sessions.open_session(rt.caller, spec, Opening(session=name)),
        lambda rt: forks.fork(rt.caller, source.id, opening=Opening(session=name)),
        lambda rt: import_session(rt.caller, tmp_path / "s.zip", as_session=name),
    ):
        with pytest.raises(InvalidInput, match="cannot stand in an address") as refused:
            server.do(attempt)
        assert refused.value.param == "session"
    url = f"{server.url}/admin/v1/sessions"
    over_http = [
        httpx2.post(url, json={"agent": spec.name, "session": name}, headers=headers),
        httpx2.post(
            f"{url}/import", params={"as_session": name}, content=(tmp_path / "s.zip").read_bytes(), headers=headers
        ),
    ]
    for answer in over_http:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "session"), answer.text
        assert "Nothing was written" in answer.json()["error"]["message"]


async def _spec(rt: Any, session: str) -> Any:
    return await rt.database.specs.get((await state_of(rt.caller, session)).version)


def test_an_old_one_goes_on(server: WireServer, old: str) -> None:
    with server.client() as client:
        assert client.beta.agents.sessions.retrieve(old).id == old
        send(client, old, message("Hello"))
        follow(client, old, "idle")
        assert len(said_in(client, old)) == 1
        (turn,) = client.beta.agents.sessions.turns.list(old)
        assert client.beta.agents.sessions.turns.retrieve(turn.id, session_id=old).id == turn.id
    headers = {"authorization": f"Bearer {KEY}"}
    there = f"{server.url}/admin/v1/sessions/desk%2F7%2fann"
    assert httpx2.get(there, headers=headers).json()["session"] == old
    assert httpx2.get(f"{there}/records", headers=headers).status_code == 200
    key = httpx2.post(f"{server.url}/admin/v1/keys", json={"name": "me", "scopes": ["admin"]}, headers=headers).json()
    with httpx2.Client(base_url=server.url) as browser:
        browser.post("/sign-in", content=f"key={key['text']}")
        assert old in browser.get("/sessions/desk%2F7%2Fann").text
        assert browser.get("/sessions/desk%2F7%2Fann.json").status_code == 200
    assert httpx2.get(f"{server.url}/admin/v1/sessions/{old}", headers=headers).status_code == 404, "plain, it parts"


def test_a_turn_has_one_id(server: WireServer) -> None:
    """Other ways to write its number name nothing."""
    with server.client() as client:
        session = opened(client, "Hello")
        follow(client, session.id, "idle")
        turns = client.beta.agents.sessions.turns
        (turn,) = turns.list(session.id).data
        assert turns.retrieve(turn.id, session_id=session.id).id == turn.id
        for number in ("01", "\u0661", "1 ", "+1", "1_0"):
            name = turn.id.removesuffix("1") + number
            with pytest.raises(openai.NotFoundError):
                turns.retrieve(name, session_id=session.id)
            with pytest.raises(openai.BadRequestError):
                turns.list(session.id, after=name)


def test_an_id_nobody_has_is_not_there_however_long(server: WireServer) -> None:
    """On every route that takes one: what is said of a short one is said of a long one too."""
    headers = {"authorization": f"Bearer {KEY}"}
    asked: list[str] = []
    with httpx2.Client(base_url=server.url, headers=headers, timeout=60) as client:
        routes = client.get("/openapi.json").json()["paths"]
        for path, methods in routes.items():
            for method in [one for one in methods if "{" in path and one in ("get", "post", "delete", "put", "patch")]:
                said = [_said_of(client, method, path, name) for name in ("nobody", "n" * 201, "n" * 5_000)]
                assert said[0] == said[1] == said[2], (method, path, said)
                asked += [f"{method} {path}"] if said[0][0] == 404 else []
    assert len(asked) > 60, asked


def _said_of(client: httpx2.Client, method: str, path: str, name: str) -> tuple[int, str, str]:
    answer = client.request(method, re.sub(r"{\w+}", name, path), json={} if method != "get" else None)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]
