"""The server process of `bench.http`: ours, or the floor. Prints what it is reached by, and lives until its input ends.

The floor is a bare FastAPI echo that streams as many frames of about the same size after the same delay: no journal, no
key, no check of the body.

A timer rings late by up to two milliseconds, most of all on a crowded machine. How long the model of a turn took in
truth is said at the end of its answer (`TOOK`), so that only the rest is counted as overhead.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

from bench.agents import find
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from remanence import Agent, Remanence
from remanence.api.app import build_app
from remanence.api.faces import faces
from remanence.app import Options
from remanence.cli.serving import listen, served
from remanence.commands.keys import create_key
from remanence.content import Text, ToolCall, Usage
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.runtime.process import settle

PIECES = ("Here is what I found: ", "it will be ", "replaced, ", "free of charge.")
FRAMES = 11
"""As many events as a response of ours has."""
TOOK = "model took us "
"""What stands before the microseconds that a turn spent waiting for its model."""
_ASK = ModelReply((ToolCall("", "find", json.dumps({"note": "n" * 280})),), Usage(900, 80), 42, "tool_calls")


async def waited(delay_s: float) -> int:
    """Wait for so many seconds, or not at all; returns how long it was, in microseconds."""
    if not delay_s:
        return 0
    began = time.perf_counter_ns()
    await asyncio.sleep(delay_s)
    return (time.perf_counter_ns() - began) // 1_000


class Delayed:
    """Answers after so many seconds, in a few pieces at once; asks for the tool first when there is one."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._took: dict[str, int] = {}

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        turn = request.effect_key.rpartition(":")[0]
        took_us = self._took.pop(turn, 0) + await waited(self._delay_s)
        if request.tools and request.messages[-1].role == "user":
            self._took[turn] = took_us
            return _ASK
        pieces = (*PIECES[:-1], f"{PIECES[-1]} {TOOK}{took_us}.")
        for piece in pieces:
            if on_delta is not None:
                on_delta(0, "text", piece)
        return ModelReply((Text("".join(pieces)),), Usage(990, 20), 42)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


def echo(delay_s: float) -> FastAPI:
    """The floor."""
    app = FastAPI()
    frame = b"event: response.output_text.delta\nid: 1\ndata: %b\n\n" % json.dumps({"delta": "d" * 300}).encode()

    async def frames() -> AsyncGenerator[bytes]:
        yield frame * 2
        took = b'data: {"delta":"%b%d."}\n\n' % (TOOK.encode(), await waited(delay_s))
        yield frame * (FRAMES - 3) + took + b"data: [DONE]\n\n"

    @app.post("/echo")
    async def say(request: Request) -> StreamingResponse:
        await request.json()
        return StreamingResponse(frames(), media_type="text/event-stream")

    return app


async def ours(url: str, delay_s: float, listener: socket.socket) -> None:
    """Serve a runtime over this database, with a worker and a real key."""
    model = Delayed(delay_s)
    agent = Agent("bench", model="m", instructions="Answer.", tools=[find])
    async with Remanence(url, agents=[agent], models={"m": model}, options=Options(model=model)) as rt:
        _, token = await create_key(rt.caller, "bench", scopes=("api",))
        async with served(build_app(rt, faces=faces()), listener):
            settle()
            await _stay(listener, key=token)


async def _stay(listener: socket.socket, **said: Any) -> None:
    print(json.dumps({"port": listener.getsockname()[1], **said}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def _floor(delay_s: float, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(echo(delay_s), log_config=None, access_log=False, lifespan="off", server_header=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await _stay(listener)
    server.should_exit = True
    await serving


def main() -> None:
    """`http_server.py URL|echo DELAY_S`."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind, delay_s = sys.argv[1], float(sys.argv[2])
    with listen("127.0.0.1", 0) as listener:
        asyncio.run(_floor(delay_s, listener) if kind == "echo" else ours(kind, delay_s, listener))


if __name__ == "__main__":
    main()
