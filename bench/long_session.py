"""A session of very many turns, laid down in bulk: the events a worker would have journaled, in large writes."""

from __future__ import annotations

from bench.agents import SAID, script

from remanence.app import make_id
from remanence.commands.caller import Caller
from remanence.commands.sessions import open_session
from remanence.content import Text
from remanence.core.context import Transcript, prompt_of
from remanence.core.session import evolve, fold
from remanence.core.snapshots import encode_snapshot
from remanence.core.state import Session, effect_key
from remanence.events import (
    CallJudged,
    Event,
    InputReceived,
    ModelCalled,
    ModelReplied,
    Recorded,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Database, Write
from remanence.runtime.clock import SystemClock
from remanence.runtime.live import Hub
from remanence.spec import AgentSpec
from remanence.values import ModelRequest

__all__ = ["lay_down"]

TURNS_A_WRITE = 10
"""With a snapshot at its end: as often as a worker leaves one."""


async def lay_down(database: Database, spec: AgentSpec, turns: int) -> str:
    """A session of so many finished turns; its id."""
    clock = SystemClock()
    session = await open_session(Caller(database, Hub(clock), clock, make_id), spec)
    pen = _Pen(fold(Session(session), await database.store.read(session)), spec)
    for first in range(0, turns, TURNS_A_WRITE):
        head = pen.state.head
        for _ in range(min(TURNS_A_WRITE, turns - first)):
            pen.turn()
        events, pen.events = tuple(pen.events), []
        at = clock.now()
        snapshot = encode_snapshot(pen.state)
        await database.store.append(Write(session, events, at, "bench", expect=head, snapshot=snapshot))
    return session


class _Pen:
    """Writes turns, keeping the state and the window as a driver would."""

    def __init__(self, state: Session, spec: AgentSpec) -> None:
        self.state = state
        self.spec = spec
        self.text = Transcript()
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        record = Recorded(self.state.id, self.state.head + 1, 0, 0, "bench", event)
        self.state = evolve(self.state, record)
        self.text.add(record)
        self.events.append(event)

    def call(self, number: int) -> None:
        prompt = prompt_of(self.text, self.state, self.spec)
        called = f"model_{self.state.turns}_{number}"
        window = prompt.window
        self.put(
            ModelCalled(
                called, self.state.turns, self.spec.model, window.first_turn, window.from_position, prompt.digest
            )
        )
        settings, limits = self.spec.settings, self.spec.limits
        request = ModelRequest("", "", prompt.messages, (), settings, limits.output_tokens, limits.model_timeout_s, "")
        reply = script(request)
        self.put(ModelReplied(called, reply.parts, reply.usage, reply.cost_usd_micros))

    def turn(self) -> None:
        self.put(InputReceived(f"in_{self.state.head}", (Text(SAID),), "bench"))
        self.put(TurnStarted(self.state.turns + 1, (self.state.head,)))
        self.call(1)
        turn = self.state.turn
        for call in turn.calls if turn else ():
            self.put(CallJudged(call.call, "allow", call.digest, self.state.policy, "allow find"))
            self.put(ToolStarted(call.call, call.name, effect_key(self.state, call.call), "safe"))
            self.put(ToolReturned(call.call, (Text("f" * 300),)))
        self.call(2)
        self.put(TurnEnded(self.state.turns, "completed"))
