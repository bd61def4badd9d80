"""The same turn of a chat session, sent many times at once under one key: asked once, answered alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chat_server import Server, serving

from remanence import Remanence
from remanence.api.chat.completions import chat_router
from remanence.content import Text
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

AT_ONCE = 8


def script(request: ModelRequest) -> ModelReply:
    return ModelReply((Text(f"heard {len(request.messages)}"),))


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
async def server(database: str, model: Scripted) -> AsyncIterator[Server]:
    async with Remanence(database, models={"m": model}) as rt, serving(rt, [("/v1", chat_router)]) as made:
        yield made


async def tell(server: Server, messages: list[Any], session: str, key: str) -> tuple[str, Any]:
    headers = {"x-session-id": session, "idempotency-key": key}
    completions = server.client(max_retries=0).chat.completions.with_raw_response
    answer = await completions.create(model="m", messages=messages, extra_headers=headers)
    return answer.headers["x-session-id"], answer.parse()


async def test_it_is_one_answer(server: Server, model: Scripted) -> None:
    history: list[Any] = []
    session = "new"
    for turn in range(1, 5):
        history.append({"role": "user", "content": f"question {turn}"})
        told = await asyncio.gather(*(tell(server, history, session, f"key {turn}") for _ in range(AT_ONCE)))
        assert len({name for name, _ in told}) == 1
        assert len({(made.id, made.created, made.choices[0].message.content) for _, made in told}) == 1
        assert len(model.requests) == turn
        again_in, again = await tell(server, history, session, f"key {turn}")
        assert (again_in, again.id, again.created) == (told[0][0], told[0][1].id, told[0][1].created)
        session, made = told[0]
        history.append({"role": "assistant", "content": made.choices[0].message.content})


async def test_a_session_is_opened_by_whatever_may_be_said(server: Server) -> None:
    """Its title is made of the first words, and not every database could hold all that these may be."""
    for number, words in enumerate(("a\x00b", "\x00", "\U0001f9ed \u202e \x07", "x" * 10_000)):
        _, made = await tell(server, [{"role": "user", "content": words}], "new", f"words {number}")
        assert made.choices[0].message.content == "heard 1"
