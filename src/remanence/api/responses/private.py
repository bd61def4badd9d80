"""A response that is not stored: one model call that never becomes a session.

The functions of such a response are the client's, so its turn is one call of the model; that call goes straight to the
model (`commands/metering.py`: what it cost is counted, budgets and freezes hold, no word of it reaches the database).
The same fold that reads journals makes the answer, from records that are written nowhere. An agent's turn may do things
in the world, so it is always journaled, and `store: false` is refused for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from msgspec.structs import replace

from remanence.api.responses.fold import Fold, WireEvent
from remanence.api.responses.history import renamed
from remanence.api.responses.input import refuse
from remanence.api.responses.kept import Kept, make_fold
from remanence.api.responses.place import Asked
from remanence.api.responses.request import AGENT, ResponseBody
from remanence.api.stream import Preview
from remanence.commands.caller import Caller
from remanence.commands.given import check
from remanence.commands.metering import Meter
from remanence.content import Message, Part, ToolCall
from remanence.core.context import Transcript, fit
from remanence.core.state import Session
from remanence.errors import ModelError
from remanence.events import (
    Event,
    InputReceived,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    Recorded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Delta, DeltaKind, ModelReply, ModelRequest
from remanence.runtime.live import Running

__all__ = ["Private"]

COALESCE_S = 0.02
Stopped = Callable[[], Awaitable[None]]
_STOPPED = "The server stopped before the answer was whole. Nothing was kept of it: ask again."


class Private:
    """One response that is not stored. Iterate over `events`; `fold` and `said` are whole when that is over."""

    def __init__(
        self, caller: Caller, meter: Meter, asked: Asked, body: ResponseBody, history: tuple[Message, ...]
    ) -> None:
        if asked.spec.name != AGENT:
            refuse("store", f"{asked.spec.name} is an agent, and what an agent does is journaled")
        if body.background:
            refuse("background", "a response in the background has to be stored")
        if asked.talk is not None:
            refuse("conversation", "what belongs to a conversation is stored with it")
        if asked.listed:
            refuse("store", "what tools of an MCP server do is journaled")
        if asked.given.approvals:
            refuse("input", "nothing that waits for an approval was stored")
        self._caller, self._meter, self._asked = caller, meter, asked
        self._session = caller.make_id("private")
        self._position = 0
        self._turn = 1
        spoken = asked.given.messages
        if asked.previous is not None:
            spoken = renamed(asked.previous.session, spoken)
        self.messages = self._window((*history, *spoken))
        self.said: tuple[Part, ...] = ()
        """What the model replied, with the ids its calls have on the wire."""
        tools = tuple(tool.name for tool in asked.spec.tools)
        previous = body.previous_response_id
        self.kept = Kept(
            self._session, 1, self._position, asked.spec.name, caller.clock.now(), asked.echo, turn=self._turn,
            client_tools=tools, store=False, previous=previous, spoken=asked.given.spoken, carried=asked.carried,
        )  # fmt: skip
        self.fold: Fold = make_fold(self.kept)
        self._running = Running("", 1)
        self._news = asyncio.Event()

    def _window(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages of the call, by the same rules as a journaled one's: every call has its output, and what is over
        the limit of the window is left out."""
        text = Transcript()
        events = check(self._caller, messages)
        if isinstance(events[-1], InputReceived):  # one message waits for its turn; here is the turn
            turns = [event.turn for event in events if isinstance(event, TurnStarted)]
            events = (*events, TurnStarted(max(turns, default=0) + 1, (len(events),)))
        for event in events:
            self._position += 1
            text.add(self._record(event, self._position))
            if isinstance(event, TurnStarted):
                self._turn = event.turn
        return text.messages(fit(text, Session(self._session), self._asked.spec)).messages

    def _record(self, event: Event, position: int) -> Recorded:
        return Recorded(self._session, position, self._caller.clock.now(), 0, self._caller.actor, event)

    def _add(self, event: Event) -> None:
        self._position += 1
        self.fold.add(self._record(event, self._position))

    async def events(self, stopped: Stopped | None = None) -> AsyncGenerator[Sequence[WireEvent]]:
        """The events as they happen. Leaving aborts the call: there is nowhere to come back to. So does `stopped` when
        it returns: the server waits no longer."""
        fold, call = self.fold, f"model_{self._turn}_1"
        fold.begin()
        yield fold.take_events()
        self._add(ModelCalled(call, self._turn, self._asked.spec.model, 1, 1, ""))
        task = asyncio.create_task(self._call())
        ending = asyncio.ensure_future(stopped()) if stopped is not None else asyncio.Future[None]()
        waiter = ending
        try:
            while not (task.done() or ending.done()):
                waiter = asyncio.create_task(self._news.wait())
                await asyncio.wait((task, waiter, ending), return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                self._news.clear()
                fold.preview(Preview(call, 1, tuple(self._running.parts), tuple(self._running.calls)))
                yield fold.take_events()
                if not task.done():
                    await asyncio.wait((task,), timeout=COALESCE_S)
            self._settle(call, task)
            yield fold.take_events()
        finally:
            for one in (task, ending, waiter):  # whoever leaves does so while all three are waited for
                one.cancel()
            await asyncio.gather(task, ending, waiter, return_exceptions=True)

    async def _call(self) -> ModelReply:
        spec, settings = self._asked.spec, self._asked.spec.settings
        if isinstance(self._asked.echo.tool_choice, dict) and not settings.tool_choice_among:
            # Some tools are allowed, or one is forced. Nobody is here to tell the model that others there are none.
            settings = replace(settings, tool_choice_among=tuple(tool.name for tool in spec.tools))
        request = ModelRequest(
            spec.model, spec.instructions, self.messages, spec.tools, settings, spec.limits.output_tokens,
            spec.limits.model_timeout_s, "",
        )  # fmt: skip

        def on_delta(index: int, kind: DeltaKind, text: str) -> None:
            self._running.add(Delta("", index, kind, text))
            self._news.set()

        echo = self._asked.echo
        return await self._meter.reply(self._caller, request, on_delta, user=echo.safety_identifier or echo.user or "")

    def _settle(self, call: str, task: asyncio.Task[ModelReply]) -> None:
        try:
            if not task.done():
                raise ModelError(_STOPPED, kind="server")
            made = task.result()
        except ModelError as error:
            self._add(ModelFailed(call, error.kind, error.message))
            self._add(TurnEnded(self._turn, "failed", f"model: {error.message}"))
            return
        parts = tuple(_named(made.parts, self._turn))
        told = ModelReplied(call, parts, made.usage, made.cost_usd_micros, made.stop, made.model)
        self._add(replace(told, service_tier=made.service_tier))
        for part in parts:
            if isinstance(part, ToolCall):
                self._add(ToolStarted(part.call, part.name, "", "never", client=True))
        if not self.fold.done:
            self._add(TurnEnded(self._turn, "completed"))
        self.said = parts


def _named(parts: Sequence[Part], turn: int) -> list[Part]:
    """The reply with ids of ours for its calls."""
    count = 0
    made: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall):
            count += 1
            part = replace(part, call=f"call_{turn}_1_{count}")
        made.append(part)
    return made
