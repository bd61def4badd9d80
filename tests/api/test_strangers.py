"""What belongs to another project is answered as if it did not exist: byte for byte, over every route of every face.

One project has a session that is at rest, one that waits, an agent, a response, a conversation, a note. Somebody of
another project asks for each over every route that takes such an id, and for ids that nobody has. But for the id the
two answers are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from agents_client import LOOK, follow, opened
from fastapi.routing import APIRoute
from wire_server import KEY, OTHER, WireServer, serve

from remanence import Remanence
from remanence.console.entry import Doors
from remanence.console.router import ROOMS, open_console
from remanence.content import digest_of
from remanence.core.memory.journal import journal_of
from remanence.spec import AgentSpec
from remanence.testing.scripted import Script, call, calls, dialogue, says

SCRIPT = Script((dialogue("look", calls(call("look")), says("Seen.")), dialogue("", says("Hello, $user."))))
OF_A_REQUEST = re.compile(
    rb'req_[A-Za-z0-9_]+|"(recorded_|opened_|updated_)?at":[0-9]+|"(memory|id)":"[a-z]+_[0-9a-f]+"|"position":[0-9]+'
)
BODIES: dict[str, Any] = {
    "POST /v1/agents/sessions/{session_id}": {"metadata": {"a": "b"}},
    "POST /v1/agents/sessions/{session_id}/events": {"events": [{"type": "agent.session.input.cancel"}]},
    "POST /v1/agents/{agent_id}": {"instructions": "Obey."},
    "POST /v1/conversations/{conversation_id}": {"metadata": {}},
    "POST /v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "x"}]},
    "POST /admin/v1/sessions/{session}/send": {"text": "x"},
    "POST /admin/v1/sessions/{session}/cancel": {},
    "POST /admin/v1/sessions/{session}/fork": {},
    "POST /admin/v1/sessions/{session}/freeze": {},
    "POST /admin/v1/sessions/{session}/thaw": {},
    "POST /admin/v1/approvals/{session}/{call}": {"decision": "approve"},
    "POST /admin/v1/questions/{session}/{call}": {"text": "x"},
    "POST /admin/v1/doubts/{session}/{call}": {"outcome": "give_up"},
}
"""What a route needs besides its path to come as far as looking for the thing."""


class House:
    """A server with things of one project, and who asks for them."""

    def __init__(self, server: WireServer) -> None:
        self.server = server
        client = server.client()
        rest = opened(client, "Hello")
        follow(client, rest.id, "idle")
        waits = opened(client, "look")
        (action,) = follow(client, waits.id, "requires_action")[-1].session.required_actions
        talk = client.conversations.create(items=[{"role": "user", "content": "Hi"}])
        made = client.responses.create(model="scripted", input="Hi", conversation=talk.id)
        kept = client.responses.create(model="scripted", input="Hi")
        agent = client.beta.agents.create(model="scripted", tools=[LOOK])
        note = {"text": "Ann is left-handed", "scope": "project"}
        memory = self.ask(KEY, "POST", "/admin/v1/memory/memories", note).json()["memory"]
        answer = self.ask(KEY, "POST", "/admin/v1/keys", {"name": "ours", "scopes": ["read"]})
        key = answer.json()["key"]
        gone = self.ask(KEY, "POST", "/admin/v1/memory/memories", {**note, "text": "Bob is tall"}).json()["memory"]
        erased = {"what": "memory", "name": gone, "reason": "asked"}
        receipt = self.ask(KEY, "POST", "/admin/v1/memory/erasures", erased).json()
        first: Any = server.do(lambda rt: rt.database.store.read(rest.id, limit=1))[0].event
        self.values: dict[str, list[str]] = {
            "session_id": [rest.id, waits.id],
            "agent_id": [agent.id],
            "response_id": [made.id, kept.id],
            "conversation_id": [talk.id],
            "item_id": [client.conversations.items.list(talk.id).data[0].id],
            "turn_id": [f"turn_{rest.id.removeprefix('sess_')}_1"],
            "subagent_id": ["sub_1"],
            "artifact_id": ["art_1"],
            "call": [action.call_id],
            "memory": [memory],
            "key": [key["id"]],
            "model": [agent.id],
            "erasure_id": [receipt["order"]["id"]],
            "digest": [first.version],
        }
        self.values |= {"session": self.values["session_id"], "agent": self.values["agent_id"]}

    def ask(self, key: str, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        sent = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
        content = b"" if body is None else msgspec.json.encode(body)
        return httpx2.request(method, f"{self.server.url}{path}", headers=sent, content=content, timeout=60)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with serve(tmp_path_factory.mktemp("strangers") / "a.db", SCRIPT, extra=ROOMS) as server:
        open_console(server.app, Doors())
        yield House(server)


def unknown(name: str) -> str:
    """An id of the same form that nothing has: its letters and digits say something else."""
    head, _, tail = name.partition("_")
    turned = tail.translate(str.maketrans("0123456789abcdef", "1234567890bcdefa")) if tail else ""
    return f"{head}_{turned}" if tail else head.translate(str.maketrans("0123456789abcdef", "1234567890bcdefa"))


def said(answer: httpx2.Response, *names: str) -> tuple[int, bytes]:
    """An answer without the ids that were asked for."""
    body = OF_A_REQUEST.sub(b"", answer.content)
    for name in sorted(names, key=len, reverse=True):
        body = body.replace(name.encode(), b"?")
    return answer.status_code, body


def routes(house: House) -> list[tuple[str, str]]:
    document = house.ask(KEY, "GET", "/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, operations in document.items() for method in operations if "{" in path]
    about = [(method, path) for method, path in found if set(re.findall(r"\{(\w+)\}", path)) <= house.values.keys()]
    beside = {path for _, path in found} - {path for _, path in about}
    others = ("vault", "automation", "environment", "template", "scope")
    assert all(any(f"{{{word}" in path for word in others) for path in beside), beside
    return about


def alike(house: House, method: str, path: str, body: Any, ids: tuple[str, ...], **headers: str) -> tuple[int, bytes]:
    """Ask for something of another project, and for something that is not: the answers; they must be one."""
    nobodys = [unknown(name) for name in ids]

    def instead(text: str) -> str:
        for name, other in sorted(zip(ids, nobodys, strict=True), key=lambda pair: -len(pair[0])):
            text = text.replace(name, other)
        return text

    there = house.ask(OTHER, method, path, body, **headers)
    nowhere_body = None if body is None else msgspec.json.decode(instead(msgspec.json.encode(body).decode()))
    nowhere = house.ask(OTHER, method, instead(path), nowhere_body, **{k: instead(v) for k, v in headers.items()})
    ours, theirs = said(there, *ids, *tails(ids)), said(nowhere, *nobodys, *tails(tuple(nobodys)))
    assert ours == theirs, (method, path)
    assert there.headers.keys() == nowhere.headers.keys()
    return ours


def tails(ids: tuple[str, ...]) -> list[str]:
    return [name.partition("_")[2] or name for name in ids]


def test_over_every_route(house: House) -> None:
    for method, path in routes(house):
        names = re.findall(r"\{(\w+)\}", path)
        for number in range(max(len(house.values[name]) for name in names)):
            ids = tuple(house.values[name][number % len(house.values[name])] for name in names)
            filled = path
            for name, value in zip(names, ids, strict=True):
                filled = filled.replace(f"{{{name}}}", value)
            status, _ = alike(house, method, filled, BODIES.get(f"{method} {path}"), ids)
            missing = method == "POST" and path.endswith("/verify")
            assert status == 404 or missing or "/agents/{agent}/" in path, (method, path, status)


def test_named_in_a_body_or_beside_the_path(house: House) -> None:
    one = {name: values[0] for name, values in house.values.items()}
    session, answered = one["session"], {"model": "scripted", "input": "x"}
    inline = {"environment": {"type": "none"}, "input": "x"}
    chat = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
    for method, path, body, ids in (
        ("POST", "/v1/agents/sessions", {**inline, "agent_id": one["agent"]}, "agent"),
        ("GET", f"/v1/agents/sessions?after={session}", None, "session"),
        ("GET", f"/v1/agents/sessions?agent_id={one['agent']}", None, "agent"),
        ("GET", f"/v1/agents?after={one['agent']}", None, "agent"),
        ("POST", "/v1/responses", {**answered, "previous_response_id": one["response_id"]}, "response_id"),
        ("POST", "/v1/responses", {**answered, "conversation": one["conversation_id"]}, "conversation_id"),
        ("POST", "/v1/responses", {**answered, "model": one["agent"]}, "agent"),
        ("POST", "/v1/responses/input_tokens", {**answered, "previous_response_id": one["response_id"]}, "response_id"),
        ("POST", "/v1/responses/input_tokens", {**answered, "conversation": one["conversation_id"]}, "conversation_id"),
        ("POST", "/v1/responses/compact", {**answered, "previous_response_id": one["response_id"]}, "response_id"),
        ("GET", f"/admin/v1/approvals?session={session}", None, "session"),
        ("GET", f"/admin/v1/doubts?session={session}", None, "session"),
        ("GET", f"/admin/v1/sessions?after={session}", None, "session"),
        ("GET", f"/admin/v1/sessions?fork_of={session}", None, "session"),
        ("POST", "/admin/v1/sessions", {"agent": one["agent"]}, "agent"),
        ("PUT", "/admin/v1/budgets", {"scope": f"session:{session}", "unit": "tokens", "limit": 5}, "session"),
        ("GET", f"/admin/v1/budgets?scope=session:{session}", None, "session"),
        ("PUT", "/admin/v1/memory/grants", {"to": f"session:{session}", "reads": ["project"]}, "session"),
        ("PUT", "/admin/v1/memory/attachments", {"agent": one["agent"], "access": "read"}, "agent"),
        ("POST", "/admin/v1/memory/memories", {"text": "x", "scope": f"session:{session}"}, "session"),
        ("POST", "/admin/v1/memory/erasures", {"what": "session", "name": session, "reason": "x"}, "session"),
        ("POST", "/admin/v1/memory/erasures", {"what": "memory", "name": one["memory"], "reason": "x"}, "memory"),
        ("PUT", "/admin/v1/memory/holds", {"scope": f"session:{session}", "reason": "x"}, "session"),
        ("GET", f"/admin/v1/memory/memory?id={one['memory']}", None, "memory"),
        ("GET", f"/admin/v1/memory/history?id={one['memory']}", None, "memory"),
        ("GET", f"/admin/v1/memory/source?id={one['memory']}", None, "memory"),
        ("PUT", f"/admin/v1/memory/memory?id={one['memory']}", {"text": "y"}, "memory"),
        ("DELETE", f"/admin/v1/memory/memory?id={one['memory']}", None, "memory"),
        ("GET", f"/admin/v1/versions?agent={one['agent']}", None, "agent"),
        ("POST", "/admin/v1/freezes", {"scope": f"session:{session}"}, "session"),
        ("DELETE", f"/admin/v1/freezes/session:{session}", None, "session"),
    ):
        alike(house, method, path, body, (one[ids],))
    alike(house, "POST", "/v1/chat/completions", chat, (session,), **{"x-session-id": session})


def test_an_id_that_is_chosen(house: House) -> None:
    """Each project has its own ids: whether another has such a session is not in the answer, and each has what it
    chose."""
    for project in ("default", "other"):
        house.server.do(lambda rt, project=project: _registered(rt, project))
    opens = "/admin/v1/sessions"
    ours = house.ask(KEY, "POST", opens, {"agent": "clerk", "session": "a42"})
    assert (ours.status_code, ours.json()["session"]) == (201, "a42"), ours.text
    assert alike(house, "POST", opens, {"agent": "clerk", "session": "a42"}, ("a42",))[0] == 201
    theirs = house.ask(OTHER, "POST", opens, {"agent": "clerk", "session": "a42"})
    assert theirs.status_code == 409
    assert "'other~a42'" in theirs.json()["error"]["message"]
    for name in ("a42", "other~a42"):
        found = {key: house.ask(key, "GET", f"{opens}/{name}").status_code for key in (KEY, OTHER)}
        assert found == ({KEY: 200, OTHER: 404} if name == "a42" else {KEY: 404, OTHER: 200})
    assert house.ask(OTHER, "POST", opens, {"agent": "clerk", "session": "other~a42"}).status_code == 409
    # The other way round, and what the server itself makes: for another project, for this one, for nobody.
    day = "20261122"
    meter, notes = f"meter_{digest_of(b'other')[:16]}_{day}", journal_of("other", "default")
    for key, taken in ((KEY, "other~a42"), (KEY, meter), (OTHER, notes), (OTHER, house.values["session"][0])):
        for name in (taken, unknown(taken)):
            refused = house.ask(key, "POST", opens, {"agent": "clerk", "session": name})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "session"), (name, refused.text)
            assert "cannot be chosen" in refused.json()["error"]["message"]


def test_an_id_that_is_chosen_for_an_import(house: House) -> None:
    for project in ("default", "other"):
        house.server.do(lambda rt, project=project: _registered(rt, project))
    made: dict[str, bytes] = {}
    for key in (KEY, OTHER):
        answer = house.ask(key, "POST", "/admin/v1/sessions", {"agent": "clerk", "session": "b42"})
        name = answer.json()["session"]
        made[key] = house.ask(key, "GET", f"/admin/v1/sessions/{name}/export").content
    sent = {"content-type": "application/zip"}

    def laid_down(key: str, name: str | None) -> tuple[int, str]:
        query = "" if name is None else f"?as_session={name}"
        headers = {"authorization": f"Bearer {key}", **sent}
        url = f"{house.server.url}/admin/v1/sessions/import{query}"
        answer = httpx2.post(url, content=made[key], headers=headers, timeout=60)
        return answer.status_code, answer.json().get("session", "")

    assert laid_down(KEY, "c42") == (201, "c42")
    assert laid_down(OTHER, "c42") == (201, "other~c42")
    assert laid_down(OTHER, "other~d42") == (201, "other~d42")
    assert laid_down(OTHER, None)[0] == 409, "under its own id it is there already"
    for key, name in ((KEY, "other~c42"), (KEY, "other~e42"), (OTHER, house.values["session"][0])):
        assert laid_down(key, name)[0] == 400


async def _registered(rt: Remanence, project: str) -> None:
    await rt.database.specs.put(AgentSpec("clerk", "scripted"), project=project, at=1)


def test_pages_of_the_console(house: House) -> None:
    rooms = [route for room in ROOMS for route in room.routes if isinstance(route, APIRoute)]
    about = [(method, route.path) for route in rooms if "{session}" in route.path for method in route.methods or ()]
    assert len(about) > 15
    with httpx2.Client(base_url=house.server.url, timeout=60) as browser:
        key = house.ask(OTHER, "POST", "/admin/v1/keys", {"name": "they", "scopes": ["api", "admin"]}).json()["text"]
        welcome = browser.post("/sign-in", content=f"key={key}", headers={"origin": house.server.url})
        assert welcome.status_code in (200, 204, 303), welcome.text
        assert browser.get("/sessions.json").status_code == 200, "somebody is signed in"
        for session in house.values["session"]:
            for method, path in about:
                call_id = house.values["call"][0]
                told: list[tuple[int, bytes]] = []
                for name in (session, unknown(session)):
                    filled = path.replace("{session}", name).replace("{call}", call_id).replace("{position}", "1")
                    sent = "text=x&if_busy=queue&decision=approve&outcome=give_up&reason=x&unit=tokens&amount=5&by=5"
                    headers = {"hx-request": "true", "accept": "text/html"}
                    answer = browser.request(method, filled, content=sent if method == "POST" else "", headers=headers)
                    told.append(said(answer, name, *tails((name,))))
                assert told[0] == told[1], (method, path)
                assert told[0][0] == 204 or told[0][0] >= 400, (method, path)  # 204: nothing to show


def test_what_is_ones_own_is_found(house: House) -> None:
    """The same requests with the right key: else the test above would prove nothing."""
    (first, *_), (agent,) = house.values["session"], house.values["agent"]
    for path in (f"/v1/agents/sessions/{first}", f"/admin/v1/sessions/{first}", f"/v1/agents/{agent}"):
        assert house.ask(KEY, "GET", path).status_code == 200
    for name, path in (("response_id", "/v1/responses"), ("conversation_id", "/v1/conversations")):
        assert house.ask(KEY, "GET", f"{path}/{house.values[name][0]}").status_code == 200
    for path in ("versions/{digest}", "memory/memory?id={memory}", "memory/erasures/{erasure_id}"):
        filled = path.format(**{name: values[0] for name, values in house.values.items()})
        assert house.ask(KEY, "GET", f"/admin/v1/{filled}").status_code == 200, path
