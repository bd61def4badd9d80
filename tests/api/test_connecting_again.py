"""A client of server-sent events that connects again by itself: to the same address, with `Last-Event-ID`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from agents_client import follow, message, opened, send
from cutting import events_in
from wire_server import KEY, serve


def test_the_header_counts_where_the_address_says_a_place_too(tmp_path: Path) -> None:
    """The address is what it was when the client connected first; the header is what it has seen since."""
    with serve(tmp_path / "a.db") as server, server.client() as client:
        session = opened(client, "hi")
        ids = [event.event_id for event in follow(client, session.id, "idle")]
        response = client.responses.create(model="scripted", input="hi")
        numbers = [event.sequence_number for event in client.responses.retrieve(response.id, stream=True)]

        def first_after(path: str, seen: object) -> str:
            headers = {"authorization": f"Bearer {KEY}", "last-event-id": str(seen)}
            with httpx2.stream("GET", f"{server.url}/v1{path}", headers=headers, timeout=60) as answer:
                raw = b""
                for piece in answer.iter_bytes():
                    raw += piece
                    if events_in(raw):
                        return events_in(raw)[0][0]
            raise AssertionError(raw)

        for seen, following in pairwise(ids[2:]):
            path = f"/agents/sessions/{session.id}/events?starting_after={ids[1]}"
            assert first_after(path, seen) == following
        for seen, following in pairwise(numbers[2:]):
            path = f"/responses/{response.id}?stream=true&starting_after={numbers[1]}"
            assert first_after(path, seen) == str(following)


@pytest.mark.parametrize("how", ["last-event-id", "starting_after"])
def test_an_id_of_another_session_is_no_place_in_this_one(tmp_path: Path, how: str) -> None:
    """It was taken for the same place here. Ids that an older release gave do not say whose they are."""
    with serve(tmp_path / "a.db") as server, server.client() as client:
        mine, other = (opened(client, "hi").id for _ in range(2))
        ids = [event.event_id for event in follow(client, mine, "idle")]
        assert not {*ids} & {event.event_id for event in follow(client, other, "idle")}

        def asked(session: str, seen: str) -> tuple[int, str]:
            headers = {"authorization": f"Bearer {KEY}"} | ({how: seen} if how == "last-event-id" else {})
            query = {} if how == "last-event-id" else {how: seen}
            url = f"{server.url}/v1/agents/sessions/{session}/events"
            with httpx2.stream("GET", url, headers=headers, params=query, timeout=60) as answer:
                raw = b""
                for piece in answer.iter_bytes():
                    raw += piece
                    if answer.status_code != 200 or events_in(raw):
                        break
                return answer.status_code, raw.decode() if answer.status_code != 200 else events_in(raw)[0][0]

        for seen, following in pairwise(ids[1:]):
            assert asked(mine, seen) == (200, following)
            old = f"evt_{seen.rpartition('_')[2]}"
            assert asked(mine, old) == asked(mine, old.removeprefix("evt_")) == (200, following)
            status, words = asked(other, seen)
            assert (status, "an event of another session" in words) == (400, True), words


def test_what_is_wrong_with_a_place_names_where_it_stood(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db") as server, server.client() as client:
        url = f"{server.url}/v1/agents/sessions/{opened(client, 'hi').id}/events"
        for wrong in ("1000.0", "nonsense"):
            ways: list[tuple[str, dict[str, str], dict[str, str]]] = [
                ("last-event-id", {}, {"last-event-id": wrong}),
                ("starting_after", {"starting_after": wrong}, {}),
            ]
            for named, query, header in ways:
                said = httpx2.get(url, params=query, headers={"authorization": f"Bearer {KEY}", **header})
                assert (said.status_code, said.json()["error"]["param"]) == (400, named), said.text


AGENTS = {"agent": {"model": "scripted"}, "environment": {"type": "none"}, "input": "hi"}
RESPONSE = {"model": "scripted", "input": "hi"}
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("path", "body"), [("/agents/sessions", AGENTS), ("/responses", RESPONSE), ("/chat/completions", CHAT)]
)
def test_who_has_heard_part_of_nothing_is_told_so(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    """Only what was asked for under a key, and is a stream, can have been heard in part. Nothing is written."""
    with serve(tmp_path / "a.db") as server:
        ways: list[tuple[dict[str, Any], str | None]] = [({}, "k"), ({"stream": True}, None)]
        if path != "/agents/sessions":
            ways.append(({"stream": True, "store": False}, "k"))
        for more, key in ways:
            headers = {"authorization": f"Bearer {KEY}", "last-event-id": "1.1"}
            headers |= {"idempotency-key": key} if key else {}
            said = httpx2.post(f"{server.url}/v1{path}", json=body | more, headers=headers)
            assert said.status_code == 400, said.text
            assert said.json()["error"]["param"] in ("last-event-id", "idempotency-key"), said.text
        assert _sessions(tmp_path / "a.db") == 0


@pytest.mark.parametrize(("path", "body", "seen"), [("/agents/sessions", AGENTS, "2.1"), ("/responses", RESPONSE, "2")])
def test_a_key_nobody_used_has_nothing_to_go_on_with(
    tmp_path: Path, path: str, body: dict[str, Any], seen: str
) -> None:
    """Nothing is written then; the rest of what was written under it begins exactly after what was heard."""
    with serve(tmp_path / "a.db") as server:

        def asked(seen: str | None, **more: Any) -> httpx2.Response:
            headers = {"authorization": f"Bearer {KEY}", "idempotency-key": "mine"}
            headers |= {} if seen is None else {"last-event-id": seen}
            return httpx2.post(f"{server.url}/v1{path}", json={**body, "stream": True, **more}, headers=headers)

        refused = asked(seen)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "last-event-id"), refused.text
        assert _sessions(tmp_path / "a.db") == 0
        assert asked(None).status_code == 200
        names = [name for name, _ in events_in(asked(None).content)]
        assert len(names) > 3, names
        for i, seen in enumerate(names):
            assert [name for name, _ in events_in(asked(seen).content)] == names[i + 1 :]
        for wrong in ("1000.0", "nonsense", "-1", "9" * 400):
            refused = asked(wrong)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "last-event-id"), refused.text
        assert asked(names[0], input="other").status_code == 409
        assert _sessions(tmp_path / "a.db") == 1


def _sessions(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT count(*) FROM sessions").fetchone()[0]


def test_who_heard_more_than_the_opening_is_told_the_rest_until_it_rests(tmp_path: Path) -> None:
    """Somebody who has followed the session beyond the turn it was opened with. A session that rests says nothing."""
    with serve(tmp_path / "a.db") as server, server.client() as client:
        headers = {"idempotency-key": "mine"}
        told = list(opened(client, "hi", stream=True, extra_headers=headers))
        session = told[0].session.id
        send(client, session, message("again"))
        later = [event.event_id for event in follow(client, session, "idle", after=told[-1].event_id)]
        assert len(later) > 3
        with client.beta.agents.sessions.events.stream(session) as stands:
            later.append(next(iter(stands)).event_id)
        for i, seen in enumerate(later):
            heard = {**headers, "last-event-id": seen}
            stream = opened(client, "hi", stream=True, extra_headers=heard, timeout=20)
            assert [event.event_id for event in stream] == later[i + 1 : -1]
