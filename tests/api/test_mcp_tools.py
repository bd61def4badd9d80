"""Tools of real MCP servers: what they promise, what they give back, and what is known when they break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from mcp_world import command, shop_over_http

from remanence import Agent, Remanence
from remanence.content import Image, Text, ToolCall, ToolResult, text_of
from remanence.errors import EffectInDoubt, InvalidInput, InvalidSpec, McpUnreachable
from remanence.events import CallJudged, Recorded, TurnEnded
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest, ToolCallContext
from remanence.spec import AskRule, ToolSpec
from remanence.tools import McpServer
from remanence.tools.mcp import McpTool, Remote, Remotes, remote_of

CONTEXT = ToolCallContext("s", "default", "a", "ada", 1, "s:1:call", 1)


@asynccontextmanager
async def shop(path: Path, *, http: bool) -> AsyncIterator[McpServer]:
    if http:
        with shop_over_http(path / "book") as made:
            server = McpServer("shop", url=made.url, headers={"x-who": "a test"})
            yield server
            await server.close()
        return
    server = McpServer("shop", command=command(path / "book"))
    yield server
    await server.close()


def call(name: str, thing: str) -> ToolCall:
    return ToolCall("call", name, msgspec.json.encode({"thing": thing}).decode())


async def tools_of(server: McpServer) -> dict[str, McpTool]:
    return {tool.spec.name: tool for tool in await server.offered()}


@pytest.mark.parametrize("http", [True, False])
async def test_what_a_server_offers_and_how_its_calls_end(tmp_path: Path, http: bool) -> None:
    async with shop(tmp_path, http=http) as server:
        tools = await tools_of(server)
        promised = {name: tool.spec.replay for name, tool in tools.items()}
        assert promised == {"price": "safe", "reserve": "keyed", "buy": "never", "picture_of": "never"}
        remote = remote_of(tools["picture_of"].spec)
        assert remote is not None
        assert (remote.server, remote.tool, bool(remote.url)) == ("shop", "picture.of", http)
        assert "a test" not in tools["buy"].spec.source
        assert (await tools["price"].run(call("price", "tea"), CONTEXT)).parts == (Text("tea costs 3 euros"),)
        assert text_of((await tools["reserve"].run(call("reserve", "tea"), CONTEXT)).parts)
        shown = await tools["picture_of"].run(call("picture_of", "tea"), CONTEXT)
        assert shown.parts == (Image("image/png", data="iVBORw=="),)
        refused = await tools["buy"].run(call("buy", "void"), CONTEXT)
        assert refused.error
        assert (await tools["buy"].run(ToolCall("call", "buy", "[]"), CONTEXT)).error
        with pytest.raises(EffectInDoubt, match="the connection to shop broke"):
            await tools["buy"].run(call("buy", "bomb"), CONTEXT)
        again = await tools["price"].run(call("price", "tea"), CONTEXT)
        assert again.error == http, "a process is started again; a server that is gone was not asked"
    ran = (tmp_path / "book").read_text().splitlines()
    assert ran[:4] == ["price tea", "reserve tea", "buy void s:1:call", "buy bomb s:1:call"]


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(McpUnreachable, match="did not say what it offers"):
        McpServer("shop", url="http://127.0.0.1:9/mcp").offered_now()
    with pytest.raises(McpUnreachable, match="Nothing was kept"):
        McpServer("shop", command=[str(tmp_path / "nothing")]).offered_now()
    with pytest.raises(InvalidSpec, match="it has: price, reserve"):
        McpServer("shop", command=command(tmp_path / "book"), tools=["steal"]).offered_now()


def test_a_server_that_cannot_mean_what_it_says() -> None:
    with pytest.raises(InvalidSpec, match="a label has"):
        McpServer("a b", url="http://x")
    with pytest.raises(InvalidSpec, match="give `url` or `command`"):
        McpServer("a")
    with pytest.raises(InvalidSpec, match="give `url` or `command`"):
        McpServer("a", url="http://x", command=["c"])


def test_only_servers_at_known_hosts_are_reached_by_their_address() -> None:
    remotes = Remotes(("tools.example",))
    assert remotes.server("a", "https://TOOLS.example/mcp").label == "a"
    for url in ("https://evil.example/mcp", "file:///etc/passwd", "http://", "http://[", "https://tools.example@evil/"):
        with pytest.raises(InvalidInput):
            remotes.server("a", url)
    source = msgspec.json.encode(Remote("a", "t", "http://127.0.0.1/mcp")).decode()
    spec = ToolSpec("t", kind="mcp", source=source)
    assert remotes.tool(spec) is None
    assert Remotes(("*",)).tool(spec) is not None


def script(request: ModelRequest) -> ModelReply:
    """Calls the tool that it is told to, then says what came of it."""
    last = request.messages[-1]
    if last.role == "tool":
        return ModelReply((Text("; ".join(text_of(p.parts) for p in last.parts if isinstance(p, ToolResult))),))
    name, _, thing = text_of(last.parts).partition(" ")
    return ModelReply((ToolCall("x", name, msgspec.json.encode({"thing": thing}).decode()),))


async def test_an_agent_with_an_mcp_server(tmp_path: Path) -> None:
    """Declared in code, over pipes: journaled and judged like any tool."""
    book = tmp_path / "book"
    server = McpServer("shop", command=command(book), tools=["price", "buy"])
    desk = Agent("desk", model="m", mcp=[server], rules=[AskRule("buy", when='thing == "car"')])
    assert [tool.name for tool in desk.spec.tools] == ["price", "buy"]
    async with Remanence(f"sqlite:///{tmp_path}/a.db", models={"m": Scripted(script)}) as rt:
        session = await rt.open(desk)
        assert await session.send("price tea") == "tea costs 3 euros"
        assert await session.send("buy tea") == "bought tea"
        assert book.read_text().splitlines()[-1] == f"buy tea {session.id}:2:call_2_1_1"
        await session.submit("buy car")
        async for record in session.events():
            event = record.event if isinstance(record, Recorded) else None
            if isinstance(event, CallJudged) and event.verdict == "ask":
                assert "car" not in book.read_text()
                await session.approve(event.call, by="ada")
            elif isinstance(event, TurnEnded) and event.turn == 3:
                break
        assert book.read_text().splitlines()[-1].startswith("buy car")
