"""What messages that follow a session are journaled as.

A reply that was brought along is a `ModelReplied` of the model `given`, without an intent before it. Calls of it that
nobody has answered yet are the client's, as if they had been called here (`ToolStarted`): its turn stays open until
their outputs come, in whatever request. What is said meanwhile joins that turn, and is heard after them: no window ever
holds a call without its output, and nothing is left in the queue that nobody asked to be answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.content import Message, Text, ToolCall, ToolResult
from remanence.core.context import shown_bytes
from remanence.core.state import CLIENT_EPOCH, Call, Session, effect_key
from remanence.errors import InvalidInput
from remanence.events import (
    Event,
    InputJoined,
    InputReceived,
    ModelReplied,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.spec import AgentSpec

__all__ = ["GIVEN", "Past", "calls_with_client", "no_call", "no_output", "rests"]

GIVEN = "given"
"""The model of a reply that was brought along."""


def calls_with_client(s: Session) -> tuple[Call, ...]:
    """The calls of the open turn that the client has and has not answered."""
    calls = s.turn.calls if s.turn else ()
    return tuple(call for call in calls if call.state == "running" and call.epoch == CLIENT_EPOCH)


def rests(s: Session) -> bool:
    """Whether nothing happens in a session before a client says something: at the most it has calls to answer."""
    if s.turn is None or s.queue:
        return not s.queue
    left = [call for call in s.turn.calls if call.state != "returned"]
    return bool(left) and len(left) == len(calls_with_client(s))


def no_call(call: str) -> InvalidInput:
    return InvalidInput(
        f"No tool call found for function call output with call_id {call}. Nothing was written.", param="input"
    )


def no_output(call: str) -> InvalidInput:
    return InvalidInput(
        f"No tool output found for function call {call}. Nothing was written; send the output of every function call "
        "of the last reply, after the call.",
        param="input",
    )


class Past:
    """Builds the events of messages that follow a session which rests (`rests`)."""

    def __init__(self, caller: Caller, s: Session, before: int, spec: AgentSpec | None) -> None:
        self._caller, self._s, self._spec = caller, s, spec
        self._next = s.head + 1 + before
        self._turn = s.turns
        self._events: list[Event] = []
        self._inputs: list[int] = []
        self._open = s.turn is not None
        self._replies: int | None = None
        """How many replies the turn has that was begun here; None in one that was open before."""
        self._held = {call.call: call for call in calls_with_client(s)}
        self._calls = {call: held.name for call, held in self._held.items()}
        self._happened = s.turn.happened if s.turn else ()
        self._doubted = s.turn.in_doubt if s.turn else ()

    @property
    def _position(self) -> int:
        """Where the next event will stand."""
        return self._next + len(self._events)

    def answered(self, messages: Sequence[Message]) -> tuple[Event, ...]:
        """The events, ending with something to answer."""
        self._take(messages)
        if self._calls:
            raise no_output(min(self._calls))
        if not self._inputs and not (messages and messages[-1].role == "tool"):
            raise InvalidInput(
                "There is nothing to answer: the input must end with what a user says or with the output of a call. "
                "Nothing was written.",
                param="input",
            )
        if len(self._inputs) > 1:
            self._start()  # several messages are heard together; left in the queue, each would get a turn of its own
        return tuple(self._events)

    def closed(self, messages: Sequence[Message]) -> tuple[Event, ...]:
        """The events, ending at rest: nobody is asked to answer."""
        self._take(messages)
        if self._inputs:
            self._start()
        if self._calls:
            self._hand_over()
        else:
            self._end()
        return tuple(self._events)

    def _take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            match message.role:
                case "user":
                    self._hear(message)
                case "assistant":
                    self._reply(message)
                case "tool":
                    self._result(message)

    def _hear(self, message: Message) -> None:
        if all(isinstance(part, Text) and not part.text.strip() for part in message.parts):
            raise InvalidInput("The input is empty. Nothing was written; say something.", param="input")
        shown = shown_bytes(self._spec, message.parts) if self._spec else 0
        name, actor = self._caller.make_id("in"), self._caller.actor
        if self._calls:  # it is heard when they are answered
            joined = InputJoined(self._turn, self._position)
            self._events += [InputReceived(name, message.parts, actor, "steer", shown=shown), joined]
            return
        self._end()
        self._inputs.append(self._position)
        self._events.append(InputReceived(name, message.parts, actor, shown=shown))

    def _reply(self, message: Message) -> None:
        if not self._open:
            self._start()
        calls = {part.call: part.name for part in message.parts if isinstance(part, ToolCall)}
        for call in sorted(calls.keys() & self._calls.keys()):
            raise InvalidInput(
                f"Function call {call} is there already and has no output yet. Nothing was written; every call needs a "
                "call_id of its own.",
                param="input",
            )
        self._calls |= calls
        self._events.append(ModelReplied(self._label(), message.parts, cost_usd_micros=0, model=GIVEN))

    def _label(self) -> str:
        """The name of a reply, which no other one of its turn has."""
        if self._replies is None:
            return f"{GIVEN}_{self._turn}_{self._position}"
        self._replies += 1
        return f"{GIVEN}_{self._turn}_{self._replies}"

    def _result(self, message: Message) -> None:
        for part in message.parts:
            if isinstance(part, ToolResult):
                self._return(part)

    def _return(self, result: ToolResult) -> None:
        if result.call not in self._calls:
            raise no_call(result.call)
        name, held = self._calls.pop(result.call), self._held.pop(result.call, None)
        untrusted = self._spec is not None and self._spec.distrusts(name)
        returned = ToolReturned(result.call, result.parts, result.error, untrusted=untrusted)
        self._events.append(returned if held is not None else replace(returned, started=False))
        if held is not None and held.replay != "safe":
            self._happened = (*self._happened, effect_key(self._s, result.call))

    def _hand_over(self) -> None:
        """Calls without an output are the client's from now on. What it does for them is not our effect: a turn that is
        cancelled meanwhile leaves no doubt about it."""
        for call, name in self._calls.items():
            if call not in self._held:
                key = f"{self._s.id}:{self._turn}:{call}"
                self._events.append(ToolStarted(call, name, key, "safe", client=True))

    def _start(self) -> None:
        self._turn += 1
        self._events.append(TurnStarted(self._turn, tuple(self._inputs)))
        self._inputs, self._open, self._replies = [], True, 0
        self._happened = self._doubted = ()

    def _end(self) -> None:
        if self._open:
            done = TurnEnded(self._turn, "completed", happened=self._happened, in_doubt=self._doubted)
            self._events.append(done)
            self._open = False
