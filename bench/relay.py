"""How late a piece of a reply is heard in another process than the one that asked the model.

    python -m bench.relay [--store sqlite|postgres] [--sessions 16] [--turns 5] [--out result.json]

A worker in a process of its own; its model says forty pieces a turn, one every ten milliseconds, each with the time at
which it is said. A reader in this process, which has no worker, says how much later it hears each of them: in Python
(`followed_ms`), and on a stream of the Agents API (`streamed_ms`: until its frame is written), `--sessions` at once.
Both processes share the machine and its clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from remanence import Agent, Remanence
from remanence.api.agents.stream import SessionStream, StreamChoice
from remanence.api.lookout import Lookout
from remanence.content import Text, Usage
from remanence.ports import Delta, ModelReply, ModelRequest, OnDelta
from remanence.testing.postgres import postgres_database, postgres_server

PIECES = 40
PIECE_S = 0.01
AGENT = Agent("speaker", model="speaking")
SAID_AT = re.compile(rb"<(\d+)>")


class Speaking:
    """The model."""

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        said: list[str] = []
        for _ in range(PIECES):
            said.append(f"<{time.time_ns()}>")
            if on_delta is not None:
                on_delta(0, "text", said[-1])
            await asyncio.sleep(PIECE_S)
        return ModelReply((Text("".join(said)),), Usage(3, 5), stop="stop")

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


async def work(url: str) -> None:
    async with Remanence(url, agents=[AGENT], models={"speaking": Speaking()}):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


class Late:
    """What was heard, and how late."""

    def __init__(self) -> None:
        self.ms: list[float] = []
        self._rest = b""

    def hear(self, text: bytes) -> None:
        now = time.time_ns()
        *whole, self._rest = (self._rest + text).rpartition(b">")
        self.ms += [(now - int(at)) / 1e6 for at in SAID_AT.findall(b"".join(whole))]

    def figures(self, said: int) -> dict[str, float]:
        ms = sorted(self.ms)
        ranks = {name: round(ms[int(len(ms) * part)], 1) for name, part in (("p50", 0.5), ("p99", 0.99))}
        return {"heard": len(ms), "said": said, **ranks, "max": round(ms[-1], 1)}


async def follow(rt: Remanence, turns: int, late: Late) -> None:
    """Say something again and again, and hear what comes of it."""
    session = await rt.open(AGENT)
    for _ in range(turns):
        async for item in session.send("Speak."):
            if isinstance(item, Delta):
                late.hear(item.text.encode())


async def stream(rt: Remanence, turns: int, late: Late, lookout: Lookout) -> None:
    """The same over a stream of the Agents API, as its frames are made."""
    session = await rt.open(AGENT)
    for _ in range(turns):
        frames = SessionStream(rt.caller, session.id, StreamChoice(obfuscation=False, until_rest=True))
        await frames.begin(None)
        await session.submit("Speak.")
        async for batch in frames.frames(lookout):
            for frame in batch:
                if b"output_text.delta" in frame.partition(b"\n")[0]:
                    late.hear(json.loads(frame.rpartition(b"data: ")[2])["delta"].encode())
        frames.close()


async def measure(url: str, sessions: int, turns: int) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    async with Remanence(url, agents=[AGENT], worker=False) as rt:
        streaming = partial(stream, lookout=Lookout(rt.caller))
        for name, reading in (("followed_ms", follow), ("streamed_ms", streaming)):
            late = Late()
            await asyncio.gather(*(reading(rt, turns, late) for _ in range(sessions)))
            figures[name] = late.figures(sessions * turns * PIECES)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        asyncio.run(work(given.work))
        return
    with ExitStack() as held:
        url = f"sqlite:///{held.enter_context(tempfile.TemporaryDirectory())}/a.db"
        if given.store == "postgres":
            url = held.enter_context(postgres_database(held.enter_context(postgres_server(durable=True))))
        command = [sys.executable, "-m", "bench.relay", "--work", url]
        worker = held.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        held.callback(worker.kill)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        figures = asyncio.run(measure(url, given.sessions, given.turns))
    shown = json.dumps({"store": given.store, "sessions": given.sessions, **figures}, indent=1)
    if given.out:
        given.out.write_text(shown + "\n")
    sys.stdout.write(shown + "\n")


if __name__ == "__main__":
    main()
