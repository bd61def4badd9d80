"""Responses in the background, looked at and cancelled at every moment of their short lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from chat_server import Server, serving

from remanence import Remanence
from remanence.api.responses.responses import responses_router
from remanence.models.scripted import Scripted, Step

AT_ONCE = 3
MOMENTS = 12


@pytest.fixture
async def server(database: str) -> AsyncIterator[Server]:
    model = Scripted((Step("one two three"),))
    async with (
        Remanence(database, models={"m": model}, worker=True) as rt,
        serving(rt, [("/v1", responses_router)]) as it,
    ):
        yield it


async def test_it_begins_queued_however_fast_it_is_answered(server: Server) -> None:
    responses = server.client().responses
    for _ in range(MOMENTS):
        made = await responses.create(model="m", input="hello", background=True)
        assert (made.status, made.output, made.usage) == ("queued", [], None)


async def test_it_is_cancelled_or_it_was_completed_and_nothing_else(server: Server) -> None:
    """Several cancel at once, at another moment each time; whoever is told something is told what is so."""
    responses = server.client(max_retries=0).responses
    for moment in range(MOMENTS):
        made = await responses.create(model="m", input="hello", background=True)
        for _ in range(moment):
            await responses.retrieve(made.id)
        told = await asyncio.gather(*(responses.cancel(made.id) for _ in range(AT_ONCE)), return_exceptions=True)
        now: Any = await responses.retrieve(made.id)
        for one in told:
            if isinstance(one, BaseException):
                assert isinstance(one, openai.BadRequestError), one
                assert "Cannot cancel a completed response" in one.message
                assert now.status == "completed"
            else:
                assert one.status == now.status == "cancelled"
