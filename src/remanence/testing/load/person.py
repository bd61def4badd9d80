"""One person over the Agents API: turns with a function that the client runs, and one stream, gone on with whenever it
breaks.

A request that got no answer is sent again under the same `Idempotency-Key`. What the person saw is kept, to be held
against what a stream from the beginning says when all is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

import httpx2

from remanence.ports import Clock
from remanence.testing.heard import Frame, Heard, parsed
from remanence.testing.load.sender import AGAIN_S, Sender, whole_events

__all__ = ["Person"]

IDLE = "agent.session.idle"
WAITING = "agent.session.requires_action"
_LOOK = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}


class Person(Sender):
    """One session from its opening to the end of its last turn."""

    def __init__(self, client: httpx2.AsyncClient, number: int, *, clock: Clock, dice: random.Random) -> None:
        super().__init__(client, number, clock=clock, dice=dice)
        self.heard = Heard()
        self._ids: set[str] = set()
        self._last = "0.0"
        self._actions: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()

    async def live(self, turns: int) -> None:
        """Open the session and have the turns."""
        agent = {"model": "default", "tools": [_LOOK]}
        body = {"environment": {"type": "none"}, "agent": agent}
        made = await self.post("/v1/agents/sessions", body, f"{self.name}-open")
        self.session = made.json()["id"]
        reading = asyncio.create_task(self._read(turns))
        having = asyncio.create_task(self._have(turns))
        try:
            done, _ = await asyncio.wait((reading, having), return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in (reading, having):
                task.cancel()
            await asyncio.gather(reading, having, return_exceptions=True)

    # --- acting -------------------------------------------------------------------------------------------------------

    async def _have(self, turns: int) -> None:
        path = f"/v1/agents/sessions/{self.session}/events"
        for turn in range(1, turns + 1):
            content = [{"type": "input_text", "text": self.said(turn)}]
            message = {"type": "agent.session.input.message", "input": [{"role": "user", "content": content}]}
            await self.post(path, {"events": [message]}, f"{self.name}-{turn}-say")
            action = await self._action(self.said(turn))
            result = {
                "type": "agent.session.input.tool_result",
                "call_id": action["call_id"],
                "turn_id": action["turn_id"],
                "success": True,
                "output": f"seen-{self.said(turn)}",
            }
            await self.post(path, {"events": [result]}, f"{self.name}-{turn}-result")
            await self._until(lambda turn=turn: self.turns_done >= turn)

    async def _action(self, at: str) -> dict[str, Any]:
        await self._until(lambda: at in self._actions)
        return self._actions[at]

    async def _until(self, true: Any) -> None:
        while not true():
            self._news.clear()
            await self._news.wait()

    async def is_same(self, turns: int) -> bool:
        """Whether what was heard over all cuts is what a stream from the very beginning says now."""
        whole = await _canonical(self.client, self.session, turns)
        return (self.heard.order, self.heard.done) == (whole.order, whole.done) and not self.heard.begun

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, turns: int) -> None:
        """Read until the last turn is over, going on after every break; now and then the person breaks it."""
        while self.turns_done < turns:
            frames_max = self.dice.randint(1, 400)
            try:
                async for frame in _events(self.client, self.session, self._last):
                    self._take(frame)
                    frames_max -= 1
                    if self.turns_done >= turns or not frames_max:
                        break
            except httpx2.TransportError:
                await self.clock.sleep(AGAIN_S)
            except httpx2.HTTPStatusError as error:
                self.refused(error.response.status_code, f"{error}")
                await self.clock.sleep(AGAIN_S)
            self.told.reconnects += self.turns_done < turns

    def _take(self, frame: Frame) -> None:
        if not frame.is_live:
            self.told.repeated_events += frame.id in self._ids
            self._ids.add(frame.id)
        self._last = frame.id
        self.heard.add(frame)
        if frame.type == WAITING:
            for action in frame.event["session"]["required_actions"]:
                self._actions[action["arguments"]["at"]] = action
        elif frame.type == IDLE and not frame.id.endswith("_now"):
            self.turns_done += int(len(self._actions) > self.turns_done)
        self._news.set()


async def _events(client: httpx2.AsyncClient, session: str, after: str) -> AsyncGenerator[Frame]:
    """The events of a session after a place, for as long as the connection holds. Raises httpx2.HTTPError."""
    path = f"/v1/agents/sessions/{session}/events?include_obfuscation=false"
    async with client.stream("GET", path, headers={"last-event-id": after}) as answer:
        async for one in whole_events(answer):
            yield parsed(one)


async def _canonical(client: httpx2.AsyncClient, session: str, turns: int) -> Heard:
    """What a stream from the very beginning says of a session that has had its turns."""
    heard = Heard()
    async for frame in _events(client, session, "0.0"):
        heard.add(frame)
        if sum(kind == "agent.session.turn.completed" for kind, _ in heard.order) >= turns and frame.type == IDLE:
            break
    return heard
