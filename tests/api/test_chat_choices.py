"""Several answers to one question over Chat Completions, as the vendor's client sees them, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from chat_server import Server, serving

from remanence import Agent, Remanence
from remanence.api.chat.answer import Heading
from remanence.api.chat.choices import begun, choices_in_chunks
from remanence.api.chat.completions import chat_router
from remanence.api.chat.direct import direct
from remanence.api.chat.request import asked_of
from remanence.api.chat.shapes import ChatBody
from remanence.commands.metering import Meter, meter_of
from remanence.content import Text, ToolCall, Usage, text_of
from remanence.errors import ModelError
from remanence.events import ModelReplied
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest, OnDelta

ASKED: Any = {"model": "test", "messages": [{"role": "user", "content": "hello"}]}
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {}}}


class Counting(Scripted):
    """Numbers its answers, in the order they were asked for; says a piece of each before the next."""

    def __init__(self, *, breaks: int = 0) -> None:
        super().__init__()
        self.asked = 0
        self.ended = 0
        self._breaks = breaks

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        self.asked += 1
        number = self.asked
        try:
            for word in (f"{number}: ", *text_of(request.messages[-1].parts)):
                if on_delta is not None:
                    on_delta(0, "text", word)
                await asyncio.sleep(0)
            if number == self._breaks:
                raise ModelError("It broke.", kind="invalid_request")
            if self._breaks:
                await asyncio.Event().wait()
        finally:
            self.ended += 1
        said = Text(f"{number}: {text_of(request.messages[-1].parts)}")
        calls = tuple(ToolCall("c", tool.name, "{}") for tool in request.tools)
        return ModelReply((said, *calls), Usage(10, number), stop="tool_calls" if calls else "stop")


@asynccontextmanager
async def chatting(folder: Path, model: Scripted, **options: Any) -> AsyncIterator[Server]:
    async with (
        Remanence(f"sqlite:///{folder}/a.db", models={"test": model}, **options) as rt,
        serving(rt, [("/v1", chat_router)]) as server,
    ):
        yield server


async def test_each_choice_is_a_call_and_all_of_them_are_counted(tmp_path: Path) -> None:
    async with chatting(tmp_path, model := Counting()) as server:
        made = await server.client().chat.completions.create(**ASKED, n=3, extra_headers={"Idempotency-Key": "one"})
        assert [choice.index for choice in made.choices] == [0, 1, 2]
        assert sorted(choice.message.content or "" for choice in made.choices) == ["1: hello", "2: hello", "3: hello"]
        assert made.usage is not None
        assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (30, 6, 36)
        again = await server.client().chat.completions.create(**ASKED, n=3, extra_headers={"Idempotency-Key": "one"})
        assert (again.to_dict(), model.asked) == (made.to_dict(), 3)
        records = await server.rt.database.store.read(meter_of(server.rt.caller))
        counted = [one.event.usage.total_tokens for one in records if isinstance(one.event, ModelReplied)]
        assert sorted(counted) == [11, 12, 13]


@pytest.mark.parametrize("counted", [True, False])
async def test_a_stream_tells_them_side_by_side(tmp_path: Path, counted: bool) -> None:
    async with chatting(tmp_path, Counting()) as server:
        options: Any = {"stream_options": {"include_usage": True, "include_obfuscation": True}} if counted else {}
        stream = await server.client().chat.completions.create(**ASKED, n=3, stream=True, tools=[TOOL], **options)
        words, calls, ends, used = ["", "", ""], ["", "", ""], dict[int, str](), list[int]()
        async for chunk in stream:
            used += [chunk.usage.total_tokens] if chunk.usage else []
            for choice in chunk.choices:
                words[choice.index] += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    calls[choice.index] += (call.function and call.function.name) or ""
                if choice.finish_reason:
                    assert choice.index not in ends
                    ends[choice.index] = choice.finish_reason
        assert sorted(words) == ["1: hello", "2: hello", "3: hello"]
        assert (calls, ends) == (["look"] * 3, dict.fromkeys(range(3), "tool_calls"))
        assert used == ([36] if counted else [])


@pytest.mark.parametrize("stream", [True, False])
async def test_when_one_fails_the_others_are_ended(tmp_path: Path, stream: bool) -> None:
    async with chatting(tmp_path, model := Counting(breaks=2)) as server:
        create: Any = server.client(max_retries=0).chat.completions.create

        async def told() -> None:
            made = await create(**ASKED, n=3, stream=stream)
            async for _ in made:
                pass

        with pytest.raises(openai.APIError, match="It broke"):
            await told()
        assert model.asked == model.ended >= 2  # the third may not even have been asked by then


async def test_who_stops_listening_ends_the_calls_also_when_their_pieces_wait_to_be_told(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/a.db", models={"test": (model := Counting(breaks=9))}) as rt:
        asked, meter = asked_of(ChatBody.model_validate(ASKED)), Meter(rt.model)
        answers = await begun([direct(meter, rt.caller, asked, live=True) for _ in range(3)])
        telling = choices_in_chunks(Heading("chatcmpl", 0, "test", None), answers, usage=False)
        await anext(telling)  # there is room for three pieces: more than one teller waits for some
        await telling.aclose()
        assert (model.asked, model.ended) == (3, 3)


async def test_a_session_has_one_answer(tmp_path: Path) -> None:
    async with chatting(tmp_path, model := Counting(), agents=[Agent("support", model="test")]) as server:
        create: Any = server.client().chat.completions.create
        for asked in ({**ASKED, "extra_headers": {"x-session-id": "new"}}, {**ASKED, "model": "support"}):
            with pytest.raises(openai.BadRequestError, match="goes on from one answer") as caught:
                await create(**asked, n=2)
            assert caught.value.param == "n"
            assert (await create(**asked, n=1)).choices[0].message.content == f"{model.asked}: hello"
