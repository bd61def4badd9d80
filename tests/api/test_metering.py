"""Calls that keep nothing are counted: also when the client leaves, and when the process dies."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from chat_server import KEY
from msgspec.structs import replace
from test_chat import chatting, stored, user

from remanence import Remanence
from remanence.api.chat.shapes import ChatBody
from remanence.app import Options
from remanence.commands.metering import LOST_AFTER_S, Meter, meter_of
from remanence.commands.metrics import Tally, exposition
from remanence.commands.usage import usage
from remanence.content import Message, Text, Usage
from remanence.errors import ModelError
from remanence.events import Event, ModelCalled, ModelFailed
from remanence.models.prices import Prices
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest, OnDelta, UsageQuery
from remanence.spec import ModelSettings
from remanence.testing.clock import FakeClock
from remanence.testing.scripted import says

SECRET = "what nobody else shall read"


async def journal(rt: Remanence) -> list[Event]:
    return [record.event for record in await rt.database.store.read(meter_of(rt.caller))]


async def test_a_client_that_leaves_aborts_the_call_and_pays_for_what_was_set_aside(tmp_path: Path) -> None:
    model = Scripted([says("a b c d e f g h", piece_s=0.2)], prices=Prices(1_000_000, 2_000_000))
    async with chatting(tmp_path, model) as server:
        await server.rt.set_budget("project:default", usd="1")
        stream = await server.client().chat.completions.create(model="test", messages=[user(SECRET)], stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        async with asyncio.timeout(60):
            while not isinstance((await journal(server.rt))[-1], ModelFailed):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        called, failed = (await journal(server.rt))[-2:]
        assert isinstance(called, ModelCalled)
        assert isinstance(failed, ModelFailed)
        assert (failed.kind, failed.cost_usd_micros) == ("cancelled", called.reserved_usd_micros)
        (budget,) = await server.rt.database.controls.budgets("project:default")
        assert (budget.spent, budget.reserved) == (called.reserved_usd_micros, 0)


def request() -> ModelRequest:
    said = (Message("user", (Text(SECRET),)),)
    return ModelRequest("test", "", said, (), ModelSettings(), 10, 60.0, "")


async def test_a_call_whose_process_died_is_settled_once(tmp_path: Path) -> None:
    clock = FakeClock()
    model = Scripted([says("hello", usage=Usage(5, 5))])
    options = Options(clock=clock)
    async with Remanence(f"sqlite:///{tmp_path}/a.db", models={"test": model}, worker=False, options=options) as rt:
        await rt.set_budget("project:default", tokens=1_000_000)
        await rt.set_budget("user:ada", tokens=1_000_000)
        _, called, _ = await Meter(rt.model)._reserve(rt.caller, request(), "ada")  # and there its process ends
        await Meter(rt.model).reply(rt.caller, request(), None)
        (budget,) = await rt.database.controls.budgets("project:default")
        assert (budget.spent, budget.reserved) == (10, called.reserved_tokens)
        clock.advance(LOST_AFTER_S)
        first, second = Meter(rt.model), Meter(rt.model)
        await first.reply(rt.caller, request(), None)
        await second.reply(rt.caller, request(), None)
        (budget,) = await rt.database.controls.budgets("project:default")
        assert (budget.spent, budget.reserved) == (30 + called.reserved_tokens, 0)
        (budget,) = await rt.database.controls.budgets("user:ada")
        assert (budget.spent, budget.reserved) == (called.reserved_tokens, 0)
        lost = [event for event in await journal(rt) if isinstance(event, ModelFailed)]
        assert [(event.call, event.kind) for event in lost] == [(called.call, "lost")]
        rows, _ = await usage(rt.caller, UsageQuery(by=("agent", "model")))
        assert [(row.key, row.calls) for row in rows] == [(("chat-completions", "test"), 4)]
    assert SECRET.encode() not in stored(tmp_path)


class Strange(Scripted):
    """A model of somebody's own, which hands back or raises something odd."""

    def __init__(self, odd: Any) -> None:
        super().__init__([], prices=Prices(1_000_000, 2_000_000))
        self.odd = odd

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if isinstance(self.odd, Exception):
            raise self.odd
        return self.odd


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (ValueError("half \ud800 a character"), "half ? a character"),
        (None, "NoneType"),
        (ModelReply((Text("hello"),), Usage(-5, -5)), "-5 was used"),
        (ModelReply((Text("hello"),), Usage(5, 5), cost_usd_micros=-900_000), "-900000 was used"),
    ],
)
async def test_whatever_a_model_does_is_paid_for_and_said(tmp_path: Path, odd: Any, says: str) -> None:
    async with chatting(tmp_path, Strange(odd)) as server:
        chats = server.client().with_options(max_retries=0).chat.completions
        await server.rt.set_budget("project:default", usd="1")
        with pytest.raises(openai.InternalServerError, match=re.escape(says)) as refused:
            await chats.create(model="test", messages=[user(SECRET)])
        assert refused.value.status_code == 502
        with pytest.raises(openai.APIError, match=re.escape(says)):
            await anext(aiter(await chats.create(model="test", messages=[user(SECRET)], stream=True)))
        first, second = (event for event in await journal(server.rt) if isinstance(event, ModelCalled))
        (budget,) = await server.rt.database.controls.budgets("project:default")
        assert (budget.spent, budget.reserved) == (first.reserved_usd_micros + second.reserved_usd_micros, 0)


class Stubborn(Scripted):
    """Never answers while it is not let go, and does not let itself be cancelled."""

    def __init__(self) -> None:
        super().__init__([says("hello", usage=Usage(5, 5))])
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if on_delta is not None:
            on_delta(0, "text", "hel")
        while not self.let_go.is_set():
            self.asked.set()
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()
        return await super().reply(request, on_delta)


async def test_a_model_that_does_not_stop_holds_up_neither_a_call_nor_a_cancel(tmp_path: Path) -> None:
    model = Stubborn()
    async with Remanence(f"sqlite:///{tmp_path}/a.db", models={"test": model}, worker=False) as rt:
        await rt.set_budget("user:ada", tokens=1_000_000)
        meter = Meter(rt.model)
        late = meter.reply(rt.caller, replace(request(), timeout_s=0.05), None, user="ada")
        left = asyncio.create_task(meter.reply(rt.caller, request(), None, user="ada"))
        await model.asked.wait()
        left.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(ModelError, match="did not stop when it was told to; nothing was kept") as failed:
                await late
            with pytest.raises(asyncio.CancelledError):
                await left
        assert failed.value.kind == "timeout"
        called = [event for event in await journal(rt) if isinstance(event, ModelCalled)]
        kinds = [event.kind for event in await journal(rt) if isinstance(event, ModelFailed)]
        assert sorted(kinds) == ["cancelled", "timeout"]
        (budget,) = await rt.database.controls.budgets("user:ada")
        assert (budget.spent, budget.reserved) == (sum(one.reserved_tokens for one in called), 0)
        model.let_go.set()
        assert (await meter.reply(rt.caller, request(), None)).parts == (Text("hello"),)


async def test_a_client_is_not_kept_by_a_model_that_does_not_stop(tmp_path: Path) -> None:
    model = Stubborn()
    async with chatting(tmp_path, model) as server:
        chats = server.client().chat.completions
        stream = await chats.create(model="test", messages=[user(SECRET)], stream=True)
        await stream.close()
        async with asyncio.timeout(60):
            while not isinstance((await journal(server.rt))[-1], ModelFailed):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        model.let_go.set()
        assert (await chats.create(model="test", messages=[user("hi")])).choices[0].message.content == "hello"


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    "",
    "x" * 300,
    "\x00",
    [],
    [None],
    [[]],
    {},
    {"type": "x"},
    [{"role": 1}],
]


async def test_no_body_is_too_odd(tmp_path: Path) -> None:
    async with chatting(tmp_path) as server, httpx2.AsyncClient(base_url=server.url, timeout=60) as http:

        async def ask(field: str, odd: Any) -> None:
            body = {"model": "test", "messages": [user("hello")], field: odd}
            answer = await http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})
            assert answer.status_code in (200, 400, 404), (field, odd, answer.text)
            if answer.status_code == 400:
                assert answer.json()["error"]["param"].startswith(field), (field, odd, answer.text)

        for field in ChatBody.model_fields:
            # Together, because calls that are metered at the same time share a commit.
            await asyncio.gather(*(ask(field, odd) for odd in ODD))


async def test_calls_are_metered_on_postgres_too(postgres_database: str) -> None:
    model = Scripted([says("hello", usage=Usage(5, 5))])
    async with Remanence(postgres_database, models={"test": model}, worker=False) as rt:
        await rt.set_budget("user:ada", tokens=1_000_000)
        meter = Meter(rt.model)
        await asyncio.gather(*(meter.reply(rt.caller, request(), None, user="ada") for _ in range(5)))
        (budget,) = await rt.database.controls.budgets("user:ada")
        assert (budget.spent, budget.reserved) == (50, 0)
        text = await exposition(rt.caller, Tally(), held=None)
        assert 'remanence_model_calls_total{model="test"} 5\n' in text
        assert "remanence_database_bytes " in text
