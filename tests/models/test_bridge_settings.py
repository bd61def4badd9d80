"""What an agent's settings, tools and files become on the wire, and what is refused rather than dropped."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from asking import Ask, OpenGateway

from remanence.content import File, Image, Message, Opaque, Text, ToolCall, ToolResult
from remanence.errors import ModelError, NotFound
from remanence.models.configuration import Api, ModelConfig
from remanence.models.gateway import Gateway
from remanence.spec import ModelSettings, ToolSpec
from remanence.testing.wire import Answer, WireServer

YES = Answer(text="Yes.")
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
every_api = pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])


async def body_of(gateway: Gateway, server: WireServer, request: Any) -> dict[str, Any]:
    await gateway.reply(request, None)
    return server.requests[-1].body


async def refusal_of(gateway: Gateway, server: WireServer, request: Any) -> str:
    with pytest.raises(ModelError) as caught:
        await gateway.reply(request, None)
    assert caught.value.kind == "invalid_request"
    assert server.requests == [], "nothing may be sent"
    return caught.value.message


@every_api
async def test_instructions_tools_and_limits_are_sent(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([YES]) as server:
        body = await body_of(gateway_to(server, api), server, ask(output_tokens=321))
    assert "Be brief." in str(body.get("instructions") or body.get("system") or body["messages"][0])
    assert 321 in (body.get("max_tokens"), body.get("max_output_tokens"))
    assert body["model"] == "some-model"
    tools = [tool.get("function", tool) for tool in body["tools"]]
    assert [tool["name"] for tool in tools] == ["find_order", "find_mail"]
    assert tools[0].get("parameters", tools[0].get("input_schema"))["properties"] == {"order": {"type": "string"}}


@pytest.mark.parametrize(("model", "field"), [("qwen3:8b", "max_tokens"), ("gpt-6-luna", "max_completion_tokens")])
async def test_the_bound_of_a_reply_has_the_name_the_model_knows(
    model: str, field: str, ask: Ask, gateway_to: OpenGateway
) -> None:
    async with WireServer([YES]) as server:
        body = await body_of(gateway_to(server, model=model), server, ask())
    assert [name for name in body if name.startswith("max_")] == [field]


async def test_sampling_settings(ask: Ask, gateway_to: OpenGateway) -> None:
    settings = ModelSettings(temperature=0.25, top_p=0.5, seed=7, parallel_tool_calls=False, extra={"top_k": 3})
    async with WireServer([YES]) as server:
        body = await body_of(gateway_to(server), server, ask(settings=settings))
    wanted = {"temperature": 0.25, "top_p": 0.5, "seed": 7, "parallel_tool_calls": False, "top_k": 3}
    assert {name: body[name] for name in wanted} == wanted


@pytest.mark.parametrize("choice", ["auto", "none", "required", "find_mail"])
async def test_tool_choice(choice: str, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([YES, YES, YES]) as server:
        request = ask(settings=ModelSettings(tool_choice=choice))
        chat = await body_of(gateway_to(server, "chat"), server, request)
        responses = await body_of(gateway_to(server, "responses"), server, request)
        claude = await body_of(gateway_to(server, "anthropic"), server, request)
    if choice == "find_mail":
        assert chat["tool_choice"] == {"type": "function", "function": {"name": "find_mail"}}
        assert responses["tool_choice"] == {"type": "function", "name": "find_mail"}
        assert claude["tool_choice"] == {"type": "tool", "name": "find_mail"}
    else:
        assert chat["tool_choice"] == responses["tool_choice"] == choice
        assert claude["tool_choice"] == {"type": {"required": "any"}.get(choice, choice)}


async def test_a_schema_for_the_reply(ask: Ask, gateway_to: OpenGateway) -> None:
    request = ask(settings=ModelSettings(output_schema=SCHEMA))
    async with WireServer([YES, YES, YES]) as server:
        chat = await body_of(gateway_to(server, "chat"), server, request)
        responses = await body_of(gateway_to(server, "responses"), server, request)
        claude = await body_of(gateway_to(server, "anthropic", model="claude-sonnet-5-5"), server, request)
    assert chat["response_format"]["json_schema"]["schema"]["required"] == ["ok"]
    assert responses["text"]["format"]["schema"]["required"] == ["ok"]
    assert claude["output_config"]["format"]["schema"]["required"] == ["ok"]
    assert SCHEMA["properties"] == {"ok": {"type": "boolean"}}, "the specification itself is left alone"


async def test_reasoning_effort(ask: Ask, gateway_to: OpenGateway) -> None:
    request = ask(settings=ModelSettings(reasoning_effort="low"))
    async with WireServer([YES, YES, YES]) as server:
        chat = await body_of(gateway_to(server, "chat"), server, request)
        responses = await body_of(gateway_to(server, "responses"), server, request)
        claude = await body_of(gateway_to(server, "anthropic", model="claude-sonnet-5-5"), server, request)
    assert chat["reasoning_effort"] == "low"
    assert responses["reasoning"]["effort"] == "low"
    assert claude["thinking"] == {"type": "adaptive"}
    assert claude["output_config"] == {"effort": "low"}


@pytest.mark.parametrize(
    ("effort", "tokens", "budget"), [("high", 4_096, 3_072), ("high", 20_000, 16_384), ("low", 4_096, 2_048)]
)
async def test_a_budget_for_thoughts_leaves_room_for_words(
    effort: str, tokens: int, budget: int, ask: Ask, gateway_to: OpenGateway
) -> None:
    """Anthropic refuses a request whose `max_tokens` is not above it: nearly each, by our usual limit."""
    request = ask(settings=ModelSettings(reasoning_effort=effort), output_tokens=tokens)
    async with WireServer([YES]) as server:
        body = await body_of(gateway_to(server, "anthropic", model="claude-haiku-4-5"), server, request)
    assert (body["max_tokens"], body["thinking"]) == (tokens, {"type": "enabled", "budget_tokens": budget})


async def test_thoughts_that_have_no_room_at_all_are_refused(ask: Ask, gateway_to: OpenGateway) -> None:
    request = ask(settings=ModelSettings(reasoning_effort="low"), output_tokens=1_000)
    async with WireServer([]) as server:
        gateway = gateway_to(server, "anthropic", model="claude-haiku-4-5")
        assert "thinks 1,024 tokens at least" in await refusal_of(gateway, server, request)


async def test_prompt_caching_is_asked_for_only_when_configured(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([YES, YES]) as server:
        plain = await body_of(gateway_to(server, "anthropic", model="claude-sonnet-5-5"), server, ask())
        cached = await body_of(gateway_to(server, "anthropic", model="claude-sonnet-5-5", cache=True), server, ask())
    assert "cache_control" not in str(plain)
    assert "cache_control" in str(cached)


async def test_a_tool_among_some(ask: Ask, gateway_to: OpenGateway) -> None:
    request = ask(settings=ModelSettings(tool_choice="required", tool_choice_among=("find_mail",)))
    async with WireServer([YES]) as server:
        body = await body_of(gateway_to(server, "responses"), server, request)
    assert body["tool_choice"] == {"type": "function", "name": "find_mail"}


async def test_what_cannot_be_asked_is_known_before(ask: Ask, gateway_to: OpenGateway) -> None:
    """The same is refused as when it is sent; of a model that cannot be called, only the call says so."""
    async with WireServer([]) as server:
        gateway = gateway_to(server, "anthropic", model="claude-sonnet-5-5")
        found = await gateway.unfit("m", ModelSettings(seed=7), ())
        assert found is not None
        assert (found.setting, found.kind) == ("seed", "invalid_request")
        assert await gateway.unfit("m", ModelSettings(stop=("END",)), ()) is None
        for nobody in ("openai:gpt-6-luna", "bedrock:x", "nobody:knows"):
            assert await gateway.unfit(nobody, ModelSettings(seed=7), ()) is None
        assert server.requests == []


REFUSED: list[tuple[Api, str, ModelSettings, str]] = [
    ("responses", "some-model", ModelSettings(seed=7), "seed"),
    ("anthropic", "claude-sonnet-5-5", ModelSettings(seed=7), "seed"),
    ("chat", "some-model", ModelSettings(tool_choice="fly"), "fly"),
    ("chat", "some-model", ModelSettings(tool_choice="required", tool_choice_among=("fly",)), "fly"),
    ("chat", "some-model", ModelSettings(reasoning_effort="a lot"), "a lot"),
    ("anthropic", "claude-3-haiku-20240307", ModelSettings(output_schema=SCHEMA), "output"),
    ("chat", "gpt-6-luna", ModelSettings(temperature=0.2, reasoning_effort="high"), "temperature"),
]


@pytest.mark.parametrize(("api", "model", "settings", "names"), REFUSED)
async def test_what_cannot_be_honoured_is_refused(
    api: Api, model: str, settings: ModelSettings, names: str, ask: Ask, gateway_to: OpenGateway
) -> None:
    async with WireServer([YES]) as server:
        message = await refusal_of(gateway_to(server, api, model=model), server, ask(settings=settings))
    assert names in message


async def test_effort_for_a_model_that_does_not_reason_is_refused(ask: Ask) -> None:
    gateway = Gateway(env={"OPENAI_API_KEY": "sk-never-sent"})
    with pytest.raises(ModelError, match="does not reason") as caught:
        await gateway.reply(ask(model="openai:gpt-4o", settings=ModelSettings(reasoning_effort="low")), None)
    assert caught.value.kind == "invalid_request"
    await gateway.aclose()


# --- files ------------------------------------------------------------------------------------------------------------


class Shelf:
    """Blobs in memory."""

    def __init__(self, **content: bytes) -> None:
        self.content = content

    async def put(self, content: bytes) -> str:
        self.content["new"] = content
        return "new"

    async def get(self, digest: str) -> bytes:
        if digest not in self.content:
            raise NotFound(f"no blob {digest}")
        return self.content[digest]


@every_api
async def test_pictures_and_files_of_a_user(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    said = Message(
        "user",
        (
            Text("What is this?"),
            Image("image/png", data=PIXEL),
            Image("image/png", url="https://example.org/a.png"),
            File("application/pdf", "a.pdf", data=base64.b64encode(b"%PDF-1.4").decode()),
        ),
    )
    async with WireServer([YES]) as server:
        body = str(await body_of(gateway_to(server, api), server, ask(said)))
    assert PIXEL in body
    assert "https://example.org/a.png" in body
    assert base64.b64encode(b"%PDF-1.4").decode() in body


async def test_a_picture_kept_as_a_blob_is_fetched(ask: Ask) -> None:
    said = Message("user", (Text("What is this?"), Image("image/png", blob="abc")))
    async with WireServer([YES]) as server:
        config = ModelConfig("m", base_url=f"{server.url}/v1")
        gateway = Gateway({"m": config}, env={}, blobs=Shelf(abc=base64.b64decode(PIXEL)))
        body = str(await body_of(gateway, server, ask(said)))
        await gateway.aclose()
    assert PIXEL in body


@pytest.mark.parametrize("blobs", [None, Shelf()], ids=["no store", "not in the store"])
async def test_a_blob_that_cannot_be_read_is_refused(blobs: Shelf | None, ask: Ask) -> None:
    async with WireServer([YES]) as server:
        gateway = Gateway({"m": ModelConfig("m", base_url=f"{server.url}/v1")}, env={}, blobs=blobs)
        message = await refusal_of(gateway, server, ask(Message("user", (Image("image/png", blob="gone"),))))
        await gateway.aclose()
    assert "attached file" in message


@every_api
async def test_a_tool_that_returns_a_picture(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    window = (
        Message("user", (Text("Show me."),)),
        Message("assistant", (ToolCall("call_1", "find_order", "{}"),)),
        Message("tool", (ToolResult("call_1", "find_order", (Text("Here."), Image("image/png", data=PIXEL))),)),
    )
    async with WireServer([YES]) as server:
        body = str(await body_of(gateway_to(server, api), server, ask(*window)))
    assert PIXEL in body
    assert "Here." in body


@every_api
async def test_a_failed_tool_is_shown_as_failed(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    window = (
        Message("user", (Text("Try."),)),
        Message("assistant", (ToolCall("call_1", "find_order", '{"order": broken'),)),
        Message("tool", (ToolResult("call_1", "find_order", (Text("not valid JSON"),), error=True),)),
    )
    async with WireServer([YES]) as server:
        body = str(await body_of(gateway_to(server, api), server, ask(*window)))
    assert "'is_error': True" in body if api == "anthropic" else '"error":"not valid JSON"' in body.replace("\\", "")
    assert "broken" in body


# --- the bridge itself ------------------------------------------------------------------------------------------------


async def test_many_calls_at_once_share_one_client(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer(lambda request: YES) as server:
        gateway = gateway_to(server)
        made = await asyncio.gather(*(gateway.reply(ask(), None) for _ in range(40)))
    assert {str(reply.parts) for reply in made} == {str((Text("Yes."),))}
    assert len(server.requests) == 40


async def test_a_tool_without_parameters_and_parts_of_others(ask: Ask, gateway_to: OpenGateway) -> None:
    window = (
        Message("user", (Text("Hello"), Opaque("elsewhere", "{}"))),
        Message("assistant", (Opaque("elsewhere", '{"type":"item","item":{}}'), Text("Hi"))),
        Message("user", (Text("Go on"),)),
    )
    async with WireServer([YES]) as server:
        body = await body_of(gateway_to(server), server, ask(*window, tools=(ToolSpec("now"),), instructions=""))
    assert [message["content"] for message in body["messages"]] == ["Hello", "Hi", "Go on"]
    assert body["tools"][0]["function"]["parameters"]["type"] == "object"
