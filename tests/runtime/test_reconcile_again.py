"""A `reconcile` that failed is asked again: with growing pauses, so many times, while the session rests."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.runtime.shop import until

from remanence import Agent, Remanence, tool
from remanence.app import Options, Session
from remanence.content import Text, ToolCall
from remanence.core.state import status_of, waiting_on
from remanence.errors import EffectInDoubt
from remanence.events import ToolLost, ToolResolved, ToolStarted
from remanence.models.scripted import Scripted, last_result, step_of
from remanence.ports import ModelReply, ModelRequest, SessionRow
from remanence.runtime.reconciling import RECONCILES_MAX
from remanence.runtime.services import Times
from remanence.testing.clock import FakeClock

TIMES = Times(poll_s=0.01, linger_s=1.0)
CALL = "call_1_1_1"


class Bank:
    """A bank whose desk is closed for so many questions; then it answers."""

    def __init__(self, closed: int) -> None:
        self.clock = FakeClock()
        self.closed = closed
        self.sent = 0
        self.asked: list[int] = []

    def agent(self) -> Agent:
        def desk(effect_key: str) -> str:
            self.asked.append(self.clock.now())
            if len(self.asked) <= self.closed:
                raise ConnectionError("the desk is closed \ud800")
            return "it went out"

        @tool(replay="never", reconcile=desk)
        async def pay() -> str:
            """Send money over a line that breaks."""
            self.sent += 1
            raise EffectInDoubt("the line broke")

        return Agent("clerk", model="scripted", tools=[pay])

    def runtime(self, folder: Path) -> Remanence:
        options = Options(model=Scripted(script), clock=self.clock, times=TIMES)
        return Remanence(f"sqlite:///{folder}/bank.db", agents=[self.agent()], options=options)


def script(request: ModelRequest) -> ModelReply:
    if step_of(request) == 0:
        return ModelReply((ToolCall("", "pay", "{}"),))
    return ModelReply((Text(f"told: {last_result(request)}"),))


async def rested(rt: Remanence, bank: Bank, session: Session) -> SessionRow:
    """The row once nobody holds the session; the time a worker lingers passes, and not much more."""
    passed_s = 0.0
    while (row := await rt.database.views.session(session.id)).lease_until is not None:
        if passed_s < 2.0:
            bank.clock.advance(0.1)
            passed_s += 0.1
        await asyncio.sleep(0)
    return row


async def test_it_is_asked_again_later_while_the_session_rests(tmp_path: Path) -> None:
    bank = Bank(closed=2)
    async with bank.runtime(tmp_path) as rt:
        session = await rt.open("clerk")
        await session.submit("pay")
        s = await until(session, lambda s: s.doubts and s.doubts[0].asked == 1)
        (doubt,) = s.doubts
        assert (doubt.reason, status_of(s), waiting_on(s)) == ("the line broke", "waiting", "doubt")
        assert "the desk is closed" in doubt.failure
        assert doubt.retry_at is not None
        assert 3_750_000 <= doubt.retry_at - bank.asked[0] <= 6_250_000
        row = await rested(rt, bank, session)
        assert (row.wake_at, row.summary.status) == (doubt.retry_at, "waiting")
        assert len(bank.asked) == 1
        bank.clock.advance(6.3)
        s = await until(session, lambda s: s.doubts and s.doubts[0].asked == 2)
        assert s.doubts[0].retry_at is not None
        assert s.doubts[0].retry_at - bank.asked[1] >= 11_250_000
    # Another process goes on with it: what was asked is in the journal.
    async with bank.runtime(tmp_path) as rt:
        session = await rt.get(session.id)
        bank.clock.advance(19)
        await until(session, lambda s: s.turn is None)
        facts = [record.event for record in await session.history()]
        assert [(e.asked, bool(e.retry_at)) for e in facts if isinstance(e, ToolLost)] == [
            (0, False),
            (1, True),
            (2, True),
        ]
        assert [e.by for e in facts if isinstance(e, ToolResolved)] == ["reconcile"]
        assert sum(isinstance(e, ToolStarted) for e in facts) == bank.sent == 1
        assert len(bank.asked) == 3


async def test_a_person_may_settle_it_meanwhile(tmp_path: Path) -> None:
    bank = Bank(closed=9)
    async with bank.runtime(tmp_path) as rt:
        session = await rt.open("clerk")
        await session.submit("pay")
        await until(session, lambda s: s.doubts and s.doubts[0].asked == 1)
        await rested(rt, bank, session)
        await session.resolve(CALL, by="ada", outcome="happened", result="I called them")
        await until(session, lambda s: s.turn is None)
        bank.clock.advance(86_400)
        await session.submit("and now?")
        await until(session, lambda s: s.turns == 2 and s.doubts and s.doubts[0].asked == 1)
        assert len(bank.asked) == 2  # the second is about the effect of the second turn


async def test_it_is_given_up_after_so_many_failures(tmp_path: Path) -> None:
    bank = Bank(closed=1_000)
    async with bank.runtime(tmp_path) as rt:
        session = await rt.open("clerk")
        await session.submit("pay")
        for asked in range(1, RECONCILES_MAX + 1):
            s = await until(session, lambda s, asked=asked: s.doubts and s.doubts[0].asked == asked)
            assert (s.doubts[0].retry_at is None) == (asked == RECONCILES_MAX)
            row = await rested(rt, bank, session)
            assert row.wake_at == s.doubts[0].retry_at
            bank.clock.advance(8 * 3_600)
        assert row.wake_at is None
        assert len(bank.asked) == RECONCILES_MAX
    async with bank.runtime(tmp_path) as rt:
        session = await rt.get(session.id)
        await session.resolve(CALL, by="ada", outcome="give_up")
        await until(session, lambda s: s.turn is None)
        assert (len(bank.asked), bank.sent) == (RECONCILES_MAX, 1)


async def test_a_doubt_that_outlives_its_turn_is_asked_about_again(tmp_path: Path) -> None:
    bank = Bank(closed=2)
    async with bank.runtime(tmp_path) as rt:
        session = await rt.open("clerk")
        await session.submit("pay")
        await until(session, lambda s: s.doubts and s.doubts[0].asked == 1)
        await session.cancel()
        s = await until(session, lambda s: s.turn is None)
        assert s.doubts[0].asked == 1
        row = await rested(rt, bank, session)
        assert (row.wake_at, row.summary.status, row.summary.waiting_on) == (s.doubts[0].retry_at, "idle", "doubt")
        bank.clock.advance(7)
        await until(session, lambda s: s.doubts and s.doubts[0].asked == 2)
        bank.clock.advance(20)
        await until(session, lambda s: not s.doubts)
        assert (len(bank.asked), bank.sent) == (3, 1)
