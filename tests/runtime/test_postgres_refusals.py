"""A PostgreSQL that refuses for a while, in mid-turn: what a worker knows is kept, and the turn completes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from tests.runtime.shop import Shop, call, script
from tests.runtime.test_postgres_outage import TIMES, settled

from remanence import Remanence
from remanence.app import Options
from remanence.commands.transfer import verify_session
from remanence.errors import StoreUnavailable
from remanence.models.scripted import Scripted
from remanence.testing.postgres import OwnServer, own_server, postgres_database

ANEW = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clerk'"
# How it is refused, and how it is allowed again. What a role is set to holds for its connections from then on; a server
# that reads its settings again tells nobody when each of its connections has.
WAYS = {
    "read only": (
        f"ALTER ROLE clerk SET default_transaction_read_only = on; {ANEW}",
        f"ALTER ROLE clerk RESET default_transaction_read_only; {ANEW}",
    ),
    "no rights": (
        "REVOKE ALL ON ALL TABLES IN SCHEMA remanence FROM clerk",
        "GRANT ALL ON ALL TABLES IN SCHEMA remanence TO clerk",
    ),
    "no login": (
        f"ALTER ROLE clerk NOLOGIN; {ANEW}",
        "ALTER ROLE clerk LOGIN",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server(under=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as server:
        yield server


@pytest.fixture
def url(server: OwnServer) -> Iterator[str]:
    with postgres_database(server.url) as url:
        yield url


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in (one for each in statements for one in each.split("; ")):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_in_mid_turn_loses_nothing(way: str, url: str) -> None:
    """A `never` tool has run and the database does not take the outcome: it is kept until it does."""
    name = urlsplit(url).path[1:]
    await run(url, "DROP ROLE IF EXISTS clerk", "CREATE ROLE clerk LOGIN")
    await run(url, f'GRANT CREATE ON DATABASE "{name}" TO clerk')
    theirs = urlunsplit(urlsplit(url)._replace(netloc=urlsplit(url).netloc.replace("postgres:", "clerk:")))
    shop = Shop()
    refuse, allow = WAYS[way]
    options = Options(model=Scripted(script), times=TIMES)
    async with Remanence(theirs, agents=[shop.agent()], options=options) as rt:
        session = await rt.open("shop")
        await session.submit(call("hold", n=1))
        await shop.entered.wait()
        await run(url, refuse)
        shop.gate.set()
        with pytest.raises(StoreUnavailable, match="What was acknowledged"):
            await session.submit("are you there?")
        await asyncio.sleep(0.5)
        await run(url, allow)
        await settled(session, 1)
        state = await session.state()
        assert (state.doubts, state.last_turn, shop.calls["hold"]) == ((), "completed", 1)
        assert (await verify_session(rt.caller, session.id)).intact
    await run(url, "REASSIGN OWNED BY clerk TO postgres; DROP OWNED BY clerk; DROP ROLE clerk")
