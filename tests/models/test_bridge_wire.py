"""The bridge against a real HTTP server that speaks the wire formats of three providers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from asking import Ask, OpenGateway

from remanence.content import Message, Part, Text, Thinking, ToolCall, ToolResult, Usage
from remanence.errors import ModelError, ModelErrorKind
from remanence.models.configuration import Api
from remanence.models.detect import detect
from remanence.testing.wire import Answer, WireCall, WireRequest, WireServer

APIS: tuple[Api, ...] = ("chat", "responses", "anthropic")
every_api = pytest.mark.parametrize("api", APIS)
either_way = pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])

THE_KEY = "sk-only-for-this-server"


class Deltas:
    """Collects what streams in, by part."""

    def __init__(self) -> None:
        self.by_part: dict[int, dict[str, str]] = defaultdict(lambda: defaultdict(str))

    def __call__(self, index: int, kind: str, text: str) -> None:
        self.by_part[index][kind] += text


# --- a dialogue over several steps ------------------------------------------------------------------------------------

TWO_CALLS = Answer(
    text="Let me look.",
    thinking="I need the order and the mail.",
    calls=(WireCall("theirs_1", "find_order", '{"order":"42"}'), WireCall("theirs_2", "find_mail", '{"who":"ada"}')),
)
ONE_CALL = Answer(calls=(WireCall("theirs_1", "find_order", '{"order":"43"}'),))
LAST = Answer(text="It is on its way.")


def renamed(parts: tuple[Part, ...], step: int) -> tuple[Part, ...]:
    """The reply as the runtime keeps it: with call ids of ours."""
    calls = iter(range(len(parts)))
    return tuple(
        msgspec.structs.replace(part, call=f"call_1_{step}_{next(calls)}") if isinstance(part, ToolCall) else part
        for part in parts
    )


def results_of(parts: tuple[Part, ...]) -> Message:
    calls = [part for part in parts if isinstance(part, ToolCall)]
    made = (ToolResult(call.call, call.name, (Text(f"result of {call.call}"),)) for call in calls)
    return Message("tool", tuple(made))


def calls_and_results(request: WireRequest) -> list[tuple[str, str]]:
    """What a provider would see: each call and each result in order, whatever the wire format."""
    seen: list[tuple[str, str]] = []
    for item in request.body.get("messages", request.body.get("input", [])):
        seen += [("call", call["id"]) for call in item.get("tool_calls", [])]
        if item.get("role") == "tool":
            seen.append(("result", item["tool_call_id"]))
        if item.get("type") == "function_call":
            seen.append(("call", item["call_id"]))
        if item.get("type") == "function_call_output":
            seen.append(("result", item["call_id"]))
        if isinstance(item.get("content"), list):
            seen += [("call", block["id"]) for block in item["content"] if block["type"] == "tool_use"]
            seen += [("result", block["tool_use_id"]) for block in item["content"] if block["type"] == "tool_result"]
    return seen


@every_api
@either_way
async def test_a_dialogue_with_tools_over_three_steps(
    api: Api, streams: bool, ask: Ask, gateway_to: OpenGateway
) -> None:
    async with WireServer([TWO_CALLS, ONE_CALL, LAST]) as server:
        gateway = gateway_to(server, api)
        window = [Message("user", (Text("Where is order 42?"),))]
        said: list[str] = []
        for step in (1, 2, 3):
            made = await gateway.reply(ask(*window), Deltas() if streams else None)
            said += [part.text for part in made.parts if isinstance(part, Text)]
            parts = renamed(made.parts, step)
            window.append(Message("assistant", parts))
            if any(isinstance(part, ToolCall) for part in parts):
                assert made.stop == "tool_calls"
                window.append(results_of(parts))
            else:
                assert made.stop == "stop"
    assert said == ["Let me look.", "It is on its way."]
    assert [request.streams for request in server.requests] == [streams] * 3
    first, second = ["call_1_1_0", "call_1_1_1"], ["call_1_2_0"]
    assert calls_and_results(server.requests[1]) == [*(("call", c) for c in first), *(("result", c) for c in first)]
    assert calls_and_results(server.requests[2])[4:] == [("call", second[0]), ("result", second[0])]
    assert [part.arguments for part in window[3].parts if isinstance(part, ToolCall)] == ['{"order":"43"}'] or streams


@every_api
async def test_what_streams_in_is_the_reply(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    deltas = Deltas()
    async with WireServer([TWO_CALLS]) as server:
        made = await gateway_to(server, api).reply(ask(), deltas)
    assert [type(part) for part in made.parts] == [Thinking, Text, ToolCall, ToolCall]
    for index, part in enumerate(made.parts):
        match part:
            case Text(text=text):
                assert deltas.by_part[index] == {"text": text}
            case Thinking(text=text):
                assert deltas.by_part[index] == {"thinking": text}
            case ToolCall(name=name, arguments=arguments):
                assert deltas.by_part[index] == {"tool_name": name, "tool_arguments": arguments}
            case _:
                pytest.fail(f"unexpected part {part}")


@every_api
@either_way
async def test_usage_and_where_it_came_from(api: Api, streams: bool, ask: Ask, gateway_to: OpenGateway) -> None:
    answer = Answer(text="Yes.", input_tokens=1_000, output_tokens=50, cached_tokens=900, reasoning_tokens=30)
    async with WireServer([answer]) as server:
        made = await gateway_to(server, api).reply(ask(), Deltas() if streams else None)
    reasoning = 0 if api == "anthropic" else 30
    assert made.usage == Usage(1_000, 50, cached_tokens=900, reasoning_tokens=reasoning)
    assert made.model == "some-model"
    assert made.provider_id.endswith(("-1", "_1"))
    assert made.cost_usd_micros is None


async def test_a_server_that_does_not_count_is_counted(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(text="Yes." * 40, counts=False)]) as server:
        made = await gateway_to(server).reply(ask(), Deltas())
    assert made.usage.output_tokens >= 40
    assert made.usage.input_tokens > 10


@every_api
async def test_a_reply_cut_at_its_limit_says_so(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(text="It is on", stop="length")] * 2) as server:
        gateway = gateway_to(server, api)
        assert (await gateway.reply(ask(), Deltas())).stop == "length"
        assert (await gateway.reply(ask(), None)).stop == "length"


# --- thinking ---------------------------------------------------------------------------------------------------------


async def test_thinking_goes_back_signed_to_the_provider_that_thought_it(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([TWO_CALLS, LAST, LAST]) as server:
        claude = gateway_to(server, "anthropic")
        parts = (await claude.reply(ask(), Deltas())).parts
        assert parts[0] == Thinking("I need the order and the mail.", "c2lnbmF0dXJl", "anthropic")
        window = (Message("user", (Text("Hello"),)), Message("assistant", parts), results_of(parts))
        await claude.reply(ask(*window), None)
        await gateway_to(server, "chat").reply(ask(*window), None)
    sent = server.requests[1].body["messages"][1]["content"][0]
    assert sent == {"type": "thinking", "thinking": "I need the order and the mail.", "signature": "c2lnbmF0dXJl"}
    assert "I need the order" not in str(server.requests[2].body)


@every_api
async def test_the_thinking_of_another_is_not_sent(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    thought = Thinking("a thought of another", "c2lnbmF0dXJl", "somebody else", "reasoning_content")
    window = (
        Message("user", (Text("Hello"),)),
        Message("assistant", (thought, Text("Hi"))),
        Message("user", (Text("?"),)),
    )
    async with WireServer([LAST]) as server:
        await gateway_to(server, api).reply(ask(*window), None)
    assert "Hi" in str(server.requests[0].body)
    assert "thought" not in str(server.requests[0].body)
    assert "c2lnbmF0dXJl" not in str(server.requests[0].body)


async def test_a_server_on_this_machine_is_reached_without_a_proxy(
    ask: Ask, gateway_to: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WireServer([LAST]) as proxy, WireServer([LAST]) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        await gateway_to(server).reply(ask(), None)
        await detect({}, {}, ports=(server.port,), timeout_s=5.0)
    assert proxy.requests == []
    assert len(server.requests) == 2


async def test_thinking_of_a_chat_server_goes_back_in_its_own_field(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([TWO_CALLS, LAST]) as server:
        gateway = gateway_to(server, "chat")
        parts = (await gateway.reply(ask(), None)).parts
        await gateway.reply(ask(Message("user", (Text("Hi"),)), Message("assistant", parts), results_of(parts)), None)
    assert server.requests[1].body["messages"][2]["reasoning_content"] == "I need the order and the mail."


async def test_sealed_reasoning_goes_back_to_a_model_that_seals(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([TWO_CALLS, LAST]) as server:
        gateway = gateway_to(server, "responses", model="gpt-6-luna", provider="openai")
        parts = (await gateway.reply(ask(), Deltas())).parts
        await gateway.reply(ask(Message("user", (Text("Hi"),)), Message("assistant", parts), results_of(parts)), None)
    reasoning = next(item for item in server.requests[1].body["input"] if item.get("type") == "reasoning")
    assert reasoning["encrypted_content"] == "c2lnbmF0dXJl"
    assert server.requests[1].body["store"] is False


# --- what goes wrong --------------------------------------------------------------------------------------------------

STATUSES: list[tuple[int, ModelErrorKind]] = [
    (400, "invalid_request"),
    (401, "authentication"),
    (402, "authentication"),
    (403, "authentication"),
    (404, "invalid_request"),
    (408, "timeout"),
    (413, "invalid_request"),
    (422, "invalid_request"),
    (429, "rate_limited"),
    (500, "server"),
    (502, "server"),
    (503, "overloaded"),
    (529, "overloaded"),
]


@every_api
@either_way
@pytest.mark.parametrize(("status", "kind"), STATUSES)
async def test_each_status_is_one_kind_of_error(
    api: Api, streams: bool, status: int, kind: ModelErrorKind, ask: Ask, gateway_to: OpenGateway
) -> None:
    answer = Answer(status=status, text="Because of this.")
    async with WireServer([answer]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server, api).reply(ask(), Deltas() if streams else None)
    assert caught.value.kind == kind
    assert "Because of this" in caught.value.message
    assert "kept" in caught.value.message
    assert len(server.requests) == 1, "only the runtime may try again"


@every_api
async def test_the_pause_that_was_asked_for_in_seconds(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(status=429, headers={"Retry-After": "7"})]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server, api).reply(ask(), None)
    assert caught.value.retry_after_s == 7.0
    assert caught.value.retryable


@every_api
async def test_the_pause_that_was_asked_for_as_a_date(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    async with WireServer([Answer(status=503, headers={"Retry-After": until})]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server, api).reply(ask(), Deltas())
    assert caught.value.retry_after_s is not None
    assert 60 < caught.value.retry_after_s <= 90


@every_api
@pytest.mark.parametrize("cut_after", [0, 3, 6])
async def test_a_connection_cut_in_mid_stream(api: Api, cut_after: int, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(text="It is on its way to you.", cut_after=cut_after)]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server, api).reply(ask(), Deltas())
    assert caught.value.kind == "connection"
    assert caught.value.maybe_billed
    assert len(server.requests) == 1


@every_api
@pytest.mark.parametrize("calls", [(), ONE_CALL.calls], ids=["text", "call"])
async def test_a_stream_that_ends_without_saying_so_is_no_reply(
    api: Api, calls: tuple[WireCall, ...], ask: Ask, gateway_to: OpenGateway
) -> None:
    text = "" if calls else "It is on its way to you."
    async with WireServer([Answer(text=text, calls=calls, end_after=4)]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server, api).reply(ask(), Deltas())
    assert caught.value.kind == "connection"


@every_api
@either_way
async def test_a_server_that_does_not_answer_in_time(
    api: Api, streams: bool, ask: Ask, gateway_to: OpenGateway
) -> None:
    async with WireServer([LAST, Answer(stall=True)]) as server:
        gateway = gateway_to(server, api)
        await gateway.reply(ask(), None)
        with pytest.raises(ModelError) as caught:
            await gateway.reply(ask(timeout_s=0.2), Deltas() if streams else None)
        await asyncio.wait_for(server.hung_up.wait(), 60)
    assert caught.value.kind == "timeout"


@every_api
async def test_a_stream_that_stops_coming(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([LAST, Answer(text="It is on its way to you.", stall_after=5)]) as server:
        gateway = gateway_to(server, api)
        await gateway.reply(ask(), None)
        with pytest.raises(ModelError) as caught:
            await gateway.reply(ask(timeout_s=0.3), Deltas())
        await asyncio.wait_for(server.hung_up.wait(), 60)
    assert caught.value.kind == "timeout"


@every_api
@either_way
async def test_cancelling_the_call_closes_the_connection(
    api: Api, streams: bool, ask: Ask, gateway_to: OpenGateway
) -> None:
    answer = Answer(text="It is on its way to you.", stall_after=5) if streams else Answer(stall=True)
    async with WireServer([answer]) as server:
        call = asyncio.create_task(gateway_to(server, api).reply(ask(), Deltas() if streams else None))
        await asyncio.wait_for(server.called.wait(), 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.hung_up.wait(), 60)


@every_api
async def test_a_server_that_is_not_there(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer() as server:
        gone = server
    with pytest.raises(ModelError) as caught:
        await gateway_to(gone, api).reply(ask(), None)
    assert caught.value.kind == "connection"
    assert not caught.value.maybe_billed, "no connection was made: nobody can have read it"


@every_api
async def test_an_error_inside_a_stream_keeps_its_kind(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(text="It is on its way to you.", error_after=4)]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server, api).reply(ask(), Deltas())
    assert caught.value.kind == "overloaded"


@either_way
async def test_a_reply_the_filter_stopped(streams: bool, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(stop="content_filter")]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server).reply(ask(), Deltas() if streams else None)
    assert caught.value.kind == "content"
    assert not caught.value.retryable


# --- keys -------------------------------------------------------------------------------------------------------------


def key_sent(request: WireRequest) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


@every_api
async def test_the_named_key_is_sent_and_no_other(
    api: Api, ask: Ask, gateway_to: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, f"private-{name}")
    async with WireServer([LAST]) as server:
        await gateway_to(server, api).reply(ask(), None)
    assert key_sent(server.requests[0]) == THE_KEY
    assert "private-" not in str(server.requests[0].headers)


@every_api
async def test_a_key_never_stands_in_an_error(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(status=401, text=f"The key {THE_KEY} is wrong.")]) as server:
        with pytest.raises(ModelError) as caught:
            await gateway_to(server, api).reply(ask(), None)
    shown: list[Any] = [caught.value.message, repr(caught.value), caught.value.__cause__, vars(caught.value)]
    assert THE_KEY not in str(shown)
    assert "The key [key] is wrong" in caught.value.message


async def test_a_missing_key_is_named_and_nothing_is_sent(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([LAST]) as server:
        with pytest.raises(ModelError, match="NOT_SET") as caught:
            await gateway_to(server, key_env="NOT_SET").reply(ask(), None)
    assert caught.value.kind == "authentication"
    assert server.requests == []
