"""How streams end when their server does: in order, whatever face they belong to; their readers go on elsewhere."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from remanence.runtime.clock import SystemClock
from remanence.testing.load.site import Site

SLOW = {"steps": [{"text": f"One two three {'and so on ' * 20} and nine.", "piece_s": 1.0}]}
"""It takes a minute: much longer than a server that ends waits for it."""
NEARLY = {"steps": [{"text": "One two three four five six seven eight nine ten.", "piece_s": 0.1}]}
PATHS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "agents": (
        "/v1/agents/sessions",
        {"environment": {"type": "none"}, "agent": {"model": "default"}, "input": "hi", "stream": True},
        {},
    ),
    "responses": ("/v1/responses", {"model": "default", "input": "hi", "stream": True}, {}),
    "chat": (
        "/v1/chat/completions",
        {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        {"x-session-id": "new"},
    ),
    "not stored": ("/v1/responses", {"model": "default", "input": "hi", "stream": True, "store": False}, {}),
}


@pytest.mark.parametrize("face", PATHS)
async def test_a_stream_ends_in_order_with_its_server(face: str, tmp_path: Path) -> None:
    """The server may not wait for the turn (`drain_s` is shorter): the stream ends whole, and the process with 0."""
    async with Site(f"sqlite:///{tmp_path}/a.db", tmp_path, workers=0, clock=SystemClock(), script=SLOW) as site:
        headers = {"authorization": f"Bearer {site.key}", "openai-beta": "agents=v1"}
        async with httpx2.AsyncClient(base_url=site.url, headers=headers, timeout=60) as client:
            path, body, more = PATHS[face]
            said = ""
            ending: asyncio.Task[None] | None = None
            async with client.stream("POST", path, json=body, headers=more) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for text in answer.aiter_text():  # raises when the connection breaks in the middle
                    said += text
                    if "two" in said and ending is None:
                        ending = asyncio.create_task(site.end_server())
            assert ending is not None
            await asyncio.wait_for(ending, 60)
    assert said.endswith("\n\n")
    assert "nine" not in said
    assert ("[DONE]" in said) == (face == "not stored"), (
        "of what is not stored this is the end: it failed, and says why"
    )
    assert ("response.failed" in said) == (face == "not stored")
    assert ("stopping" in said) == (face == "chat"), "a client of chat knows no place to go on from: it is told"
    for frame in said.strip().split("\n\n"):
        data = frame.rpartition("data: ")[2]
        assert frame.startswith(":") or data == "[DONE]" or json.loads(data)


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("script", [NEARLY, SLOW], ids=["nearly said", "slow"])
async def test_a_response_on_a_web_socket_ends_with_its_server(store: bool, script: Any, tmp_path: Path) -> None:
    """What is nearly said is said to its end; what is not stored and takes longer fails, and says why."""
    async with Site(f"sqlite:///{tmp_path}/a.db", tmp_path, workers=0, clock=SystemClock(), script=script) as site:
        url = site.url.replace("http", "ws") + "/v1/responses"
        events: list[Any] = []
        ending: asyncio.Task[None] | None = None
        async with connect(url, open_timeout=60, additional_headers={"authorization": f"Bearer {site.key}"}) as socket:
            body = {"type": "response.create", "model": "default", "input": "hi", "store": store}
            await socket.send(json.dumps(body))
            with suppress(ConnectionClosed):
                async for frame in socket:
                    events.append(json.loads(frame))
                    if "two" in events[-1].get("delta", "") and ending is None:
                        ending = asyncio.create_task(site.end_server())
        assert ending is not None
        await asyncio.wait_for(ending, 60)
    if store:  # the turn is elsewhere's, and can be asked for there
        assert socket.close_code == 1001 or events[-1]["type"] == "response.completed"
    else:
        assert events[-1]["type"] == ("response.completed" if script is NEARLY else "response.failed")
        if script is SLOW:
            assert "The server stopped" in events[-1]["response"]["error"]["message"]
