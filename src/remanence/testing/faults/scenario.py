"""The scenario of a fault run: one session that meets everything that can go wrong at once.

Five inputs, each a pure function of the request so that any worker goes on where another one died:

* `work`     a safe, a keyed and two `never` tools side by side (one can reconcile, one cannot; the safe one's result is
             over the limit and becomes a blob)
* `big`      a call that needs an approval; while it waits, the session is moved to a stricter policy
* `sleep`    a timer
* `spend`    a reply that runs into the session's token budget, which is raised
* `stop`     a turn with a keyed tool and a long sleep, which is cancelled

The person who answers is part of the scenario: approves what is asked, resolves doubts by looking at the world, raises
the budget, cancels once. What was acknowledged to the person is what must be found in the journal afterwards.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from remanence.commands import approvals, controls, sessions
from remanence.commands.caller import Caller, state_of
from remanence.content import Text, ToolCall, Usage
from remanence.core.state import Session
from remanence.errors import Conflict, NotFound
from remanence.models.scripted import last_user_text, step_of
from remanence.ports import ModelReply, ModelRequest, Tool, ToolCallContext, ToolOutcome
from remanence.spec import AgentSpec, AllowRule, AskRule, Limits, ToolSpec
from remanence.testing.faults.world import World

__all__ = ["INPUTS", "TOOLS", "Person", "WorldTool", "spec_of", "script"]

INPUTS = ("work", "big", "sleep", "spend", "stop")
BUDGET_TOKENS = 12_000
BUDGET_STEP = 12_000
_OUTPUT_TOKENS = 500
_RESULT_BYTES = 500
_SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

TOOLS = (
    ToolSpec("look", "Looks something up.", _SCHEMA, replay="safe"),
    ToolSpec("refund", "Refunds, by key.", _SCHEMA, replay="keyed"),
    ToolSpec("notify", "Sends a message; can be asked what became of it.", _SCHEMA, replay="never", reconciles=True),
    ToolSpec("courier", "Books a courier; nobody can tell afterwards.", _SCHEMA, replay="never"),
    ToolSpec("sleep_until", "Sleeps.", {"type": "object"}, kind="builtin", replay="safe"),
)


def spec_of(*, strict: bool = False) -> AgentSpec:
    """The agent; the strict version asks about more refunds."""
    asks = AskRule("refund", "n > 50" if strict else "n > 100")
    return AgentSpec(
        name="faults",
        model="scripted",
        tools=TOOLS,
        rules=(AllowRule("*"), asks),
        limits=Limits(
            output_tokens=_OUTPUT_TOKENS,
            session_tokens=BUDGET_TOKENS,
            window_tokens=2_000,
            tool_result_bytes=_RESULT_BYTES,
        ),
    )


def script(request: ModelRequest) -> ModelReply:
    """What the model says: a function of the last input and of how far its turn is."""
    said, step = last_user_text(request), step_of(request)
    if step:
        return ModelReply((Text(f"done: {said}"),), Usage(200, 20))
    match said:
        case "work":
            calls = tuple(ToolCall("", name, '{"n": 1}') for name in ("look", "refund", "notify", "courier"))
        case "big":
            calls = (ToolCall("", "refund", '{"n": 500}'),)
        case "sleep":
            calls = (ToolCall("", "sleep_until", '{"seconds": 0.4}'),)
        case "stop":
            calls = (ToolCall("", "refund", '{"n": 2}'), ToolCall("", "sleep_until", '{"seconds": 3600}'))
        case _:
            return ModelReply((Text("a long answer"),), Usage(200, _OUTPUT_TOKENS))
    return ModelReply(calls, Usage(200, 40))


class WorldTool:
    """A tool whose effect is a row in the world. `ports.Tool`."""

    def __init__(self, spec: ToolSpec, world: World) -> None:
        self.spec = spec
        self._world = world

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        self._world.arrive(call.name, context.effect_key, call.arguments)
        return ToolOutcome((Text(f"{call.name} done".ljust(2 * _RESULT_BYTES if call.name == "look" else 0)),))

    async def reconcile(self, effect_key: str) -> ToolOutcome | Literal["not_happened"] | None:
        if self.spec.name != "notify":
            return None
        return ToolOutcome((Text("it was sent"),)) if self._world.happened(effect_key) else "not_happened"


class Acknowledged(msgspec.Struct):
    """What the person was told is durable."""

    inputs: list[str] = []
    approvals: list[str] = []


class Person:
    """Talks to one session and answers what it asks, through the verbs, like any face."""

    def __init__(self, caller: Caller, session: str, world: World) -> None:
        self.caller = caller
        self.session = session
        self.world = world
        self.told = Acknowledged()
        self._cancelled = False
        self._upgraded = False

    async def step(self) -> bool:
        """Do the next thing, if there is one to do. False when everything was said and answered."""
        s = await state_of(self.caller, self.session)
        if await self._answer(s):
            return True
        if s.turn is not None or s.queue:
            return True
        if len(self.told.inputs) == len(INPUTS):
            return False
        await self._say()
        return True

    async def _say(self) -> None:
        """`spend` and `stop` are said together: two messages at once, both kept, in order."""
        said = len(self.told.inputs)
        for text in INPUTS[said : said + (2 if INPUTS[said] == "spend" else 1)]:
            appended = await sessions.send(self.caller, self.session, text, key=f"say-{text}")
            event = appended.records[-1].event
            self.told.inputs.append(getattr(event, "input", ""))

    async def _answer(self, s: Session) -> bool:
        try:
            if s.pause is not None:
                await controls.raise_budget(self.caller, s.pause.scope, s.pause.unit, by=BUDGET_STEP)
                return True
            for doubt in s.doubts:
                return await self._resolve(s, doubt.call, doubt.effect_key)
            for call in s.turn.calls if s.turn else ():
                if call.state == "asked":
                    return await self._approve(call.call)
            return await self._cancel(s)
        except (Conflict, NotFound):
            return True  # somebody was faster; look again

    async def _resolve(self, s: Session, call: str, effect_key: str) -> bool:
        known = s.call(call)
        if known is not None and known.name != "courier" and known.replay != "keyed":
            return False  # the tool itself can tell
        happened = self.world.happened(effect_key)
        if happened:
            await approvals.resolve(self.caller, self.session, call, approvals.Resolution("happened", "it happened"))
        else:
            again = "give_up" if known is None else "run_again"
            await approvals.resolve(self.caller, self.session, call, approvals.Resolution(again))
        return True

    async def _approve(self, call: str) -> bool:
        if not self._upgraded:
            self._upgraded = True
            await approvals.approve(self.caller, self.session, call)
            self.told.approvals.append(call)
            await sessions.upgrade(self.caller, self.session, spec_of(strict=True))
            return True
        await approvals.approve(self.caller, self.session, call)
        self.told.approvals.append(call)
        return True

    async def _cancel(self, s: Session) -> bool:
        stopping = s.turn is not None and len(self.told.inputs) == len(INPUTS) and not s.queue
        if self._cancelled or not stopping:
            return False
        self._cancelled = True
        await sessions.cancel(self.caller, self.session, reason="enough")
        return True


def tools_of(world: World) -> dict[str, Tool]:
    """The code behind the tools, over one world."""
    return {spec.name: WorldTool(spec, world) for spec in TOOLS if spec.kind == "function"}
