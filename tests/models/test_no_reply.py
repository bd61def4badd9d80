"""What a server sends in place of a reply: it is said what came, from where, and whether another attempt may help."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from asking import Ask, OpenGateway

from remanence.content import Text
from remanence.errors import InvalidConfig, ModelError, ModelErrorKind
from remanence.models.configuration import Api, ModelConfig, parse_models
from remanence.models.gateway import Gateway
from remanence.testing.wire import Answer, WireServer, listening

every_api = pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
either_way = pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])


def raw(content: str | bytes, kind: str = "application/json", status: int = 200, **headers: str) -> Answer:
    body = content.encode() if isinstance(content, str) else content
    fields = {"content-type": kind, "content-length": str(len(body)), "connection": "close", **headers}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name.replace('_', '-')}: {text}" for name, text in fields.items())]
    return Answer(raw="\r\n".join([*lines, "", ""]).encode() + body)


async def failure(server: WireServer, ask: Ask, gateway: Gateway, streams: bool) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await gateway.reply(ask(), (lambda *_: None) if streams else None)
    assert "Everything before this call is kept." in caught.value.message
    assert len(server.requests) == 1, "only the runtime may try again"
    return caught.value


PAGE = "<!DOCTYPE html><html><head><title>Sign in &amp; go on</title></head><body>x</body></html>"


@every_api
@either_way
@pytest.mark.parametrize(
    "came",
    [
        (raw(PAGE, "text/html; charset=utf-8"), "server", "sent something else in place of a"),
        (raw(PAGE, "text/html"), "server", ": Sign in & go on. Everything"),
        (raw("<p>Over\n<b>quota</b></p>", "text/html"), "server", ": Over quota. Everything"),
        (raw(PAGE, "text/html", 502), "server", "failed (502): Sign in & go on. Everything"),
        (raw("<html>slow down</html>", "text/html", 429), "rate_limited", "(429): slow down. Everything"),
        (raw(json.dumps({"error": {"message": "still loading", "code": 503}})), "overloaded", "failed: still loading."),
        (raw(json.dumps({"error": {"message": "no", "type": "rate_limit_error"}})), "rate_limited", "failed: no."),
        (raw(json.dumps({"error": {"message": "who?", "code": "401"}})), "authentication", "Set a valid key"),
        (raw(json.dumps({"error": "out of memory"})), "server", "failed: out of memory."),
        (raw(json.dumps({"error": {"reason": 7}})), "server", 'failed: {"reason":7}.'),
        (raw("null"), "server", ": null."),
        (raw("[]"), "server", ": []."),
        (raw("{}"), "server", "{}."),
    ],
)
async def test_what_came_in_place_of_a_reply_is_said(
    api: Api, streams: bool, came: tuple[Answer, ModelErrorKind, str], ask: Ask, gateway_to: OpenGateway
) -> None:
    answer, kind, says = came
    async with WireServer([answer]) as server:
        error = await failure(server, ask, gateway_to(server, api), streams)
    assert error.kind == kind
    assert says in error.message
    assert "<" not in error.message


@pytest.mark.parametrize(
    ("api", "member", "given"),
    [("chat", "choices", []), ("chat", "choices", None), ("responses", "output", None), ("anthropic", "content", None)],
)
async def test_a_reply_without_what_makes_it_one(
    api: Api, member: str, given: Any, ask: Ask, gateway_to: OpenGateway
) -> None:
    async with WireServer([raw(json.dumps({"id": "a", "model": "m", member: given}))]) as server:
        error = await failure(server, ask, gateway_to(server, api), streams=False)
    assert error.kind == "server"
    assert f"sent a reply without `{member}`: " in error.message


@every_api
@either_way
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_says_where_to_and_is_not_tried_again(
    api: Api, streams: bool, status: int, ask: Ask, gateway_to: OpenGateway
) -> None:
    answer = raw("", status=status, location="https://elsewhere.example/v1?token=secret")
    async with WireServer([answer]) as server:
        error = await failure(server, ask, gateway_to(server, api), streams)
    assert (error.kind, error.retryable) == ("invalid_request", False)
    assert f"({status}) that it is to be found elsewhere: https://elsewhere.example/v1. " in error.message
    assert "set `base_url` to the right address" in error.message


@every_api
async def test_a_reply_where_a_stream_was_asked_for_is_shown(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    whole = json.dumps({"id": "a", "choices": [], "output": [], "content": [], "more": "x" * 1_000})
    async with WireServer([raw(whole)]) as server:
        error = await failure(server, ask, gateway_to(server, api), streams=True)
    assert error.message.startswith('m sent something else in place of a stream: {"id": "a"')
    assert len(error.message) < 500


@every_api
@either_way
async def test_a_page_without_end_is_not_read_to_its_end(
    api: Api, streams: bool, ask: Ask, gateway_to: OpenGateway
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 1000000000\r\n\r\n<title>Long</title>"
    async with WireServer([Answer(raw=head + b"x" * 100_000)]) as server:
        error = await failure(server, ask, gateway_to(server, api), streams)
    assert ": Long." in error.message


@every_api
async def test_an_answer_that_does_not_exist_names_what_to_check(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(status=404, text="no model of that name")]) as server:
        error = await failure(server, ask, gateway_to(server, api), streams=False)
    assert "no model of that name" in error.message
    assert "Check the model's name and, for a server of your own, its `base_url`." in error.message


@every_api
async def test_a_packed_reply_is_a_reply(api: Api, ask: Ask, gateway_to: OpenGateway) -> None:
    bodies: dict[str, Any] = {
        "chat": {
            "id": "a",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        },
        "responses": {
            "id": "a",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": "completed",
            "error": None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "output": [
                {
                    "type": "message",
                    "id": "b",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
                }
            ],
        },
        "anthropic": {
            "id": "a",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": "Hi"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    }
    packed = raw(gzip.compress(json.dumps(bodies[api]).encode()), content_encoding="gzip")
    async with WireServer([packed, raw(b"not packed", content_encoding="gzip")]) as server:
        gateway = gateway_to(server, api)
        assert (await gateway.reply(ask(), None)).parts == (Text("Hi"),)
        with pytest.raises(ModelError, match=r"127\.0\.0\.1: .*incorrect header") as caught:
            await gateway.reply(ask(), None)
    assert caught.value.kind == "connection"


# --- who cannot be reached --------------------------------------------------------------------------------------------


def gateway_at(url: str, **env: str) -> Gateway:
    return Gateway({"m": ModelConfig(name="m", base_url=url, model="some-model", key_env="THE_KEY")}, env=env)


async def refusal(url: str, ask: Ask, **env: str) -> ModelError:
    gateway = gateway_at(url, **(env or {"THE_KEY": "sk-only-for-this-server"}))
    try:
        with pytest.raises(ModelError) as caught:
            await gateway.reply(ask(), None)
    finally:
        await gateway.aclose()
    return caught.value


async def test_a_name_that_nobody_knows_is_said(ask: Ask) -> None:
    error = await refusal("http://nowhere.invalid/v1", ask)
    assert (error.kind, error.sent) == ("connection", False)
    assert "nowhere.invalid: " in error.message
    assert "Connection error" not in error.message


async def test_a_port_where_nobody_listens_is_said(ask: Ask) -> None:
    async with WireServer() as server:
        gone = server.url
    error = await refusal(f"{gone}/v1", ask)
    assert "127.0.0.1: Connect call failed" in error.message


async def test_a_server_that_speaks_no_http_is_said(ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(raw=b"SSH-2.0-OpenSSH_9.0\r\n")]) as server:
        error = await failure(server, ask, gateway_to(server), streams=False)
    assert error.kind == "connection"
    assert "127.0.0.1: " in error.message


async def test_a_certificate_that_is_not_trusted_is_said(ask: Ask) -> None:
    folder = Path(__file__).parent
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "untrusted.pem")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with listening(accept, context=context) as port:
        error = await refusal(f"https://127.0.0.1:{port}/v1", ask)
    assert error.kind == "connection"
    assert "127.0.0.1: certificate verify failed" in error.message
    assert "_ssl.c" not in error.message


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:99999/v1", "http://[::1/v1", "http:///v1", "ftp://a.example", "127.0.0.1/v1", "http://:80"],
)
async def test_an_address_that_is_none_is_refused_where_it_is_written(url: str, ask: Ask) -> None:
    with pytest.raises(InvalidConfig, match="must begin with http:// or https:// and name a host"):
        parse_models({"m": {"base_url": url}})
    gateway = Gateway(env={"REMANENCE_UPSTREAM_URL": url})
    with pytest.raises(ModelError, match="REMANENCE_UPSTREAM_URL must begin with"):
        await gateway.reply(ask(model="x"), None)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "anthropic"])
async def test_white_space_around_a_key_is_not_sent(api: Api, ask: Ask) -> None:
    async with WireServer([Answer(text="Hi"), Answer(status=401, text="sk-mine is wrong")]) as server:
        config = ModelConfig(name="m", base_url=f"{server.url}/v1", api=api, model="some-model", key_env="THE_KEY")
        gateway = Gateway({"m": config}, env={"THE_KEY": " sk-mine\r\n"})
        await gateway.reply(ask(), None)
        with pytest.raises(ModelError, match=r"\[key\] is wrong"):
            await gateway.reply(ask(), None)
        await gateway.aclose()
    sent = server.requests[0].headers
    assert sent.get("x-api-key" if api == "anthropic" else "authorization", "").removeprefix("Bearer ") == "sk-mine"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("sk-one\nsk-two", "holds a character that no key has, such as a space or a line break. "),
        ("Bearer sk-one", "holds a character that no key has"),
        ("sk-é", "holds a character that no key has"),
        ("sk-\x00", "holds a character that no key has"),
        (" \n", "is set, but empty"),
    ],
)
async def test_what_can_be_no_key_is_said_and_nothing_is_sent(key: str, says: str, ask: Ask) -> None:
    async with WireServer([Answer(text="Hi")]) as server:
        error = await refusal(f"{server.url}/v1", ask, THE_KEY=key)
    assert (error.kind, error.retryable) == ("authentication", False)
    assert f"m needs a key, and THE_KEY {says}" in error.message
    assert "Nothing was sent" in error.message
    assert "sk-" not in error.message
    assert server.requests == []
