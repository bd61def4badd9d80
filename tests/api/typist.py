"""A model whose every piece a test lets through, and readers that can be cut anywhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from remanence import Remanence
from remanence.api.agents.stream import SessionStream, StreamChoice
from remanence.api.lookout import Lookout
from remanence.api.stream import Place
from remanence.content import Part, Text, Thinking, Usage
from remanence.errors import ModelError
from remanence.ports import DeltaKind, ModelReply, ModelRequest, OnDelta
from remanence.testing.heard import Frame, Heard, parsed

__all__ = ["Attempt", "Frame", "Reader", "Typist", "parsed", "reading", "settled_of", "told"]


@dataclass
class Attempt:
    """What one attempt streams, piece by piece, and how it ends: with `reply`, or an error."""

    pieces: Sequence[tuple[int, DeltaKind, str]]
    reply: Sequence[Part] = ()
    error: str = ""


@dataclass
class Typist:
    """A model: attempts in the order they are made. It types a piece when it is let."""

    attempts: list[Attempt]
    typed: int = 0
    calls: int = 0
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def let(self, pieces: int = 1) -> None:
        """Let it type so many more pieces; the end of a reply counts as one."""
        for _ in range(pieces):
            self._gate.release()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        attempt = self.attempts[min(self.calls, len(self.attempts) - 1)]
        self.calls += 1
        for index, kind, text in attempt.pieces:
            await self._gate.acquire()
            self.typed += 1
            if on_delta is not None:
                on_delta(index, kind, text)
        await self._gate.acquire()
        if attempt.error:
            raise ModelError(attempt.error, kind="connection")
        return ModelReply(tuple(attempt.reply), Usage(3, 5), 7)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


Pieces = list[tuple[int, DeltaKind, str]]


def told(*parts: Part, cut: int = 3) -> Pieces:
    """How these parts stream, in pieces of so many characters."""
    pieces: Pieces = []
    for index, part in enumerate(parts):
        if isinstance(part, Text | Thinking):
            kind: DeltaKind = "text" if isinstance(part, Text) else "thinking"
            made: Pieces = [(index, kind, part.text[at : at + cut]) for at in range(0, len(part.text), cut)]
            pieces += made
    return pieces


# --- reading ----------------------------------------------------------------------------------------------------------


class Reader:
    """One connection. `frames` is what it has read so far."""

    def __init__(self, rt: Remanence, lookout: Lookout, session: str) -> None:
        self._rt, self._lookout, self._session = rt, lookout, session
        self.frames: list[Frame] = []
        self._task: asyncio.Task[None] | None = None
        self.news = asyncio.Event()

    async def go_on(self, after: str | None) -> None:
        """Connect, and read for as long as nobody cuts."""
        stream = SessionStream(self._rt.caller, self._session, StreamChoice(obfuscation=False))
        await stream.begin(Place.of(after) if after is not None else None)
        self._task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: SessionStream) -> None:
        try:
            async for batch in stream.frames(self._lookout):
                for one in batch:
                    self.frames.append(parsed(one))
                    self.news.set()
        finally:
            stream.close()

    async def cut(self, keep: int | None = None) -> str | None:
        """Break the connection; of what was read, the first `keep` frames arrived. The id to go on after."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if keep is not None:
            del self.frames[keep:]
        return self.frames[-1].id if self.frames else None

    async def until(self, kind: str, count: int = 1) -> None:
        """Wait until so many events of this kind were read."""
        async with asyncio.timeout(60):
            while sum(frame.type == kind for frame in self.frames) < count:
                self.news.clear()
                await self.news.wait()

    async def until_text(self, length: int) -> None:
        """Wait until so much text was read."""
        async with asyncio.timeout(60):
            while sum(len(frame.event.get("delta", "")) for frame in self.frames) < length:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def reading(rt: Remanence, session: str, after: str | None = None) -> AsyncIterator[Reader]:
    """A reader that is cut at the end."""
    reader = Reader(rt, Lookout(rt.caller, every_s=0.02), session)
    await reader.go_on(after)
    try:
        yield reader
    finally:
        await reader.cut()


# --- judging ----------------------------------------------------------------------------------------------------------


def settled_of(frames: Sequence[Frame]) -> tuple[list[tuple[str, str]], dict[str, str], set[str]]:
    """What a reader ends up with, however it was cut: see `Heard`. Every event comes once, and none is missing."""
    heard = Heard()
    for frame in frames:
        heard.add(frame)
    ids = Counter(frame.id for frame in frames)
    assert max(ids.values(), default=1) == 1, f"two events have one id: {ids.most_common(3)}"
    parts = Counter(frame.event["item_id"] for frame in frames if frame.type.endswith("part.added"))
    assert all(parts[item] == 1 for item in heard.done), f"parts of items that were not named once: {parts}"
    return heard.order, heard.done, heard.begun
