"""Erasing over `/admin/v1`: what the vendor's client said is gone from every answer and every byte."""

from __future__ import annotations

import pytest
from chat_server import OTHER
from msgspec.structs import replace
from openai import NotFoundError
from test_memory_over_http import world

from remanence.api.responses.kept import find, remember
from remanence.api.responses.request import Echo
from remanence.errors import NotFound

SAID = "The spare key lies under the Zanzibarquince pot."
RARE = "zanzibarquince"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return "sqlite:///:memory:" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


async def test_a_user_is_erased_and_it_is_proven(url: str) -> None:
    async with world(url) as w:
        first, answer = await w.say(SAID)
        assert RARE in first.lower()
        kept = await w.client.responses.create(
            model="support",
            input=SAID,
            metadata={"about": SAID},
            safety_identifier="ada",
            extra_headers={"idempotency-key": "once"},
        )
        order = {"what": "user", "name": "ada", "reason": "asked to"}
        await w.admin("PUT", "/holds", json={"scope": "user:ada", "reason": "case 12"})
        refused = await w.admin("POST", "/erasures", 409, json=order)
        assert "legal hold" in refused["error"]["message"]
        await w.admin("DELETE", "/holds", params={"scope": "user:ada"})
        receipt = await w.admin("POST", "/erasures", 201, json=order)

        checks = (await w.admin("POST", "/erasures/verify", json=receipt))["data"]
        assert {check["what"]: check["holds"] for check in checks} == dict.fromkeys(
            ("signature", "records", "memories", "files"), True
        ), checks
        for path in await w.server.rt.database.files():
            assert not path.exists() or RARE.encode() not in path.read_bytes().lower(), path.name
        assert RARE not in (await w.say("Where does the spare key lie?"))[0].lower()
        for one in (answer, kept.id):
            with pytest.raises(NotFoundError):
                await w.client.responses.retrieve(one)
        assert (await w.admin("GET", f"/erasures/{receipt['order']['id']}")) == receipt
        assert (await w.admin("GET", "/erasures"))["data"] == [receipt]
        await w.admin("GET", f"/erasures/{receipt['order']['id']}", 404, key=OTHER)
        await w.admin("POST", "/erasures/verify", 404, json=receipt, key=OTHER)
        await w.admin("POST", "/erasures", 404, json={**order, "name": "nobody"})
        await w.admin("POST", "/erasures", 400, json={**order, "what": "everything"})
        await w.admin("POST", "/erasures/verify", 400, json={"receipt": 1})
        await w.admin("PUT", "/holds", 400, json={"scope": "somebody", "reason": "x"})
        assert (await w.admin("GET", "/holds"))["data"] == []


async def test_what_was_said_in_a_conversation_is_the_users_who_said_it(url: str) -> None:
    async with world(url) as w:
        talk = await w.client.conversations.create(metadata={"about": SAID})
        said = await w.client.responses.create(
            model="support", input=SAID, safety_identifier="ada", conversation=talk.id
        )
        assert RARE in said.output_text.lower()
        await w.admin("POST", "/erasures", 201, json={"what": "user", "name": "ada", "reason": "asked to"})
        for path in await w.server.rt.database.files():
            assert not path.exists() or RARE.encode() not in path.read_bytes().lower(), path.name


async def test_a_response_is_not_kept_whose_input_is_erased_by_then(url: str) -> None:
    """Whoever journaled it keeps the response afterwards, and may be late."""
    async with world(url) as w:
        _, made = await w.say(SAID)
        caller = w.server.rt.caller
        kept = replace(await find(caller, made), echo=Echo("support", metadata={"about": SAID}))
        await w.admin("POST", "/erasures", 201, json={"what": "user", "name": "ada", "reason": "asked to"})
        await remember(caller, kept, None)
        with pytest.raises(NotFound):
            await find(caller, made)
        await w.server.rt.database.scrub()
        for path in await w.server.rt.database.files():
            assert not path.exists() or RARE.encode() not in path.read_bytes().lower(), path.name
