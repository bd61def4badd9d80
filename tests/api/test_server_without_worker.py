"""A server without a worker, and a worker beside it: the streams of the vendors' clients are those of one process.

Neither knows of the other. What is between them may lose messages, double them, and change their order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from chat_server import Server, serving
from typist import Attempt, Typist

from remanence import Remanence
from remanence.api.chat.completions import chat_router
from remanence.api.responses.responses import responses_router
from remanence.app import Options, open_database
from remanence.content import Text, ToolCall
from remanence.ports import Bus
from remanence.runtime.around import DatabaseAround
from remanence.runtime.services import Times
from remanence.testing.bus import UnreliableBus

TIMES = Times(linger_s=0.05, poll_s=0.02, retry_base_s=0.001, retry_cap_s=0.002)
FIND: Any = {
    "type": "function",
    "function": {"name": "find", "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}},
}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@asynccontextmanager
async def apart(url: str, model: Typist, around: Callable[[Bus], Bus] = lambda bus: bus) -> AsyncIterator[Server]:
    """A worker, and a server that has none."""
    beside = await open_database(url)
    given = DatabaseAround(beside)
    given.bus = around(beside.bus)
    worker = Remanence(url, models={"test": model}, options=Options(times=TIMES))
    faces = Remanence(models={"test": model}, worker=False, options=Options(times=TIMES, database=given))
    try:
        async with worker, faces, serving(faces, [("/v1", chat_router), ("/v1", responses_router)]) as server:
            yield server
    finally:
        await beside.close()


async def chat_of(server: Server, **fields: Any) -> Any:
    messages: Any = [{"role": "user", "content": "Say it."}]
    client = server.client(max_retries=0)
    return await client.chat.completions.create(
        model="test", messages=messages, stream=True, extra_headers={"x-session-id": "new"}, **fields
    )


async def response_of(server: Server) -> Any:
    return await server.client(max_retries=0).responses.create(model="test", input="Say it.", stream=True)


def words_of(event: Any) -> str:
    """The text that an event of either format brings."""
    if getattr(event, "object", "") == "chat.completion.chunk":
        return "".join(choice.delta.content or "" for choice in event.choices)
    return event.delta if event.type == "response.output_text.delta" else ""


@pytest.mark.parametrize("ask", [chat_of, response_of])
async def test_words_come_while_they_are_said(url: str, ask: Callable[[Server], Awaitable[Any]]) -> None:
    said = Text("One answer, in good time.")
    pieces: list[Any] = [(0, "text", said.text[at : at + 5]) for at in range(0, len(said.text), 5)]
    model = Typist([Attempt(pieces, reply=[said])])
    async with apart(url, model) as server, asyncio.timeout(60):
        heard = ""
        model.let(2)
        async for event in await ask(server):
            heard += words_of(event)
            if heard == said.text[:10]:
                assert model.typed == 2
                model.let(100)
        assert heard == said.text


async def test_whatever_is_lost_between_them_an_answer_is_whole(url: str) -> None:
    """A client of Chat Completions puts pieces together, and cannot be told that one was missing."""
    said = Text(" ".join(map(str, range(30))))
    call = ToolCall("x", "find", '{"id": "42"}')
    pieces: list[Any] = [(0, "text", said.text[at : at + 4]) for at in range(0, len(said.text), 4)]
    pieces += [(1, "tool_name", "find"), *((1, "tool_arguments", piece) for piece in ('{"id"', ': "4', '2"}'))]
    dice = random.Random(7)
    model = Typist([Attempt(pieces, reply=[said, call])])
    async with apart(url, model, lambda bus: UnreliableBus(bus, dice)) as server, asyncio.timeout(120):
        for _ in range(8):
            letting = asyncio.create_task(let_slowly(model, len(pieces) + 1, dice))
            text, name, arguments = "", "", ""
            async for chunk in await chat_of(server, tools=[FIND]):
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    for one in choice.delta.tool_calls or ():
                        name += one.function.name or ""
                        arguments += one.function.arguments or ""
            await letting
            assert (text, name, arguments) == (said.text, call.name, call.arguments)


async def let_slowly(model: Typist, pieces: int, dice: random.Random) -> None:
    for _ in range(pieces):
        await asyncio.sleep(dice.choice((0, 0.01, 0.02)))
        model.let(1)
