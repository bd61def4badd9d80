"""A small shop for runtime tests: tools that count their effects, and a model that follows the last user message."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from remanence import Agent, Remanence, tool
from remanence.app import Options, Session
from remanence.content import Text, ToolCall, Usage
from remanence.core import state as core
from remanence.errors import EffectInDoubt
from remanence.events import Recorded, kind_of
from remanence.models.scripted import Scripted, last_result, last_user_text, step_of
from remanence.ports import ModelReply, ModelRequest
from remanence.runtime.services import Times
from remanence.tools import ask_human, client_tool, sleep_until

FAST = Times(lease_s=4.0, linger_s=0.05, poll_s=0.02, retry_base_s=0.01, retry_cap_s=0.05, drain_s=2.0)


class Shop:
    """What happened outside, and gates that hold a tool until the test opens them."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.keys: list[str] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    def agent(self, **changes: object) -> Agent:
        """The agent of these tests."""
        shop = self

        @tool(replay="safe")
        async def look(n: int) -> str:
            """Look something up."""
            shop.calls["look"] += 1
            return f"looked {n}"

        @tool(replay="never", approval="cents > 5000")
        async def refund(order: str, cents: int, *, effect_key: str) -> str:
            """Refund an order."""
            shop.calls["refund"] += 1
            shop.keys.append(effect_key)
            return f"refunded {cents} for {order}"

        @tool(replay="never")
        async def hold(n: int) -> str:
            """Wait for the gate."""
            shop.calls["hold"] += 1
            shop.entered.set()
            await shop.gate.wait()
            return f"held {n}"

        @tool(replay="safe")
        async def dawdle(n: int) -> str:
            """Wait for the gate; may be stopped."""
            shop.entered.set()
            await shop.gate.wait()
            return f"dawdled {n}"

        @tool(replay="never")
        async def unsure(n: int) -> str:
            """Cannot know whether it happened."""
            shop.calls["unsure"] += 1
            raise EffectInDoubt("the line went dead")

        @tool(replay="safe")
        async def bulky(n: int) -> str:
            """Return very much."""
            return "x" * n

        shown = client_tool(
            "show", {"type": "object", "properties": {"n": {"type": "integer"}}}, "Shown by the client."
        )
        tools = [look, refund, hold, dawdle, unsure, bulky, shown, ask_human, sleep_until]
        return Agent("shop", model="scripted", instructions="Help.", tools=tools, **changes)  # pyright: ignore[reportArgumentType]


def script(request: ModelRequest) -> ModelReply:
    """`tool {json}` lines of the last user message are its calls; then says what came of the last one."""
    said = last_user_text(request)
    if step_of(request) == 0 and "{" in said:
        lines = [line.partition(" ") for line in said.splitlines() if "{" in line]
        calls = tuple(ToolCall("", name, arguments) for name, _, arguments in lines)
        return ModelReply(calls, Usage(100, 20))
    if said.startswith("again "):
        name, _, arguments = said.removeprefix("again ").partition(" ")
        return ModelReply((ToolCall("", name, arguments),), Usage(100, 20))
    return ModelReply((Text(f"{said.splitlines()[0]} -> {last_result(request)}"),), Usage(100, 20))


def call(name: str, **arguments: object) -> str:
    """A user message that makes the model call a tool."""
    return f"{name} {json.dumps(arguments)}"


def runtime(folder: Path, model: Scripted | None = None, *agents: Agent) -> Remanence:
    """A runtime on a file in this folder."""
    options = Options(model=model or Scripted(script), times=FAST)
    return Remanence(f"sqlite:///{folder}/shop.db", agents=agents, options=options)


async def until(session: Session, holds: Callable[[core.Session], object]) -> core.Session:
    """Follow the session until its state holds something; the test's time-out bounds it."""
    state = await session.state()
    if holds(state):
        return state
    async for item in session.events(after=state.head):
        if isinstance(item, Recorded):
            state = await session.state()
            if holds(state):
                return state
    raise AssertionError("the stream ended")


async def kinds(session: Session) -> list[str]:
    """The kinds of the session's events, in order."""
    return [kind_of(record.event) for record in await session.history()]
