"""An `Idempotency-Key` on what people write into the memory and erase from it: once, however often it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from chat_server import KEY
from test_memory_over_http import World, world

from remanence.api.once import KIND
from remanence.commands.entries import entries_of
from remanence.commands.given import Key
from remanence.commands.memory import Writing, keep
from remanence.errors import KeyReused
from remanence.recollections import Place

RARE = "zanzibarquince"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return "sqlite:///:memory:" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


async def keyed(w: World, key: str, method: str, path: str, expected: int = 200, **options: Any) -> Any:
    headers = {"authorization": f"Bearer {KEY}", "idempotency-key": key}
    answer = await w.http.request(method, f"/admin/v1/memory{path}", headers=headers, **options)
    assert answer.status_code == expected, answer.text
    return answer.json()


async def test_what_people_write_is_written_once(url: str) -> None:
    async with world(url) as w:
        note = {"text": "The ladder stands in the shed.", "scope": "user:ada"}
        made = await keyed(w, "one", "POST", "/memories", 201, json=note)
        assert await keyed(w, "one", "POST", "/memories", 201, json=note) == made
        assert [one["memory"] for one in (await w.admin("GET", "/memories"))["data"]] == [made["memory"]]
        other = await keyed(w, "one", "POST", "/memories", 409, json={**note, "text": "It is gone."})
        assert other["error"]["code"] == "idempotency_key_reused"

        which, text = {"id": made["memory"]}, {"text": "The ladder is lent."}
        edited = await keyed(w, "two", "PUT", "/memory", params=which, json=text)
        assert await keyed(w, "two", "PUT", "/memory", params=which, json=text) == edited
        assert edited["version"] == 2
        undone = await keyed(w, "three", "POST", "/undo", params=which)
        assert await keyed(w, "three", "POST", "/undo", params=which) == undone
        assert undone["text"] == note["text"]
        forgotten = await keyed(w, "four", "DELETE", "/memory", params=which)
        assert await keyed(w, "four", "DELETE", "/memory", params=which) == forgotten
        assert len((await w.admin("GET", "/history", params=which))["data"]) == edited["version"] + 1


async def test_an_erasure_is_ordered_once(url: str) -> None:
    async with world(url) as w:
        await w.say(f"The key lies under the {RARE} pot behind the shed.")
        order = {"what": "user", "name": "ada", "reason": "asked to"}
        receipt = await keyed(w, "one", "POST", "/erasures", 201, json=order)
        assert await keyed(w, "one", "POST", "/erasures", 201, json=order) == receipt
        other = await keyed(w, "one", "POST", "/erasures", 409, json={**order, "name": "ben"})
        assert other["error"]["code"] == "idempotency_key_reused"
        assert (await w.admin("GET", "/erasures"))["data"] == [receipt]
        assert await keyed(w, "two", "POST", "/erasures", 404, json=order)
        await w.say("The shed is green.")
        again = await keyed(w, "two", "POST", "/erasures", 201, json=order)
        assert again["order"]["id"] != receipt["order"]["id"]

        await w.admin("PUT", "/holds", json={"scope": "user:ben", "reason": "case 12"})
        await w.say("The hedge is trimmed.", user="ben")
        refused = await keyed(w, "three", "POST", "/erasures", 409, json={**order, "name": "ben"})
        assert "legal hold" in refused["error"]["message"]
        await w.admin("DELETE", "/holds", params={"scope": "user:ben"})
        await keyed(w, "three", "POST", "/erasures", 201, json={**order, "name": "ben"})


async def test_a_memory_is_redacted_once(url: str) -> None:
    async with world(url) as w:
        made = await w.admin("POST", "/memories", 201, json={"text": f"The {RARE} pot.", "scope": "user:ada"})
        which = {"id": made["memory"], "reason": "asked to"}
        receipt = await keyed(w, "one", "POST", "/redact", 201, params=which)
        assert await keyed(w, "one", "POST", "/redact", 201, params=which) == receipt


async def test_what_was_written_under_a_key_is_not_kept_when_it_is_erased(url: str) -> None:
    async with world(url) as w:
        note = {"text": "The quince.", "scope": "user:ada"}
        made = await keyed(w, "one", "POST", "/memories", 201, json=note)
        other = await keyed(w, "two", "POST", "/memories", 201, json={**note, "text": "A hedge of the garden."})
        await w.admin("POST", "/erasures", 201, json={"what": "memory", "name": made["memory"], "reason": "asked to"})
        refused = await keyed(w, "one", "POST", "/memories", 409, json=note)
        assert "not kept" in refused["error"]["message"]
        assert await keyed(w, "two", "POST", "/memories", 201, json={**note, "text": other["text"]}) == other
        for path in await w.server.rt.database.files():
            assert not path.exists() or b"quince." not in path.read_bytes().lower(), path.name


async def test_a_note_is_written_once_even_if_its_first_server_died_before_it_answered(url: str) -> None:
    """What that leaves: the note in the journal, and no answer under the key."""
    async with world(url) as w:
        caller, writing = w.server.rt.caller, Writing("The ladder stands in the shed.", Place("default", "user:ada"))
        made = await keep(caller, writing, key=Key("memory:one", "a request"))
        assert await keep(caller, writing, key=Key("memory:one", "a request")) == made
        with pytest.raises(KeyReused):
            await keep(caller, writing, key=Key("memory:one", "another request"))
        note = {"text": "The hedge is trimmed.", "scope": "user:ada"}
        first = await keyed(w, "two", "POST", "/memories", 201, json=note)
        (answer,) = await entries_of(caller, KIND, project="default")
        await caller.database.registry.remove(KIND, answer.id)
        assert await keyed(w, "two", "POST", "/memories", 201, json=note) == first
        assert len((await w.admin("GET", "/memories"))["data"]) == 2
