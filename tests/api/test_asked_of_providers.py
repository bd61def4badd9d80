"""What a request asks of a model, on the wire of the provider: the vendor's client on one side, a real server that
speaks the provider's format on the other. What that received is what the model was asked; what no model of that format
can do is refused before anything is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from chat_server import Server, serving

from remanence import Agent, Remanence
from remanence.api.agents import agents_router
from remanence.api.agents_events import events_router
from remanence.api.agents_sessions import sessions_router
from remanence.api.chat import chat_router
from remanence.api.responses import responses_router
from remanence.commands.caller import state_of
from remanence.events import ModelReplied
from remanence.models.configuration import Api, ModelConfig
from remanence.models.prices import Prices
from remanence.models.scripted import Scripted
from remanence.ports import SessionQuery
from remanence.spec import ModelSettings
from remanence.testing.wire import Answer, WireServer

ROUTERS = (events_router, sessions_router, agents_router, responses_router, chat_router)
APIS: tuple[Api, ...] = ("chat", "responses", "anthropic")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}


@dataclass
class World:
    """Our server, and the provider behind its models `chat`, `responses` and `anthropic`."""

    server: Server
    provider: WireServer

    @property
    def client(self) -> Any:
        """The vendor's client, strict. Untyped: a test reads fields that not every arm of its unions has."""
        return self.server.client(max_retries=0)

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the last request that the provider received."""
        return self.provider.requests[-1].body

    async def sessions(self) -> int:
        return len(await self.server.rt.database.views.sessions(SessionQuery()))


@asynccontextmanager
async def world(
    folder: Path,
    *answers: Answer,
    prices: Prices | None = None,
    agents: Sequence[Agent] = (),
    reads: int | None = None,
) -> AsyncIterator[World]:
    """Both servers; the provider gives these answers in order, else always the same one."""
    given = list(answers)
    async with WireServer(lambda _: given.pop(0) if given else Answer(text="Yes.")) as provider:
        names: Mapping[Api, str] = {"chat": "qwen3:8b", "responses": "gpt-6-luna", "anthropic": "claude-sonnet-5-5"}
        configs = {
            api: ModelConfig(
                name=api,
                model=names[api],
                base_url=f"{provider.url}/v1",
                api=api,
                prices=prices,
                context_window=reads,
            )
            for api in APIS
        }
        options: Any = {"model_configs": configs, "models": {"script": Scripted()}, "agents": agents}
        async with (
            Remanence(f"sqlite:///{folder}/a.db", **options) as rt,
            serving(rt, [("/v1", router) for router in ROUTERS]) as server,
        ):
            yield World(server, provider)


async def test_a_response_asks_for_all_of_it(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="Yes.", service_tier="default")) as it:
        made = await it.client.responses.create(
            model="responses",
            input="hi",
            service_tier="flex",
            prompt_cache_key="shop",
            prompt_cache_retention="24h",
            reasoning={"effort": "low", "summary": "detailed"},
            text={"verbosity": "low", "format": {"type": "json_object"}},
        )
        assert {
            name: it.asked[name] for name in ("service_tier", "prompt_cache_key", "prompt_cache_retention", "text")
        } == {
            "service_tier": "flex",
            "prompt_cache_key": "shop",
            "prompt_cache_retention": "24h",
            "text": {"verbosity": "low", "format": {"type": "json_object"}},
        }
        assert (it.asked["reasoning"]["effort"], it.asked["reasoning"]["summary"]) == ("low", "detailed")
        assert made.service_tier == "default", "the tier that was used, not the one that was asked for"
        assert (made.prompt_cache_key, made.prompt_cache_retention) == ("shop", "24h")
        assert made.reasoning is not None
        assert (made.reasoning.effort, made.reasoning.summary) == ("low", "detailed")
        assert made.text is not None
        assert made.text.to_dict() == {"verbosity": "low", "format": {"type": "json_object"}}
        records = await (await it.server.rt.get(made.id.removeprefix("resp_").rpartition("_")[0])).history()
        assert [one.event.service_tier for one in records if isinstance(one.event, ModelReplied)] == ["default"]


async def test_chat_completions_behind_it_have_the_same_words(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="{}", service_tier="priority")) as it:
        made = await it.client.responses.create(
            model="chat",
            input="hi",
            service_tier="fast",
            prompt_cache_key="shop",
            text={"verbosity": "high", "format": {"type": "json_object"}},
        )
        assert (it.asked["service_tier"], it.asked["prompt_cache_key"], it.asked["verbosity"]) == (
            "fast",
            "shop",
            "high",
        )
        assert it.asked["response_format"] == {"type": "json_object"}
        assert made.service_tier == "priority"


@pytest.mark.parametrize("store", [True, False])
async def test_the_tier_is_told_when_it_is_known(tmp_path: Path, store: bool) -> None:
    async with world(tmp_path, Answer(text="Yes.", service_tier="priority")) as it:
        stream = await it.client.responses.create(
            model="responses", input="hi", service_tier="fast", store=store, stream=True
        )
        seen = [event.response.service_tier async for event in stream if hasattr(event, "response")]
        assert (seen[0], seen[-1]) == ("fast", "priority")


async def test_a_server_with_words_of_its_own_for_tiers(tmp_path: Path) -> None:
    """What the vendor's client does not know is not shown: the client would refuse the whole answer."""
    async with world(tmp_path, Answer(text="Yes.", service_tier="on_demand")) as it:
        assert (await it.client.responses.create(model="chat", input="hi")).service_tier == "default"


@pytest.mark.parametrize("strict", [True, False, None])
async def test_a_schema_is_as_strict_as_was_asked(tmp_path: Path, strict: bool | None) -> None:
    form: Any = {"type": "json_schema", "name": "sum", "schema": SCHEMA, "description": "A sum.", "strict": strict}
    async with world(tmp_path) as it:
        made = await it.client.responses.create(model="responses", input="hi", text={"format": form})
        sent = it.asked["text"]["format"]
        assert (sent["name"], sent["description"], sent["schema"]["properties"]) == (
            "sum",
            "A sum.",
            SCHEMA["properties"],
        )
        # A field that may be missing is nothing a provider can be held to; without a word of it, it is not asked to.
        assert bool(sent["strict"]) is bool(strict)
        assert ("required" in sent["schema"]) is bool(strict)
        assert made.text is not None
        assert made.text.to_dict()["format"]["name"] == "sum"
        await it.client.responses.create(model="anthropic", input="hi", text={"format": form})
        assert it.asked["output_config"]["format"]["schema"]["properties"] == SCHEMA["properties"]


async def test_a_summary_of_its_reasoning_is_shown(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="Yes.", thinking="Let me see.")) as it:
        made = await it.client.responses.create(model="responses", input="hi", reasoning={"summary": "concise"})
        assert it.asked["reasoning"]["summary"] == "concise"
        thought = made.output[0]
        assert thought.type == "reasoning"
        assert [part.text for part in thought.summary] == ["Let me see."]


async def test_the_older_name_of_a_summary(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        made = await it.client.responses.create(
            model="responses", input="hi", reasoning={"generate_summary": "detailed"}
        )
        assert it.asked["reasoning"]["summary"] == "detailed"
        assert made.reasoning is not None
        assert made.reasoning.summary == "detailed"


NOT_THERE: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"text": {"verbosity": "low"}}, "text.verbosity"),
    ("anthropic", {"text": {"format": {"type": "json_object"}}}, "text.format.type"),
    ("anthropic", {"service_tier": "flex"}, "service_tier"),
    ("anthropic", {"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
    ("anthropic", {"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
    ("chat", {"reasoning": {"summary": "concise"}}, "reasoning.summary"),
    ("responses", {"reasoning": {"effort": "high"}, "temperature": 0.5}, "temperature"),
]


@pytest.mark.parametrize(("model", "fields", "param"), NOT_THERE)
async def test_what_a_model_cannot_do_is_refused(
    tmp_path: Path, model: str, fields: dict[str, Any], param: str
) -> None:
    """With a 400 that names the field: nothing was sent, nothing was written. Not stored, it is the same."""
    async with world(tmp_path) as it:
        for store in (True, False):
            with pytest.raises(openai.BadRequestError) as refused:
                await it.client.responses.create(model=model, input="hi", store=store, **fields)
            assert refused.value.param == param
            assert "Nothing was written" in refused.value.message
        assert it.provider.requests == []
        assert await it.sessions() == 0


async def test_what_asks_for_nothing_is_taken_by_every_model(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        for model in APIS:
            made = await it.client.responses.create(
                model=model,
                input="hi",
                service_tier="auto",
                prompt_cache_key="a hint",
                reasoning={"summary": "auto"},
                text={"verbosity": "medium"},
            )
            assert (made.status, made.prompt_cache_key) == ("completed", "a hint")


async def test_a_dearer_tier_has_no_price_of_its_own(tmp_path: Path) -> None:
    """A budget in money covers no call of which nobody knows what it costs; a tier that is cheaper is covered."""
    prices = Prices(1_000_000, 2_000_000)
    async with world(tmp_path, prices=prices) as it:
        await it.server.rt.set_budget("agent:responses", usd="50")
        responses = it.client.responses
        made = await responses.create(model="responses", input="hi", service_tier="flex", background=True)
        async with await responses.retrieve(made.id, stream=True) as stream:
            assert [event.type async for event in stream][-1] == "response.completed"
        dear = await responses.create(model="responses", input="hi", service_tier="priority")
        assert (dear.status, dear.to_dict()["waiting_on"]) == (
            "in_progress",
            {"session": dear.id.removeprefix("resp_").rpartition("_")[0], "kind": "budget", "call": None},
        )
        assert len(it.provider.requests) == 1


async def test_a_window_is_cut_to_what_the_model_reads(tmp_path: Path) -> None:
    """With `auto`; what it was told is in the session all the same."""
    async with world(tmp_path, *[Answer(text="Yes.", counts=False)] * 40, reads=4_000) as it:
        responses, previous = it.client.responses, None
        for number in range(8):
            words = f"{number}: " + "word " * 600
            made = await responses.create(
                model="chat",
                input=words,
                truncation="auto",
                max_output_tokens=100,
                previous_response_id=previous.id if previous else None,
            )
            previous = made
        said = [m["content"] for m in it.asked["messages"] if m["role"] == "user" and "word word" in m["content"]]
        assert "7: " in said[-1]
        assert len(said) < 8
        assert sum(len(text) for text in said) < 4_000 * 5
        with pytest.raises(openai.BadRequestError) as refused:
            await responses.create(model="chat", input="word " * 5_000, truncation="disabled")
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


# --- Chat Completions -------------------------------------------------------------------------------------------------

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


CHAT_NOT_THERE: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"verbosity": "low"}, "verbosity"),
    ("anthropic", {"service_tier": "flex"}, "service_tier"),
    ("anthropic", {"frequency_penalty": 1.0}, "frequency_penalty"),
    ("anthropic", {"seed": 7}, "seed"),
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
    async with world(tmp_path) as it:
        create = it.client.chat.completions.create
        await create(model="chat", messages=HI, tools=tools, tool_choice=only("required", "a", "c"))
        assert [tool["function"]["name"] for tool in it.asked["tools"]] == ["a", "c"]
        assert it.asked["tool_choice"] == "required"
        with pytest.raises(openai.BadRequestError) as refused:
            await create(model="chat", messages=HI, tools=tools, tool_choice=only("auto", "a", "d"))
        assert refused.value.param == "tool_choice.allowed_tools.tools.1.function.name"


# --- the Agents API ---------------------------------------------------------------------------------------------------

ASKS: dict[str, Any] = {
    "reasoning": {"effort": "low", "summary": "concise"},
    "service_tier": "ultrafast",
    "text": {"format": {"type": "json_schema", "schema": SCHEMA}, "verbosity": "high"},
}


async def answered(sessions: Any, **fields: Any) -> Any:
    """A new session whose first turn is over."""
    stream = await sessions.create(environment={"type": "none"}, input="hi", stream=True, **fields)
    told = [event async for event in stream]
    assert "agent.session.turn.completed" in [event.type for event in told]
    return next(event.session for event in told if event.type == "agent.session.created")


async def test_an_agent_asks_for_all_of_it(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="{}", thinking="Let me see."), Answer(text="{}"), Answer(text="{}")) as it:
        agents = it.client.beta.agents
        made = await agents.create(model="responses", **ASKS)
        session = await answered(agents.sessions, agent_id=made.id)
        assert (it.asked["service_tier"], it.asked["text"]["verbosity"]) == ("ultrafast", "high")
        assert (it.asked["reasoning"]["effort"], it.asked["reasoning"]["summary"]) == ("low", "concise")
        for shown in (made, session.agent, (await agents.sessions.retrieve(session.id)).agent):
            assert (shown.service_tier, shown.text.verbosity) == ("ultrafast", "high")
            assert (shown.reasoning.effort, shown.reasoning.summary) == ("low", "concise")
        items = [item async for item in agents.sessions.items.list(session.id, order="asc")]
        assert "Let me see." in [part.text for item in items if item.type == "reasoning" for part in item.summary]
        changed = await agents.sessions.update(
            session.id, agent={"reasoning": {"effort": "high"}, "service_tier": None}
        )
        assert (changed.agent.reasoning.effort, changed.agent.reasoning.summary) == ("high", "concise")
        assert changed.agent.service_tier == "auto"
        await answered(agents.sessions, agent_id=made.id, agent={"text": None, "reasoning": {"effort": None}})
        assert "service_tier" in it.asked
        assert "verbosity" not in it.asked.get("text", {})
        assert "summary" not in it.asked.get("reasoning", {})


async def test_an_agent_in_code_keeps_what_it_asks_for(tmp_path: Path) -> None:
    settings = ModelSettings(verbosity="low", service_tier="scale", reasoning_summary="detailed", prompt_cache_key="k")
    agent = Agent("terse", model="responses", settings=settings)
    async with world(tmp_path, agents=[agent]) as it:
        sessions = it.client.beta.agents.sessions
        shown = (await answered(sessions, agent_id="terse", agent={"instructions": "Be kind."})).agent
        assert (shown.text.verbosity, shown.reasoning.summary, shown.service_tier) == ("low", "detailed", "auto")
        assert (it.asked["text"]["verbosity"], it.asked["service_tier"]) == ("low", "scale")
        assert (it.asked["reasoning"]["summary"], it.asked["prompt_cache_key"]) == ("detailed", "k")


AGENT_NOT_THERE: list[tuple[dict[str, Any], str]] = [
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"service_tier": "fast"}, "service_tier"),
    ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
]


@pytest.mark.parametrize(("fields", "param"), AGENT_NOT_THERE)
async def test_what_a_model_cannot_do_for_an_agent_is_refused(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    """When the agent is saved or changed, when a session opens and when it is changed."""
    async with world(tmp_path) as it:
        agents = it.client.beta.agents
        plain = await agents.create(model="anthropic")
        session = await agents.sessions.create(environment={"type": "none"}, agent_id=plain.id)
        asks: list[tuple[str, Any]] = [
            ("", agents.create(model="anthropic", **fields)),
            ("", agents.update(plain.id, **fields)),
            ("agent.", agents.sessions.create(environment={"type": "none"}, agent={"model": "anthropic", **fields})),
            ("agent.", agents.sessions.create(environment={"type": "none"}, agent_id=plain.id, agent=fields)),
        ]
        if "text" not in fields:
            asks.append(("agent.", agents.sessions.update(session.id, agent=fields)))
        for prefix, asking in asks:
            with pytest.raises(openai.BadRequestError) as refused:
                await asking
            assert refused.value.param == prefix + param
        assert await it.sessions() == 1
        assert it.provider.requests == []
