"""A clock that jumps, forward and back, while turns run: nothing is lost, nothing silently happens twice, and the
journal verifies whatever its dates say."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from remanence import Agent, Remanence, tool
from remanence.app import Options, Session
from remanence.commands.transfer import verify_session
from remanence.content import Text, ToolCall
from remanence.core import state as core
from remanence.events import Recorded, TimerSet, kind_of
from remanence.models.scripted import Scripted, last_user_text, step_of
from remanence.ports import ModelReply, ModelRequest
from remanence.runtime.services import Times
from remanence.testing.clock import FakeClock
from remanence.tools import sleep_until

DAY_S = 86_400.0
JUMPS = {"forward": DAY_S, "a little forward": 45.0, "back": -2 * DAY_S, "a little back": -60.0}
TIMES = Times(poll_s=0.01, linger_s=1.0)


class Machine:
    """A machine whose clock the tools move while they run."""

    def __init__(self, jump_s: float) -> None:
        self.clock = FakeClock()
        self.jump_s = jump_s
        self.effects: Counter[str] = Counter()

    def jump(self, seconds: float) -> None:
        if seconds >= 0:
            self.clock.advance(seconds)
        else:
            self.clock.set_back(-seconds)

    def agent(self) -> Agent:
        async def work(effect_key: str) -> str:
            self.effects[effect_key] += 1
            self.jump(self.jump_s)
            # The worker gets to see its clock while the call runs.
            await asyncio.sleep(0.1)
            return "done"

        @tool(replay="never")
        async def once(*, effect_key: str) -> str:
            """May not run twice."""
            return await work(effect_key)

        @tool(replay="safe")
        async def again(*, effect_key: str) -> str:
            """May run twice."""
            return await work(effect_key)

        return Agent("shop", model="scripted", tools=[once, again, sleep_until])

    def runtime(self, folder: Path) -> Remanence:
        options = Options(clock=self.clock, times=TIMES, model=Scripted(calls_what_is_said))
        return Remanence(f"sqlite:///{folder}/a.db", agents=[self.agent()], options=options)

    async def until(self, session: Session, turns: int, *, pass_s: float = 1.0) -> core.Session:
        """Let time pass, a second at a time, until so many turns are over; a doubt is settled by a person."""
        async with asyncio.timeout(60):
            while True:
                state = await session.state()
                for doubt in state.doubts:
                    await session.resolve(doubt.call, by="ada", outcome="happened", result="it did")
                if state.turns >= turns and state.turn is None:
                    return state
                await asyncio.sleep(0.005)
                self.clock.advance(pass_s)


def calls_what_is_said(request: ModelRequest) -> ModelReply:
    name, _, arguments = last_user_text(request).partition(" ")
    if step_of(request) == 0 and name != "hello":
        return ModelReply((ToolCall("", name, arguments or "{}"),))
    return ModelReply((Text("well"),))


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("kind", ["once", "again"])
async def test_a_jump_while_a_tool_runs(jump: str, kind: str, tmp_path: Path) -> None:
    machine = Machine(JUMPS[jump])
    async with machine.runtime(tmp_path) as rt:
        session = await rt.open("shop")
        for turn in (1, 2, 3):
            await session.submit(kind)
            await machine.until(session, turn)
        await session.submit("hello")
        await machine.until(session, 4)
        found = [kind_of(record.event) for record in await session.history()]
        assert found.count("TurnEnded") == 4
        assert found.count("InputReceived") == 4
        # The worker that holds a session goes on holding it: its outcomes are known, whatever the clock says.
        assert "ToolLost" not in found
        if kind == "once":
            assert max(machine.effects.values()) == 1
            assert len(machine.effects) == 3
        assert (await verify_session(rt.caller, session.id)).intact


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_jump_between_two_workers(jump: str, tmp_path: Path) -> None:
    """The machine is restarted with another time: whoever comes next takes the session over and goes on."""
    machine = Machine(0)
    async with machine.runtime(tmp_path) as rt:
        session = await rt.open("shop")
        await session.submit("once")
        await machine.until(session, 1)
    machine.jump(JUMPS[jump])
    async with machine.runtime(tmp_path) as rt:
        session = await rt.get(session.id)
        await session.submit("once")
        state = await machine.until(session, 2)
        assert (state.last_turn, sum(machine.effects.values())) == ("completed", 2)
        assert (await verify_session(rt.caller, session.id)).intact


async def test_a_timer_fires_once_whatever_the_clock_does(tmp_path: Path) -> None:
    machine = Machine(0)
    async with machine.runtime(tmp_path) as rt:
        session = await rt.open("shop")
        await session.submit('sleep_until {"seconds": 3600}')
        async for item in session.events():
            if isinstance(item, Recorded) and isinstance(item.event, TimerSet):
                break
        machine.jump(-DAY_S)
        await asyncio.sleep(0.1)
        assert "TimerFired" not in await kinds(session)
        machine.jump(3 * DAY_S)
        await machine.until(session, 1)
        machine.jump(-3 * DAY_S)
        machine.jump(3 * DAY_S)
        await session.submit("hello")
        await machine.until(session, 2)
        assert (await kinds(session)).count("TimerFired") == 1
        assert (await verify_session(rt.caller, session.id)).intact


async def kinds(session: Session) -> list[str]:
    return [kind_of(record.event) for record in await session.history()]
