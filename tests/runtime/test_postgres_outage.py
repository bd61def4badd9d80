"""A PostgreSQL server that is killed in mid-turn and comes back: the turn completes, and nothing happens twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from tests.runtime.shop import Shop, call, kinds, script, until

from remanence import Remanence
from remanence.app import Options, Session
from remanence.commands.transfer import verify_session
from remanence.errors import StoreError, StoreUnavailable
from remanence.events import InputReceived
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest
from remanence.runtime.services import Times
from remanence.testing.postgres import OwnServer, own_server, postgres_database

TIMES = Times(lease_s=30.0, linger_s=0.05, poll_s=0.05, retry_base_s=0.02, retry_cap_s=0.2, drain_s=2.0)


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server(under=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as server:
        yield server


@pytest.fixture
def url(server: OwnServer) -> Iterator[str]:
    with postgres_database(server.url) as url:
        yield url


def runtime(url: str, shop: Shop, times: Times = TIMES, model: Scripted | None = None) -> Remanence:
    return Remanence(url, agents=[shop.agent()], options=Options(model=model or Scripted(script), times=times))


async def killed(server: OwnServer) -> None:
    await asyncio.to_thread(server.kill)


async def started(server: OwnServer) -> None:
    await asyncio.to_thread(server.start)


async def settled(session: Session, turns: int) -> None:
    """Wait until so many turns are over, whatever becomes of the server meanwhile."""
    async with asyncio.timeout(60):
        while True:
            try:
                state = await session.state()
                if state.turns >= turns and state.turn is None:
                    return
            except StoreError:
                pass  # it is away; it is asked again
            await asyncio.sleep(0.05)


async def test_killed_while_a_tool_runs(server: OwnServer, url: str) -> None:
    """The outcome comes while there is nobody to write it down; it is kept until there is."""
    shop = Shop()
    async with runtime(url, shop) as rt:
        session = await rt.open("shop")
        await session.submit(call("hold", n=1))
        await shop.entered.wait()
        await killed(server)
        shop.gate.set()
        with pytest.raises(StoreUnavailable, match="kept"):
            await session.submit("are you there?", key="k1")
        await started(server)
        await settled(session, 1)
        assert (await session.submit("are you there?", key="k1")).head
        await settled(session, 2)
        found = await kinds(session)
        assert (shop.calls["hold"], found.count("ToolStarted"), found.count("ToolReturned")) == (1, 1, 1)
        assert "ToolLost" not in found
        inputs = [r.event for r in await session.history() if isinstance(r.event, InputReceived)]
        assert len(inputs) == 2
        assert (await verify_session(rt.caller, session.id)).intact


async def test_killed_while_the_model_thinks(server: OwnServer, url: str) -> None:
    shop, asked, answer = Shop(), asyncio.Event(), asyncio.Event()
    calls: list[str] = []

    class Slow(Scripted):
        async def reply(self, request: ModelRequest, on_delta: object) -> ModelReply:  # pyright: ignore[reportIncompatibleMethodOverride]
            calls.append(request.effect_key)
            asked.set()
            await answer.wait()
            return await super().reply(request, None)

    async with runtime(url, shop, model=Slow(script)) as rt:
        session = await rt.open("shop")
        await session.submit(call("refund", order="42", cents=900))
        await asked.wait()
        await killed(server)
        answer.set()
        await started(server)
        await settled(session, 1)
        assert (shop.calls["refund"], len(calls), len(set(calls))) == (1, 2, 2)
        assert "ModelFailed" not in await kinds(session)


async def test_killed_for_longer_than_the_lease(server: OwnServer, url: str) -> None:
    """Nobody could take the session over either: the worker that held it goes on with it."""
    shop = Shop()
    times = Times(lease_s=1.0, linger_s=0.05, poll_s=0.05, retry_base_s=0.02, retry_cap_s=0.2, drain_s=2.0)
    async with runtime(url, shop, times) as rt:
        session = await rt.open("shop")
        await session.submit(call("hold", n=1) + "\n" + call("refund", order="42", cents=1))
        await shop.entered.wait()
        await killed(server)
        await asyncio.sleep(1.5)
        shop.gate.set()
        await started(server)
        await settled(session, 1)
        found = await kinds(session)
        assert (shop.calls["hold"], shop.calls["refund"]) == (1, 1)
        assert (found.count("ToolStarted"), found.count("ToolLost")) == (2, 0)
        assert (await verify_session(rt.caller, session.id)).intact


@pytest.mark.parametrize("round_", range(6))
async def test_killed_at_any_moment_of_many_turns(round_: int, server: OwnServer, url: str) -> None:
    """Eight sessions at work; the kill hits wherever it hits. Every effect once, every input answered, chains whole."""
    shop = Shop()
    async with runtime(url, shop) as rt:
        sessions = [await rt.open("shop") for _ in range(8)]
        for number, session in enumerate(sessions):
            await session.submit(call("refund", order=str(number), cents=number))
        await asyncio.sleep(0.001 + 0.005 * round_)
        await killed(server)
        await started(server)
        for session in sessions:
            await settled(session, 1)
            await until(session, lambda state: state.turn is None)
        assert sorted(shop.keys) == sorted(set(shop.keys))
        assert shop.calls["refund"] == 8
        for session in sessions:
            found = await kinds(session)
            assert (found.count("ToolStarted"), found.count("ToolLost"), found.count("TurnEnded")) == (1, 0, 1)
            assert (await verify_session(rt.caller, session.id)).intact
