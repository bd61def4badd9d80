"""How streams end when their server does: in order, whatever face they belong to; their readers go on elsewhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remanence.runtime.clock import SystemClock
from remanence.testing.load.site import Site

SLOW = {"steps": [{"text": "One two three four five six seven eight nine ten.", "piece_s": 1.0}]}
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
    assert "[DONE]" not in said
    assert ("stopping" in said) == (face == "chat"), "a client of chat knows no place to go on from: it is told"
    for frame in said.strip().split("\n\n"):
        data = frame.rpartition("data: ")[2]
        assert frame.startswith(":") or json.loads(data)
