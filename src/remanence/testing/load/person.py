"""One person over HTTP: turns with a function that the client runs, and one stream that is gone on with whenever it
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
from msgspec import Struct

from remanence.ports import Clock
from remanence.testing.heard import Frame, Heard, parsed

__all__ = ["Person", "Told", "canonical"]

AGAIN_S = 0.05
IDLE = "agent.session.idle"
WAITING = "agent.session.requires_action"
_LOOK = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}


class Told(Struct):
    """What a person met on the way."""

    requests: int = 0
    sent_again: int = 0
    reconnects: int = 0
    repeated_events: int = 0
    """Settled events that came a second time."""
    turned_away: int = 0
    """Requests that a stopping server did not wait for."""
    server_errors: int = 0


class Person:
    """One session from its opening to the end of its last turn."""

    def __init__(self, client: httpx2.AsyncClient, number: int, *, clock: Clock, dice: random.Random) -> None:
        self._client = client
        self._clock = clock
        self._dice = dice
        self.name = f"p{number}"
        self.session = ""
        self.told = Told()
        self.heard = Heard()
        self.turns_done = 0
        self._ids: set[str] = set()
        self._last = "0.0"
        self._actions: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()

    def said(self, turn: int) -> str:
        """What it says in a turn, unlike anything said elsewhere."""
        return f"{self.name}t{turn}"

    async def live(self, turns: int) -> None:
        """Open the session and have the turns."""
        agent = {"model": "default", "tools": [_LOOK]}
        body = {"environment": {"type": "none"}, "agent": agent}
        made = await self._post("/v1/agents/sessions", body, f"{self.name}-open")
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
            await self._post(path, {"events": [message]}, f"{self.name}-{turn}-say")
            action = await self._action(self.said(turn))
            result = {
                "type": "agent.session.input.tool_result",
                "call_id": action["call_id"],
                "turn_id": action["turn_id"],
                "success": True,
                "output": f"seen-{self.said(turn)}",
            }
            await self._post(path, {"events": [result]}, f"{self.name}-{turn}-result")
            await self._until(lambda turn=turn: self.turns_done >= turn)

    async def _action(self, at: str) -> dict[str, Any]:
        await self._until(lambda: at in self._actions)
        return self._actions[at]

    async def _until(self, true: Any) -> None:
        while not true():
            self._news.clear()
            await self._news.wait()

    async def _post(self, path: str, body: dict[str, Any], key: str) -> httpx2.Response:
        while True:
            self.told.requests += 1
            try:
                answer = await self._client.post(path, json=body, headers={"idempotency-key": key})
            except httpx2.TransportError:
                self.told.sent_again += 1
            else:
                if answer.status_code < 300:
                    return answer
                self._refused(answer.status_code, f"{path} under {key}: {answer.text}")
            await self._clock.sleep(AGAIN_S)

    def _refused(self, status: int, words: str) -> None:
        """Count what may be sent again. Raises RuntimeError for everything else."""
        if status < 500:
            raise RuntimeError(f"{status} {words}")
        if status == 503:
            self.told.turned_away += 1
        else:
            self.told.server_errors += 1

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, turns: int) -> None:
        """Read until the last turn is over, going on after every break; now and then the person breaks it."""
        while self.turns_done < turns:
            frames_max = self._dice.randint(1, 400)
            try:
                async for frame in events(self._client, self.session, self._last):
                    self._take(frame)
                    frames_max -= 1
                    if self.turns_done >= turns or not frames_max:
                        break
            except httpx2.TransportError:
                await self._clock.sleep(AGAIN_S)
            except httpx2.HTTPStatusError as error:
                self._refused(error.response.status_code, f"{error}")
                await self._clock.sleep(AGAIN_S)
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
            self.turns_done += len(self._actions) > self.turns_done
        self._news.set()


async def events(client: httpx2.AsyncClient, session: str, after: str) -> AsyncGenerator[Frame]:
    """The events of a session after a place, for as long as the connection holds. Raises httpx2.HTTPError."""
    path = f"/v1/agents/sessions/{session}/events?include_obfuscation=false"
    async with client.stream("GET", path, headers={"last-event-id": after}) as answer:
        answer.raise_for_status()
        kept = b""
        async for chunk in answer.aiter_raw():
            *whole, kept = (kept + chunk).split(b"\n\n")
            for one in whole:
                if not one.startswith(b":"):
                    yield parsed(one + b"\n\n")


async def canonical(client: httpx2.AsyncClient, session: str, turns: int) -> Heard:
    """What a stream from the very beginning says of a session that has had its turns."""
    heard = Heard()
    async for frame in events(client, session, "0.0"):
        heard.add(frame)
        if sum(kind == "agent.session.turn.completed" for kind, _ in heard.order) >= turns and frame.type == IDLE:
            break
    return heard
