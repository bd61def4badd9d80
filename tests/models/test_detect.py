"""What is found without being told: configuration, keys, servers on this machine, and the placeholder at the end."""

from __future__ import annotations

import asyncio

from remanence.models.configuration import ModelConfig
from remanence.models.detect import detect, probe
from remanence.testing.wire import Answer, WireServer, listening

KEYS = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two", "GROQ_API_KEY": "", "GOOGLE_API_KEY": "sk-three"}


async def test_the_order_of_preference() -> None:
    configs = {
        "fast": ModelConfig("fast", "qwen3:8b", base_url="http://127.0.0.1:9/v1", key_env="FAST_KEY"),
        "good": ModelConfig("good", "claude-sonnet-5-5", provider="anthropic"),
    }
    async with WireServer(models=("embedder-small", "qwen3:8b")) as server:
        found = await detect(configs, KEYS, default="good", ports=(server.port,), timeout_s=5.0)
    assert [(one.source, one.model) for one in found] == [
        ("configuration", "good"),
        ("configuration", "fast"),
        ("environment", "anthropic:claude-sonnet-5-5"),
        ("environment", "openai:gpt-6-luna"),
        ("environment", "google:gemini-3.8-flash"),
        ("server", "local"),
        ("scripted", "scripted"),
    ]
    assert found[1].note == "FAST_KEY is not set"
    assert "remanence[google]" in found[4].note
    local = found[5]
    assert local.models == ("embedder-small", "qwen3:8b")
    assert local.config == ModelConfig("local", "qwen3:8b", base_url=f"{server.url}/v1")
    assert "sk-" not in str(found), "keys are never read, only looked for"


async def test_looking_sends_no_key_and_asks_for_no_reply() -> None:
    async with WireServer() as server:
        await detect({}, KEYS, ports=(server.port,), timeout_s=5.0)
    assert [(request.method, request.path) for request in server.requests] == [("GET", "/v1/models")]
    assert "sk-" not in str(server.requests)


async def test_with_nothing_there_is_the_placeholder() -> None:
    async with WireServer() as server:
        closed = server.port
    found = await detect({}, {}, ports=(closed,))
    assert [one.model for one in found] == ["scripted"]


async def test_an_upstream_comes_before_keys() -> None:
    found = await detect({}, {**KEYS, "REMANENCE_UPSTREAM_URL": "http://127.0.0.1:9/v1"}, ports=())
    assert found[0].url == "http://127.0.0.1:9/v1"
    assert "any model name" in found[0].label


async def test_servers_are_asked_at_once_and_a_slow_one_is_not_waited_for() -> None:
    asked, asked_at_once = 0, 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked, asked_at_once
        asked += 1
        asked_at_once = max(asked, asked_at_once)
        await reader.read()  # until whoever asked gives up
        asked -= 1

    async with listening(silent) as port, WireServer() as server:
        found = await detect({}, {}, ports=(port, server.port, port, port), timeout_s=3.0)
    assert [one.source for one in found] == ["server", "scripted"]
    assert asked_at_once == 3, "three silent servers take as long as one"


async def test_something_else_on_the_port_is_no_model_server() -> None:
    for body in (b"[]", b'{"data": 7}', b'{"data": [{"name": "x"}]}', b"<html>", b'{"data": []}'):

        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes = body) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))
            await writer.drain()

        async with listening(other) as port:
            assert await probe(f"http://127.0.0.1:{port}", timeout_s=5.0) is None


async def test_the_first_name_that_can_talk_is_suggested() -> None:
    async with WireServer([Answer(text="x")], models=("nomic-embed-text",)) as server:
        found = await probe(server.url, timeout_s=5.0)
    assert found is not None
    assert found.config is not None
    assert found.config.model == "nomic-embed-text"
