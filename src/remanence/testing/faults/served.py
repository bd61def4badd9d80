"""A server in a process of its own and whoever asks it: over a connection that may break at any moment, as clients do.

A client knows no more than its connection told it. When that breaks it asks again, for the same under the same key; of
a stream it asks for what comes after the last event it saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import msgspec

from remanence.testing.faults.racing import stand_still
from remanence.testing.faults.server import KEY

__all__ = ["Asked", "Asking", "Server"]

_BROKEN: Final = 0


class Asked(NamedTuple):
    """A request to one of the servers."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    key: str = ""

    @property
    def streams(self) -> bool:
        return bool((self.body or {}).get("stream"))


class Asking(msgspec.Struct):
    """A request until it is answered whole, by however many servers: what was said so far."""

    asked: Asked
    said: str = ""
    response: str = ""
    """The response that is streamed, once its id is known."""
    number: int = -1
    """The last event of it that was seen."""
    cut: str = ""
    """How the connection broke."""
    wrong: str = ""
    """What a stream must not do."""

    @property
    def whole(self) -> bool:
        """Whether the stream said that it is over."""
        return "data: [DONE]" in self.said or "event: error" in self.said

    def take(self, line: str) -> None:
        """One more line of the stream."""
        self.said += f"{line}\n"
        if not line.startswith("data: {"):
            return
        event: dict[str, Any] = json.loads(line.removeprefix("data: "))
        number = event.get("sequence_number", self.number)
        if event.get("type") != "error" and number <= self.number:
            self.wrong = f"event {number} came after event {self.number}"
        self.number = number
        self.response = event.get("response", {}).get("id", self.response)

    @property
    def next(self) -> Asked:
        """What is asked for now."""
        if not self.response:
            return self.asked
        return Asked("GET", f"/v1/responses/{self.response}?stream=true&starting_after={self.number}")


class Server:
    """One server. A new process takes the place of one that was killed, and listens elsewhere."""

    def __init__(self, url: str, world: Path, name: str) -> None:
        self._arguments = (url, str(world), name)
        self._process: Process | None = None
        self._clients: list[httpx2.AsyncClient] = []

    async def start(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "remanence.testing.faults.server", *self._arguments, stdin=PIPE, stdout=PIPE
        )
        assert process.stdout is not None
        listening = (await process.stdout.readline()).decode().strip()
        if not listening:
            raise RuntimeError("a server ended before it began; its standard error says why")
        headers = {"authorization": f"Bearer {KEY}"}
        self._clients.append(httpx2.AsyncClient(base_url=listening, headers=headers, timeout=60))

    async def ask(self, asking: Asking) -> int:
        """The status of an answer, whose words `asking` takes; 0 when the connection broke before they were whole."""
        asked = asking.next
        headers = {"idempotency-key": asked.key} if asked.key else {}
        try:
            async with self._clients[-1].stream(asked.method, asked.path, json=asked.body, headers=headers) as answer:
                if asking.asked.streams and answer.status_code < 300:
                    async for line in answer.aiter_lines():
                        asking.take(line)
                    return answer.status_code if asking.whole else _BROKEN
                asking.said += (await answer.aread()).decode()
                return answer.status_code
        except httpx2.HTTPError as error:
            asking.cut = repr(error)
            return _BROKEN

    async def kill(self) -> None:
        """SIGKILL, and a new one in its place."""
        process = self._alive()
        process.kill()
        await process.wait()
        await self.start()

    async def pause(self) -> None:
        """Stand still past every lease it holds, then go on."""
        await stand_still(self._alive())

    async def stop(self) -> None:
        """Let it finish."""
        for client in self._clients:
            await client.aclose()
        process = self._alive()
        if process.stdin is not None:
            with suppress(ConnectionError):
                process.stdin.close()
        await process.wait()

    def _alive(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process
