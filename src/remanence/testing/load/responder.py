"""One person over the Responses API: a chain of streamed responses, each continuing the one before.

A turn is two responses: one that ends with a call of the client's function, one that answers its output. A stream that
breaks is gone on with after the last sequence number, from whatever server answers by then.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx2
import msgspec

from remanence.testing.load.sender import AGAIN_S, Sender, whole_events

__all__ = ["Responder"]

LAST = "response.completed"
_LOOK = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    "strict": None,
}


class Stream:
    """What was heard of one response. `kinds` are its events without those that only tell texts in pieces, each with
    its number and what it settled; `texts` the pieces of each item put together."""

    def __init__(self) -> None:
        self.response: dict[str, Any] = {}
        self.number = -1
        self.repeated = 0
        self.kinds: list[tuple[str, int, str, str]] = []
        self.texts: dict[str, str] = {}

    @property
    def id(self) -> str:
        return self.response.get("id", "")

    @property
    def over(self) -> bool:
        return bool(self.kinds) and self.kinds[-1][0] == LAST

    @property
    def settled(self) -> tuple[list[tuple[str, int, str, str]], dict[str, str]]:
        """Its events and texts without those of items that came to nothing: what an attempt had begun that was lost is
        not in the final response, and only who was there at the time heard of it."""
        kept = {item["id"] for item in self.response["output"]} | {""}
        texts = {item: text for item, text in self.texts.items() if item in kept}
        return [kind for kind in self.kinds if kind[2] in kept], texts

    def take(self, event: dict[str, Any]) -> None:
        """Hear one more event."""
        kind, number = event["type"], event["sequence_number"]
        self.repeated += number <= self.number
        self.number = number
        self.response = event.get("response", self.response)
        item = event.get("item_id") or event.get("item", {}).get("id", "")
        if kind.endswith(".delta"):
            self.texts[item] = self.texts.get(item, "") + event["delta"]
        else:
            self.kinds.append((kind, number, item, event.get("text", "")))


class Responder(Sender):
    """One chain from its first response to its last."""

    async def live(self, turns: int) -> None:
        """Have the turns."""
        self.streams: list[Stream] = []
        for turn in range(1, turns + 1):
            asked = await self._respond(self.said(turn), f"{self.name}-{turn}-say")
            call = next(item for item in asked.response["output"] if item["type"] == "function_call")
            at = msgspec.json.decode(call["arguments"])["at"]
            output = {"type": "function_call_output", "call_id": call["call_id"], "output": f"seen-{at}"}
            await self._respond([output], f"{self.name}-{turn}-result")
            self.turns_done = turn

    async def is_same(self, turns: int) -> bool:
        """Whether what was heard over all cuts is what streams from the very beginning say now."""
        for heard in self.streams:
            whole = Stream()
            async for event in self._events("GET", f"/v1/responses/{heard.id}?stream=true"):
                whole.take(event)
            if heard.settled != whole.settled:
                return False
        return True

    async def _respond(self, said: Any, key: str) -> Stream:
        """One response, to its end."""
        body: dict[str, Any] = {"model": "default", "tools": [_LOOK], "input": said, "stream": True}
        if self.streams:
            body["previous_response_id"] = self.streams[-1].id
        stream = Stream()
        self.streams.append(stream)
        while not stream.over:
            pieces_max = self.dice.randint(1, 40)
            self.told.requests += not stream.id
            try:
                async with aclosing(self._go_on(stream, body, key)) as events:
                    async for event in events:
                        stream.take(event)
                        pieces_max -= 1
                        if stream.over or not pieces_max:
                            break
            except httpx2.TransportError:
                self.told.sent_again += not stream.id
                await self.clock.sleep(AGAIN_S)
            except httpx2.HTTPStatusError as error:
                self.refused(error.response.status_code, f"{error}")
                await self.clock.sleep(AGAIN_S)
            self.told.reconnects += bool(stream.id) and not stream.over
        self.told.repeated_events += stream.repeated
        self.session = stream.id.removeprefix("resp_").rpartition("_")[0]
        return stream

    def _go_on(self, stream: Stream, body: dict[str, Any], key: str) -> AsyncGenerator[dict[str, Any]]:
        if stream.id:
            return self._events("GET", f"/v1/responses/{stream.id}?stream=true&starting_after={stream.number}")
        return self._events("POST", "/v1/responses", json=body, headers={"idempotency-key": key})

    async def _events(self, method: str, path: str, **request: Any) -> AsyncGenerator[dict[str, Any]]:
        """Raises httpx2.HTTPError."""
        async with self.client.stream(method, path, **request) as answer:
            async for one in whole_events(answer):
                _, _, data = one.rpartition(b"data: ")
                if data != b"[DONE]\n\n":
                    yield msgspec.json.decode(data)
