"""A whole session over a model server on this machine: what the runtime journals is what goes over the wire."""

from __future__ import annotations

from pathlib import Path

import pytest

from remanence import Agent, Remanence, tool
from remanence.app import Options
from remanence.errors import TurnFailed
from remanence.events import ModelFailed
from remanence.runtime.services import Times
from remanence.testing.wire import Answer, WireCall, WireRequest, WireServer


@tool(replay="safe")
async def find_order(order: str) -> str:
    """Find an order."""
    return f"order {order} is on its way"


def support(request: WireRequest) -> Answer:
    """Looks two orders up, once; then it knows."""
    if "is on its way" in str(request.body):
        return Answer(text="Both are on their way.")
    both = (WireCall("a", "find_order", '{"order":"42"}'), WireCall("a", "find_order", '{"order":"43"}'))
    return Answer(text="Let me look.", thinking="Two orders.", calls=both)


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
async def test_a_session_with_tools_over_an_upstream(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with WireServer(support) as server:
        monkeypatch.setenv("REMANENCE_UPSTREAM_URL", f"{server.url}/v1")
        monkeypatch.setenv("REMANENCE_UPSTREAM_API", api)
        agent = Agent("support", model="any-name:7b", instructions="Help.", tools=[find_order])
        async with Remanence(f"sqlite:///{tmp_path}/r.db") as rt:
            session = await rt.open(agent, user="ada")
            assert await session.send("Where are 42 and 43?") == "Both are on their way."
            assert await session.send("Sure?") == "Both are on their way."
            ledger = (await session.state()).ledger
    assert (ledger.model_calls, ledger.tool_calls, ledger.usage.total_tokens) == (3, 2, 360)
    assert [request.body["model"] for request in server.requests] == ["any-name:7b"] * 3
    last = str(server.requests[-1].body)
    for call, order in (("call_1_1_1", "42"), ("call_1_1_2", "43")):
        assert last.count(call) == 2, "once in the call, once in its result, though the server gave both one id"
        assert f"order {order} is on its way" in last


PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 31\r\n\r\n<title>Sign in first</title>\r\n\r\n"
ELSEWHERE = b"HTTP/1.1 307 Moved\r\nlocation: https://elsewhere.example/v1\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
async def test_a_session_goes_on_past_what_is_no_reply(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [Answer(raw=PAGE), Answer(text="Here I am."), Answer(raw=ELSEWHERE), Answer(text="And here again.")]
    async with WireServer(answers) as server:
        monkeypatch.setenv("REMANENCE_UPSTREAM_URL", f"{server.url}/v1")
        monkeypatch.setenv("REMANENCE_UPSTREAM_API", api)
        options = Options(times=Times(retry_base_s=0.01))
        async with Remanence(f"sqlite:///{tmp_path}/r.db", options=options) as rt:
            session = await rt.open(Agent("support", model="any-name:7b"), user="ada")
            assert await session.send("Are you there?") == "Here I am."
            with pytest.raises(TurnFailed, match=r"elsewhere\.example/v1\. Everything before this call is kept"):
                await session.send("And now?")
            assert await session.send("Again?") == "And here again."
            failed = [record.event for record in await session.history() if isinstance(record.event, ModelFailed)]
    assert [event.kind for event in failed] == ["server", "invalid_request"]
    assert "Sign in first" in failed[0].message
