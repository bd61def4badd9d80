"""Sending until it is answered, under a key that makes the second time the same as the first."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx2
from msgspec import Struct

from remanence.ports import Clock

__all__ = ["AGAIN_S", "Sender", "Told", "whole_events"]

AGAIN_S = 0.05


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


class Sender:
    """Who talks to a server that comes and goes, and counts what it met."""

    def __init__(self, client: httpx2.AsyncClient, number: int, *, clock: Clock, dice: random.Random) -> None:
        self.client = client
        self.clock = clock
        self.dice = dice
        self.name = f"p{number}"
        self.session = ""
        self.told = Told()
        self.turns_done: int = 0

    def said(self, turn: int) -> str:
        """What it says in a turn, unlike anything said elsewhere."""
        return f"{self.name}t{turn}"

    async def post(self, path: str, body: dict[str, Any], key: str) -> httpx2.Response:
        """The good answer, whenever it comes. Raises RuntimeError when it is refused for good."""
        while True:
            self.told.requests += 1
            try:
                answer = await self.client.post(path, json=body, headers={"idempotency-key": key})
            except httpx2.TransportError:
                self.told.sent_again += 1
            else:
                if answer.status_code < 300:
                    return answer
                self.refused(answer.status_code, f"{path} under {key}: {answer.text}")
            await self.clock.sleep(AGAIN_S)

    def refused(self, status: int, words: str) -> None:
        """Count what may be sent again. Raises RuntimeError for everything else."""
        if status < 500:
            raise RuntimeError(f"{status} {words}")
        if status == 503:
            self.told.turned_away += 1
        else:
            self.told.server_errors += 1


async def whole_events(answer: httpx2.Response) -> AsyncGenerator[bytes]:
    """The events of a stream as they come, without its comments. Raises httpx2.HTTPError."""
    answer.raise_for_status()
    kept = b""
    async with aclosing(answer.aiter_raw()) as chunks:
        async for chunk in chunks:
            *whole, kept = (kept + chunk).split(b"\n\n")
            for one in whole:
                lines = [line for line in one.split(b"\n") if not line.startswith(b":")]
                if lines:
                    yield b"\n".join(lines) + b"\n\n"
