"""What happens when everybody comes at once, and when the server ends while they wait."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from remanence import Remanence
from remanence.api.guard import Guard
from remanence.commands.keys import Keyring, create_key, revoke_key
from remanence.errors import Unauthenticated
from remanence.testing.clock import FakeClock


async def test_a_key_that_many_use_at_once_is_hashed_once() -> None:
    """After a restart all clients come back with the same key: that must not cost a hash for each."""
    async with Remanence("sqlite:///:memory:", worker=False) as rt:
        _, token = await create_key(rt.caller, "ada", scopes=("api",))
        before = time.process_time()
        await Keyring(rt.database.registry, rt.caller.clock).check(token)
        alone_s = time.process_time() - before
        keyring = Keyring(rt.database.registry, rt.caller.clock)
        before = time.process_time()
        checked = await asyncio.gather(*(keyring.check(token) for _ in range(100)))
        together_s = time.process_time() - before
    assert {principal.actor for principal in checked} == {"key:ada"}
    assert together_s < 20 * alone_s


async def test_a_key_revoked_elsewhere_works_for_five_seconds_and_no_longer() -> None:
    async with Remanence("sqlite:///:memory:", worker=False) as rt:
        key, token = await create_key(rt.caller, "ada", scopes=("api",))
        clock = FakeClock(rt.caller.clock.now())
        here = Keyring(rt.database.registry, clock)
        await here.check(token)
        await revoke_key(rt.caller, key.id)
        clock.advance(4.9)
        await here.check(token)
        clock.advance(0.1)
        with pytest.raises(Unauthenticated, match="revoked"):
            await here.check(token)


async def test_who_is_turned_away_at_the_end_is_told_so() -> None:
    """A request that the end of the server cuts off is answered in words, and may be sent again."""
    sent: list[Any] = []
    begun = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"localhost")]}
    request = asyncio.create_task(Guard(slow, make_id=lambda prefix: f"{prefix}_1")(scope, receive, send))
    await begun.wait()
    request.cancel()
    await request
    start, body = sent
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"1")
    error = msgspec.json.decode(body["body"])["error"]
    assert (error["code"], error["request_id"]) == ("stopping", "req_1")
