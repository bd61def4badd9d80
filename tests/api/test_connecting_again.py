"""A client of server-sent events that connects again by itself: to the same address, with `Last-Event-ID`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import httpx2
from agents_client import follow, opened
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
