"""What a chat asks of a model, alone and in a session, on the wire of the provider; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from asked_world import LIKELY, PIECES, world

from remanence.commands.caller import state_of
from remanence.testing.wire import Answer, WireCall

HI: Any = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("session", [{}, {"extra_headers": {"x-session-id": "new"}}], ids=["alone", "in a session"])
async def test_a_chat_asks_for_all_of_it(tmp_path: Path, session: dict[str, Any]) -> None:
    asked: dict[str, Any] = {
        "service_tier": "flex",
        "prompt_cache_key": "shop",
        "prompt_cache_retention": "24h",
        "verbosity": "low",
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "logit_bias": {"42": 10},
        "response_format": {"type": "json_object"},
    }
    async with world(tmp_path, Answer(text='{"a": 1}', service_tier="flex")) as it:
        made = await it.client.chat.completions.create(
            model="chat", messages=HI, stop=["END"], metadata={"a": "b"}, **asked, **session
        )
        assert {name: it.asked[name] for name in asked} == asked
        assert it.asked["stop"] == ["END"]
        assert (made.service_tier, made.metadata) == ("flex", {"a": "b"})


@pytest.mark.parametrize("session", [{}, {"extra_headers": {"x-session-id": "new"}}], ids=["alone", "in a session"])
async def test_the_tier_of_a_chat_is_told_at_its_end(tmp_path: Path, session: dict[str, Any]) -> None:
    async with world(tmp_path, Answer(text="Yes.", service_tier="priority"), Answer(text="Yes.")) as it:
        create = it.client.chat.completions.create
        chunks = [c async for c in await create(model="chat", messages=HI, stream=True, service_tier="fast", **session)]
        assert (chunks[0].service_tier, chunks[-1].service_tier) == ("fast", "priority")
        assert (await create(model="chat", messages=HI, service_tier="auto", **session)).service_tier == "default"
        assert (await create(model="chat", messages=HI, **session)).service_tier is None


async def test_what_a_model_has_no_mode_for_is_done_here_without_a_session(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text='{"a": 1} and more'), Answer(text="one two three")) as it:
        create = it.client.chat.completions.create
        with pytest.raises(openai.APIStatusError, match="JSON object"):
            await create(model="anthropic", messages=HI, response_format={"type": "json_object"})
        assert "JSON object" in str(it.asked["system"])
        made = await create(model="responses", messages=HI, stop=" three")
        assert made.choices[0].message.content == "one two"
        assert "stop" not in it.asked, "the Responses format has no such word"


@pytest.mark.parametrize("session", [{}, {"extra_headers": {"x-session-id": "new"}}], ids=["alone", "in a session"])
async def test_how_likely_the_tokens_of_a_chat_were(tmp_path: Path, session: dict[str, Any]) -> None:
    async with world(tmp_path, LIKELY, LIKELY) as it:
        create = it.client.chat.completions.create
        made = await create(model="chat", messages=HI, logprobs=True, top_logprobs=2, **session)
        assert (it.asked["logprobs"], it.asked["top_logprobs"]) == (True, 2)
        assert [one.token for one in made.choices[0].logprobs.content] == PIECES
        assert made.choices[0].logprobs.content[0].top_logprobs[1].token == "?"
        stream = await create(model="chat", messages=HI, logprobs=True, stream=True, **session)
        told = [choice.logprobs async for chunk in stream for choice in chunk.choices]
        assert [one.token for one in told[-1].content] == PIECES
        plain = await create(model="chat", messages=HI, **session)
        assert plain.choices[0].logprobs is None


CHAT_NOT_THERE: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"verbosity": "low"}, "verbosity"),
    ("anthropic", {"service_tier": "flex"}, "service_tier"),
    ("anthropic", {"frequency_penalty": 1.0}, "frequency_penalty"),
    ("anthropic", {"seed": 7}, "seed"),
    ("anthropic", {"logprobs": True}, "logprobs"),
    ("chat", {"top_logprobs": 2}, "top_logprobs"),
    ("responses", {"logit_bias": {"42": 1}}, "logit_bias"),
    ("responses", {"stop": "END", "extra_headers": {"x-session-id": "new"}}, "stop"),
    (
        "anthropic",
        {"response_format": {"type": "json_object"}, "extra_headers": {"x-session-id": "new"}},
        "response_format.type",
    ),
]


@pytest.mark.parametrize(("model", "fields", "param"), CHAT_NOT_THERE)
async def test_what_a_model_cannot_do_in_a_chat_is_refused(
    tmp_path: Path, model: str, fields: dict[str, Any], param: str
) -> None:
    async with world(tmp_path) as it:
        with pytest.raises(openai.BadRequestError) as refused:
            await it.client.chat.completions.create(model=model, messages=HI, **fields)
        assert refused.value.param == param
        assert it.provider.requests == []
        assert await it.sessions() == 0


async def test_a_session_carries_the_metadata_of_its_chats(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        raw = it.client.chat.completions.with_raw_response
        first = await raw.create(model="chat", messages=HI, metadata={"a": "1"}, extra_headers={"x-session-id": "new"})
        session = first.headers["x-session-id"]
        more: Any = [*HI, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "and?"}]
        there = {"extra_headers": {"x-session-id": session}}
        again = await raw.create(model="chat", messages=more, metadata={"b": "2"}, **there)
        assert again.headers["x-session-id"] == session
        assert (await state_of(it.server.rt.caller, session)).metadata == {"a": "1", "b": "2"}
        many = {f"k{number}": "" for number in range(15)}
        with pytest.raises(openai.BadRequestError) as refused:
            await raw.create(model="chat", messages=[*more, *more[1:]], metadata=many, **there)
        assert refused.value.param == "metadata"


async def test_the_functions_that_may_be_called(tmp_path: Path) -> None:
    def function(name: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}

    def only(mode: str, *names: str) -> dict[str, Any]:
        tools = [{"type": "function", "function": {"name": name}} for name in names]
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}

    tools = [function("a"), function("b"), function("c")]
    async with world(tmp_path, Answer(calls=(WireCall("1", "c", "{}"),))) as it:
        create = it.client.chat.completions.create
        await create(model="chat", messages=HI, tools=tools, tool_choice=only("required", "a", "c"))
        assert [tool["function"]["name"] for tool in it.asked["tools"]] == ["a", "c"]
        assert it.asked["tool_choice"] == "required"
        with pytest.raises(openai.BadRequestError) as refused:
            await create(model="chat", messages=HI, tools=tools, tool_choice=only("auto", "a", "d"))
        assert refused.value.param == "tool_choice.allowed_tools.tools[1].function.name"
