"""What the Python API says at once of what cannot be, and what an awaited answer is when there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from remanence import Agent, Remanence, tool
from remanence.app import Options
from remanence.commands.sessions import Opening
from remanence.content import Text, ToolCall
from remanence.errors import InvalidConfig, InvalidInput, ModelError, RemanenceError, TurnFailed
from remanence.events import Recorded, TurnEnded
from remanence.models.configuration import ModelConfig
from remanence.models.prices import Prices
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import ModelReply, ModelRequest

PLAIN = Agent("plain", model="scripted")


def moody(request: ModelRequest) -> ModelReply:
    """Says what it is told, fails on `fail`, and asks a person on `ask`."""
    match last_user_text(request):
        case "fail":
            raise ModelError("The provider is down. Everything is kept.", kind="invalid_request")
        case "ask":
            return ModelReply((Text("Let me see."), ToolCall("x", "look", "{}")))
        case said:
            return ModelReply((Text(f"You said {said}."),))


@tool(approval=True)
def look() -> str:
    """Look."""
    return "seen"


ASKING = Agent("asking", model="scripted", tools=[look])


async def test_a_turn_that_failed_is_no_empty_answer(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=Options(model=Scripted(moody))) as rt:
        session = await rt.open(PLAIN)
        with pytest.raises(TurnFailed) as caught:
            await session.send("fail")
        assert caught.value.message == (
            f"Turn 1 of session {session.id} failed: model: The provider is down. Everything is kept. The session is "
            "kept, and goes on with the next input."
        )
        assert (caught.value.turn, caught.value.ended, caught.value.said) == (1, "failed", "")
        assert caught.value.cause == "model: The provider is down. Everything is kept."
        assert await session.send("hello") == "You said hello."
        # Whoever reads the events sees the end as what it is.
        ends = [item.event async for item in session.send("fail") if isinstance(item, Recorded)]
        assert isinstance(ends[-1], TurnEnded)
        assert ends[-1].status == "failed"


async def test_a_turn_that_was_cancelled_says_what_was_said_until_then(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=Options(model=Scripted(moody))) as rt:
        session = await rt.open(ASKING)
        waiting = asyncio.ensure_future(asyncio.wait_for(session.send("ask"), 60))
        async for item in session.events():
            if isinstance(item, Recorded) and type(item.event).__name__ == "CallJudged":
                break
        await session.cancel(reason="changed my mind")
        with pytest.raises(TurnFailed, match="was cancelled") as caught:
            await waiting
        assert (caught.value.ended, caught.value.said) == ("cancelled", "Let me see.")


async def test_what_is_no_input_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=Options(model=Scripted(moody))) as rt:
        session = await rt.open(PLAIN)
        given: Any
        for given in (5, None, Text("hello"), ("hello",), [Text("hello"), 5], b"hello", {"a": 1}):
            with pytest.raises(
                InvalidInput, match=r"An input is text, or a list of parts \(`remanence.content`\), and"
            ):
                session.send(given)
            with pytest.raises(InvalidInput, match="An input is text"):
                await session.submit(given)
        with pytest.raises(InvalidInput, match="An idempotency key is text, and this is 5"):
            session.send("hello", key=5)  # pyright: ignore[reportArgumentType]
        assert len(await session.history()) == 1
        assert await session.send([Text("hello")]) == "You said hello."


async def test_what_is_no_agent_is_said(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=Options(model=Scripted(moody))) as rt:
        given: Any
        for given in (None, 5, look):
            with pytest.raises(InvalidInput, match=r"is no agent\. Nothing was made; give an `Agent`"):
                await rt.open(given)
        with pytest.raises(InvalidInput, match="The `opening` says another `user` or `title`"):
            await rt.open(PLAIN, user="ada", opening=Opening(user="bob"))


DEAR = ModelConfig("m", base_url="http://a/v1", prices=Prices(1.5, 6))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"url": None}, "A database is named by a URL"),
        ({"url": Path("a.db")}, "A database is named by a URL"),
        ({"agents": PLAIN}, "`agents` is a list of `Agent"),
        ({"agents": "plain"}, "`agents` is a list of `Agent"),
        ({"agents": [PLAIN, "plain"]}, "`agents` is a list of `Agent"),
        ({"models": {"m": "scripted"}}, r"`models\['m'\]` is 'scripted', which is no model"),
        ({"model_configs": {"m": {"base_url": "http://a/v1"}}}, r"`model_configs\['m'\]` is .* `ModelConfig\("),
        ({"model_configs": {"m": ModelConfig("m", base_url="a:8000/v1")}}, "must begin with http"),
        ({"model_configs": {"m": DEAR}}, r"`model_configs\['m'\]` cannot be used: .* `prices.input`"),
    ],
)
def test_what_a_runtime_cannot_be_made_of_is_said_at_once(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfig, match=says) as caught:
        Remanence(**arguments)
    assert isinstance(caught.value, RemanenceError)
