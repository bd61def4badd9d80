"""What lists say of a session that rests is what its journal says, whoever changed it last."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.runtime.shop import FAST, Shop, call, script, until

from remanence import Agent, Remanence
from remanence.app import Options, Session
from remanence.commands import approvals, sessions
from remanence.core.decide import Rest, decide
from remanence.core.state import status_of, waiting_on
from remanence.core.summary import summary_of
from remanence.errors import RemanenceError
from remanence.models.scripted import Scripted
from remanence.ports import SessionQuery
from remanence.spec import AskRule

SAID = ["hello", call("look", n=1), call("unsure", n=1), call("refund", order="42", cents=9000)]
ACTS = ["say", "say", "approve", "deny", "resolve", "cancel", "freeze", "thaw", "upgrade", "limit", "raise"]


async def row_says_what_the_journal_says(rt: Remanence, session: Session) -> None:
    """Wait until nothing follows from the state by itself, then compare."""
    while True:
        state = await session.state()
        spec = await rt.database.specs.get(state.version)
        row = await rt.database.views.session(session.id)
        resting = isinstance(decide(state, spec, now=rt.options.clock.now(), epoch=row.epoch), Rest)
        # What a person did makes a session due: until a worker has looked it is shown as queued, for a moment only.
        looked_at = row.summary.status == status_of(state) or row.summary.status != "queued"
        if resting and looked_at and status_of(state) != "in_progress" and row.head == state.head:
            said = summary_of(state, spec)
            if state.turn is not None:  # the totals follow at the end of the turn
                said = replace(said, tokens=row.summary.tokens, usd_micros=row.summary.usd_micros)
            assert row.summary == said
            return
        await asyncio.sleep(0)


async def act(rt: Remanence, session: Session, versions: list[Agent], dice: random.Random) -> None:
    state = await session.state()
    waits = state.turn.calls[0].call if state.turn and state.turn.calls else "call_0_0_0"
    match dice.choice(ACTS):
        case "say":
            await session.submit(dice.choice(SAID))
        case "approve":
            await session.approve(waits, by="grace")
        case "deny":
            await session.deny(waits, by="grace")
        case "resolve":
            doubt = state.doubts[0].call if state.doubts else waits
            await session.resolve(doubt, by="grace", outcome=dice.choice(("happened", "run_again", "give_up")))
        case "cancel":
            await session.cancel()
        case "freeze":
            await session.freeze(reason="a look")
        case "thaw":
            await session.thaw()
        case "upgrade":
            await session.upgrade(dice.choice(versions))
        case "limit":
            await rt.set_budget(f"session:{session.id}", tokens=dice.choice((1, 1_000_000)))
        case _:
            await rt.raise_budget(f"session:{session.id}", tokens=1_000_000)


async def any_acts(url: str, seed: int) -> None:
    versions = [Shop().agent(), Shop().agent(rules=[AskRule("refund", "cents > 10")])]
    options = Options(model=Scripted(script), times=FAST)
    async with Remanence(url, agents=versions[:1], options=options) as rt:
        dice = random.Random(seed)
        session = await rt.open("shop")
        for _ in range(30):
            try:
                await act(rt, session, versions, dice)
            except RemanenceError:
                continue
            await row_says_what_the_journal_says(rt, session)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_people_do_the_row_says_what_the_journal_says(tmp_path: Path, seed: int) -> None:
    await asyncio.wait_for(any_acts(f"sqlite:///{tmp_path}/shop.db", seed), 60)


async def test_whatever_people_do_the_row_says_what_the_journal_says_on_postgresql(postgres_database: str) -> None:
    await asyncio.wait_for(any_acts(postgres_database, 6), 60)


async def test_a_call_that_is_asked_about_again_is_listed_again(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/shop.db", options=Options(model=Scripted(script), times=FAST)) as rt:
        session = await rt.open(Shop().agent())
        await session.submit(call("refund", order="42", cents=9000))
        await until(session, lambda s: waiting_on(s) == "approval")
        await session.upgrade(Shop().agent(rules=[AskRule("refund", "cents > 10")]))
        await session.approve("call_1_1_1", by="grace")
        await until(session, lambda s: waiting_on(s) == "approval")
        await row_says_what_the_journal_says(rt, session)


async def test_a_session_that_rests_is_listed_as_frozen_in_doubt_and_removed_without_a_worker(tmp_path: Path) -> None:
    url, agent = f"sqlite:///{tmp_path}/shop.db", Shop().agent()
    options = Options(model=Scripted(script), times=FAST)
    async with Remanence(url, agents=[agent], options=options) as rt:
        session = (await rt.open(agent)).id
        await (await rt.get(session)).submit(call("unsure", n=1))
        await until(await rt.get(session), lambda s: s.doubts)
    async with Remanence(url, worker=False) as rt:
        caller = rt.caller

        async def listed(**fields: str) -> bool:
            return bool(await rt.database.views.sessions(SessionQuery(**fields)))  # pyright: ignore[reportArgumentType]

        await sessions.freeze(caller, session)
        assert await listed(status="frozen")
        assert [doubt.call for _, doubt in await approvals.doubts(caller)] == ["call_1_1_1"]
        await sessions.thaw(caller, session)
        assert await listed(waiting_on="doubt")
        await approvals.resolve(caller, session, "call_1_1_1", approvals.Resolution("give_up"))
        assert not await listed(waiting_on="doubt")
        await sessions.delete(caller, session)
        assert not await listed(without_status="deleted")
